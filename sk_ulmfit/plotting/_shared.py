"""What the displays share: colours, figures and legends, which labels to draw, checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.labels import first_few
from sk_ulmfit.metrics import match_predictions, named_indicator
from sk_ulmfit.tuner import probabilities

Floats = NDArray[np.float64]

# Okabe and Ito's colours, which those who are colour-blind can tell apart; without the yellow, too pale on white
BLUE, RED, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
COLOURS, MARKERS = (BLUE, RED, GREEN, ORANGE, SKY, PURPLE), "osDv^P*X"

MOST_PANELS = 12
MOST_ROWS = 40  # labels of a matrix, unless others are asked for
MOST_NUMBERS = 12  # labels of a matrix with numbers in its cells
MOST_TICKS = 60
LONGEST_NAME = 22  # characters of a label name that are shown


def _chosen(labels: Any, names: Sequence[Any], n_texts: NDArray[Any], most: int) -> list[int]:
    """Give the columns of the labels to draw: those named, or all that texts have, or the most frequent of these."""
    if labels is None:
        found = [label for label in range(len(names)) if n_texts[label]]
        if not found:
            raise ValueError(f"None of the {len(names)} labels is in any text; draw texts that have some.")
        if len(found) > most:
            found = sorted(found, key=lambda label: -n_texts[label])[:most]
        return found
    wanted = [labels] if isinstance(labels, (str, int, np.integer)) else list(labels)
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        known = first_few(list(map(repr, names)))
        what = f"names the unknown label {unknown[0]!r}" if unknown else "is empty"
        raise ValueError(f"labels {what}. The labels are {known}.")
    return [list(names).index(name) for name in wanted]


def _last_step(estimator: Any) -> Any:
    return estimator[-1] if hasattr(estimator, "steps") else estimator


def _names(estimator: Any) -> Any:
    return getattr(_last_step(estimator), "label_names_", None)


def _predicted(estimator: Any, X: Any, y: Any, label_names: Any) -> tuple[NDArray[np.float32], Floats, list[Any]]:
    if not hasattr(estimator, "predict_proba"):
        raise ValueError(
            f"estimator must have predict_proba, and {type(estimator).__name__} has none; "
            "sklearn.calibration.CalibratedClassifierCV gives one to classifiers with a decision_function."
        )
    truth, names = named_indicator(y, _names(estimator) if label_names is None else label_names)
    return truth, probabilities(estimator, X, len(names)), names


def _checked_probabilities(
    y_true: Any, y_proba: Any, label_names: Any
) -> tuple[NDArray[np.float32], Floats, list[Any]]:
    truth, proba, names = match_predictions(y_true, y_proba, label_names)
    if not np.all((proba >= 0) & (proba <= 1)):
        raise ValueError("y_proba must hold probabilities from 0 to 1; pass what predict_proba gives.")
    return truth, proba.astype(np.float64), names


def _selection(n: int, n_labels: int | None) -> str | None:
    return f"The {n} most frequent of {n_labels} labels" if n_labels is not None and n < n_labels else None


def _short(name: Any) -> str:
    text = " ".join(str(name).split()).replace("$", r"\$")  # no formula
    text = f"\u200b{text}" if text.startswith("_") else text  # which would leave it out of legends
    end = LONGEST_NAME // 3  # names often differ at their ends
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - end - 1]}…{text[-end:]}"


def _axes(
    ax: Any, n: int, n_columns: int, size: tuple[float, float], **options: Any
) -> tuple[NDArray[np.object_], bool]:
    """Give the Axes to draw in, those of the user or new ones, and whether they are new."""
    if ax is not None:
        axes = np.asarray(ax, object).ravel()
        if len(axes) != n:
            raise ValueError(f"ax must hold {n} Axes, one per panel, got {len(axes)}; see plt.subplots(1, {n}).")
        return axes, False
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError(
            "Drawing needs matplotlib, which is not installed: pip install matplotlib, or sk-ulmfit[plot]."
        ) from None
    _, grid = plt.subplots(-(-n // n_columns), n_columns, figsize=size, squeeze=False, layout="constrained", **options)
    for spare in grid.ravel()[n:]:
        spare.remove()
    return grid.ravel()[:n], True


def _finish(
    display: Any,
    axes: NDArray[np.object_],
    is_own: bool,
    title: str | None = None,
    *,
    legend: bool = True,
    n_columns: int = 4,
) -> Any:
    """Keep figure and Axes; put the title above and the legend, that of all panels, below them."""
    display.figure_, display.axes_ = axes[0].figure, axes
    if len(axes) == 1:
        display.ax_ = axes[0]
    handles: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if legend and is_own:
        options = {"ncols": min(len(handles), n_columns), "fontsize": "small", "frameon": False}
        display.figure_.legend(handles.values(), handles.keys(), loc="outside lower center", **options)
    elif legend:
        axes[0].legend(handles.values(), handles.keys(), fontsize="small")
    if title and is_own:
        display.figure_.suptitle(title, fontsize="medium")
    return display
