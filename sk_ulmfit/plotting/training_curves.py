"""Losses by epoch, one panel for each stage of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sk_ulmfit.plotting._shared import BLUE, RED, Display, draw_legend, prepare_axes, store_axes

if TYPE_CHECKING:
    from sk_ulmfit.plotting._shared import Panels

MOST_MARKERS = 30  # epochs; with more of them the curves have no markers
CHARACTER_WIDTH, LINE_HEIGHT, PANEL_WIDTH = 5, 11, 320  # in points

History = Sequence[Mapping[str, Any]]


class TrainingCurvesDisplay(Display):
    """Training and validation loss by epoch, one panel for each stage of training.

    Parameters
    ----------
    histories : dict of str to list of dict
        The rows of `history_` for each stage: "train_loss", and optionally "valid_loss" and "trained_groups".

    Attributes
    ----------
    axes_, figure_ : ndarray of Axes, shape (n_stages,), and Figure
        The panels and their figure.

    References
    ----------
    Howard, J., Ruder, S. (2018), "Universal Language Model Fine-tuning for Text Classification", section 3.3.

    Examples
    --------
    >>> from sk_ulmfit.plotting import TrainingCurvesDisplay
    >>> first = {"train_loss": 0.6, "trained_groups": "head"}
    >>> rows = [first, {"train_loss": 0.4, "trained_groups": "head, layer 3"}]
    >>> display = TrainingCurvesDisplay({"classifier": rows}).plot()
    >>> display.axes_[0].get_xlabel()
    'Epoch'
    """

    def __init__(self, histories: Mapping[str, History]):
        self.histories = histories

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Panels = None) -> Self:
        """Draw the training curves of a fitted estimator.

        Parameters
        ----------
        estimator : ULMFiTMultiLabelClassifier or ULMFiTLanguageModel
            Fitted estimator. A loaded classifier has no history of its language model.
        ax : Axes or array-like of Axes, default=None
            One for each stage that has epochs; None creates a figure.
        """
        if not hasattr(estimator, "fit") or hasattr(estimator, "steps") or hasattr(estimator, "estimator"):
            raise ValueError(
                f"estimator must be a ULMFiTMultiLabelClassifier or ULMFiTLanguageModel, got a "
                f"{type(estimator).__name__}; pass the one inside, such as pipeline[-1] or search.best_estimator_."
            )
        check_is_fitted(estimator)
        histories = _histories(estimator)
        if not histories:
            raise ValueError(f"This {type(estimator).__name__} has no epochs to draw; fit it with max_epochs above 0.")
        return cls(histories).plot(ax)

    def plot(self, ax: Panels = None) -> Self:
        """Draw into `ax`, one Axes for each stage, or into a new figure; return the display.

        Vertical lines mark the epochs at which further layer groups are unfrozen. Their names stand above the panel;
        create your own figure with ``layout="constrained"`` to leave space for them.
        """
        n_stages = len(self.histories)
        axes, is_new = prepare_axes(ax, n_stages, n_stages, (5.0 * n_stages, 4.2))
        for panel, (stage, rows) in zip(axes, self.histories.items(), strict=True):
            _draw_stage(panel, stage, rows)
        store_axes(self, axes)
        draw_legend(axes, is_new, n_columns=2 * n_stages)
        return self


def _histories(estimator: Any) -> dict[str, History]:
    """Return the history of each stage that has epochs."""
    stage = "language model" if hasattr(estimator, "perplexity") else "classifier"
    histories = {
        "language model": getattr(getattr(estimator, "language_model_", None), "history_", []),
        stage: getattr(estimator, "history_", []),
        "backward language model": getattr(getattr(estimator, "backward_language_model_", None), "history_", []),
        "backward classifier": getattr(estimator, "backward_history_", []),
    }
    return {stage: rows for stage, rows in histories.items() if rows}


def _draw_stage(panel: Any, stage: str, rows: History) -> None:
    from matplotlib.ticker import MaxNLocator

    height = _mark_unfreezing(panel, rows)
    _draw_losses(panel, rows)
    panel.set_title(stage.capitalize(), fontsize="medium", pad=6 + height)
    unit = "token" if stage.endswith("language model") else "label"
    panel.set(xlabel="Epoch", ylabel=f"Loss (nats per {unit})")
    panel.set_xlim(0.5, len(rows) + 0.5)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.grid(alpha=0.25, axis="y")


def _mark_unfreezing(panel: Any, rows: History) -> int:
    """Mark where layer groups are unfrozen; return the height of their names above the panel, in points."""
    unfrozen = _unfrozen_groups(rows)
    if not unfrozen:
        return 0
    epoch_width = PANEL_WIDTH / len(rows)
    fits = all(CHARACTER_WIDTH * len(", ".join(names)) < epoch_width for _, names in unfrozen[:-1])
    step = 0 if fits else LINE_HEIGHT  # long names descend in steps, so that they do not overlap
    for place, (epoch, names) in enumerate(unfrozen):
        panel.axvline(epoch, color="0.6", linewidth=0.8, linestyle="--")
        panel.annotate(
            " " + ", ".join(names),
            xy=(epoch, 1),
            xycoords=panel.get_xaxis_transform(),
            xytext=(0, 4 + step * (len(unfrozen) - 1 - place)),
            textcoords="offset points",
            arrowprops={
                "arrowstyle": "-",
                "color": "0.6",
                "linewidth": 0.8,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0, 0),
            },
            fontsize=8,
            color="0.3",
            annotation_clip=False,
        )
    return LINE_HEIGHT + step * (len(unfrozen) - 1)


def _unfrozen_groups(rows: History) -> list[tuple[int, list[str]]]:
    """Return the epochs at which further layer groups are trained, with the names of these groups."""
    unfrozen, trained_before = [], set[str]()
    for epoch, row in enumerate(rows, start=1):
        trained = str(row["trained_groups"]).split(", ") if "trained_groups" in row else []
        new = [name for name in trained if name not in trained_before]
        if new:
            unfrozen.append((epoch, new))
            trained_before |= set(new)
    return unfrozen


def _draw_losses(panel: Any, rows: History) -> None:
    epochs = np.arange(1, len(rows) + 1)
    marker = "o" if len(rows) <= MOST_MARKERS else None
    training = [row.get("train_loss", np.nan) for row in rows]
    panel.plot(epochs, training, color=BLUE, marker=marker, markersize=4, label="training, with dropout")
    if not any("valid_loss" in row for row in rows):
        return
    held_out = np.array([row.get("valid_loss", np.nan) for row in rows], np.float64)
    panel.plot(epochs, held_out, color=RED, linestyle="--", marker=marker, markersize=4, label="held-out texts")
    best = int(np.nanargmin(held_out))
    panel.plot(
        epochs[best],
        held_out[best],
        color=RED,
        marker="o",
        markersize=11,
        fillstyle="none",
        linestyle="none",
        clip_on=False,
        label="best on held-out texts",
    )
