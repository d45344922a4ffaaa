"""Shared by the displays: colours, Axes, legends, choice of labels, and checks of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._messages import printable, short, short_names
from sk_ulmfit.metrics import align_predictions, align_truth, check_probabilities
from sk_ulmfit.tuner import probabilities

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Panels: TypeAlias = Axes | Sequence[Axes] | NDArray[Any] | None

Floats = NDArray[np.float64]

# The palette of Okabe and Ito, safe for colour-blind readers, without the yellow, which is too pale on white
BLUE, RED, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
COLOURS = (BLUE, RED, GREEN, ORANGE, SKY, PURPLE)

LONGEST_NAME = 22  # characters of a label name


class Display:
    """What all displays have after ``plot``: the Axes, shape (n_panels,), and their figure."""

    axes_: NDArray[np.object_]
    figure_: Figure


# --- Axes and legends ---


def prepare_axes(
    ax: Panels,
    n_axes: int,
    n_columns: int,
    figsize: tuple[float, float],
    *,
    height_ratios: Sequence[float] | None = None,
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[NDArray[np.object_], bool]:
    """Return the Axes to draw in, and whether they are those of a new figure because `ax` is None."""
    if ax is not None:
        axes = np.asarray(ax, object).ravel()
        if len(axes) != n_axes:
            raise ValueError(
                f"ax must hold {n_axes} Axes, one per panel, got {len(axes)}; create them with "
                f"plt.subplots(1, {n_axes})."
            )
        return axes, False
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError(
            "Drawing needs matplotlib, which is not installed: pip install matplotlib, or sk-ulmfit[plot]."
        ) from None
    _, grid = plt.subplots(
        -(-n_axes // n_columns),
        n_columns,
        figsize=figsize,
        squeeze=False,
        layout="constrained",
        height_ratios=height_ratios,
        sharex=sharex,
        sharey=sharey,
    )
    for unused in grid.ravel()[n_axes:]:
        unused.remove()
    return grid.ravel()[:n_axes], True


def store_axes(display: Display, axes: NDArray[np.object_]) -> None:
    """Set `figure_` and `axes_` of a display, and `ax_` if there is only one panel."""
    display.figure_, display.axes_ = axes[0].figure, axes
    if len(axes) == 1:
        display.ax_ = axes[0]  # type: ignore[attr-defined]


def draw_legend(axes: NDArray[np.object_], is_new: bool, n_columns: int = 4) -> None:
    """Draw one legend for all panels: below a new figure, or inside the first of the user's Axes."""
    handles: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if not is_new:
        axes[0].legend(handles.values(), handles.keys(), fontsize="small")
        return
    axes[0].figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(len(handles), n_columns),
        fontsize="small",
        frameon=False,
    )


def draw_selection_title(axes: NDArray[np.object_], is_new: bool, n_shown: int, n_labels: int | None) -> None:
    """Say in the title of a new figure that only the most frequent labels are shown."""
    if is_new and n_labels is not None and n_shown < n_labels:
        axes[0].figure.suptitle(f"The {n_shown} most frequent of {n_labels} labels", fontsize="medium")


def shorten_name(name: Any) -> str:
    """Shorten a label name in the middle, and escape what matplotlib would interpret."""
    text = printable(" ".join(str(name).split())).replace("$", r"\$")  # else a formula
    text = f"\u200b{text}" if text.startswith("_") else text  # else missing in legends
    if len(text) <= LONGEST_NAME:
        return text
    end = LONGEST_NAME // 3  # names often differ only at the end
    return f"{text[: LONGEST_NAME - end - 1]}…{text[-end:]}"


# --- Which labels to draw ---


def choose_labels(labels: Any, names: Sequence[Any], n_texts: NDArray[Any], limit: int) -> list[int]:
    """Return the columns of the labels to draw: `labels`, or by default the most frequent ones."""
    return most_frequent(names, n_texts, limit) if labels is None else find_labels(labels, names)


def most_frequent(names: Sequence[Any], n_texts: NDArray[Any], limit: int) -> list[int]:
    """Return the columns of all labels that occur, or of the most frequent ones if there are more than `limit`."""
    columns = [column for column in range(len(names)) if n_texts[column]]
    if not columns:
        raise ValueError(f"None of the {len(names)} labels is in any text; pass texts that have some.")
    if len(columns) > limit:
        return sorted(columns, key=lambda column: -n_texts[column])[:limit]
    return columns


def find_labels(labels: Any, names: Sequence[Any]) -> list[int]:
    """Return the columns of the labels with these names, in the order asked for."""
    wanted = [labels] if isinstance(labels, (str, int, np.integer)) else list(labels)
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        problem = f"contains the unknown label {short(unknown[0])}" if unknown else "is empty"
        raise ValueError(f"labels {problem}; choose from {short_names(names)}.")
    return [list(names).index(name) for name in wanted]


# --- Truth and predictions ---


def last_step(estimator: Any) -> Any:
    """Return the last step of a Pipeline, or the estimator itself."""
    return estimator[-1] if hasattr(estimator, "steps") else estimator


def true_labels(estimator: Any, y: Any, label_names: Any) -> tuple[NDArray[np.float32], list[Any]]:
    """Return `y` in the column order of the estimator's predictions, shape (n, L), and the label names."""
    own_names = getattr(last_step(estimator), "label_names_", None)
    return align_truth(y, own_names if label_names is None else label_names)


def predict_probabilities(
    estimator: Any, X: Any, y: Any, label_names: Any
) -> tuple[NDArray[np.float32], Floats, list[Any]]:
    """Return truth and predicted probabilities, both of shape (n, L), and the label names."""
    if not hasattr(estimator, "predict_proba"):
        raise ValueError(
            f"estimator must have predict_proba, but {type(estimator).__name__} has none; "
            "sklearn.calibration.CalibratedClassifierCV adds it to classifiers with a decision_function."
        )
    truth, names = true_labels(estimator, y, label_names)
    return truth, probabilities(estimator, X, len(names)), names


def align_probabilities(y_true: Any, y_proba: Any, label_names: Any) -> tuple[NDArray[np.float32], Floats, list[Any]]:
    """Return truth and probabilities, both of shape (n, L), and the label names."""
    truth, proba, names = align_predictions(y_true, y_proba, label_names)
    check_probabilities(proba)
    return truth, proba.astype(np.float64), names
