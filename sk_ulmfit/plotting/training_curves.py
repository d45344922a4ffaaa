"""Losses of each epoch, one panel for each stage of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sk_ulmfit.plotting._shared import BLUE, RED, _axes, _finish


class TrainingCurvesDisplay:
    """Losses of each epoch, one panel for each stage of training.

    Parameters
    ----------
    histories : dict of str to list of dict
        For each stage the rows of its history, as `history_` holds them: "train_loss", and where there are,
        "valid_loss" and "trained_groups".

    Attributes
    ----------
    axes_ : ndarray of Axes, shape (n_stages,)
        The panels.
    figure_ : Figure
        Where they stand.

    See Also
    --------
    LearningRateDisplay : Losses by learning rate, before training.

    References
    ----------
    J. Howard, S. Ruder (2018), "Universal Language Model Fine-tuning for Text Classification", section 3.3, on gradual
    unfreezing.

    Examples
    --------
    >>> from sk_ulmfit.plotting import TrainingCurvesDisplay
    >>> rows = [{"train_loss": 0.6, "trained_groups": "head"}, {"train_loss": 0.4, "trained_groups": "head, layer 3"}]
    >>> display = TrainingCurvesDisplay({"classifier": rows}).plot()
    >>> display.axes_[0].get_xlabel()
    'Epoch'
    """

    def __init__(self, histories: Mapping[str, Sequence[Mapping[str, Any]]]):
        self.histories = histories

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> TrainingCurvesDisplay:
        """Draw the losses of a fitted estimator.

        Parameters
        ----------
        estimator : ULMFiTMultiLabelClassifier or ULMFiTLanguageModel
            Fitted. A loaded classifier has the history of its own training, not that of its language model.
        ax : array-like of Axes, or Axes, default=None
            One for each stage that has epochs; None makes a figure.

        Returns
        -------
        TrainingCurvesDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the estimator has no history, or there are not as many Axes as stages.
        """
        if not hasattr(estimator, "fit") or hasattr(estimator, "steps") or hasattr(estimator, "estimator"):
            raise ValueError(
                f"estimator must be a ULMFiTMultiLabelClassifier or ULMFiTLanguageModel, got a "
                f"{type(estimator).__name__}; pass the one inside, such as pipeline[-1] or search.best_estimator_."
            )
        check_is_fitted(estimator)
        own = "language model" if hasattr(estimator, "perplexity") else "classifier"
        histories = {
            "language model": getattr(getattr(estimator, "language_model_", None), "history_", []),
            own: getattr(estimator, "history_", []),
            "backward language model": getattr(getattr(estimator, "backward_language_model_", None), "history_", []),
            "backward classifier": getattr(estimator, "backward_history_", []),
        }
        histories = {stage: rows for stage, rows in histories.items() if rows}
        if not histories:
            raise ValueError(f"This {type(estimator).__name__} has no epochs to draw; fit it with max_epochs above 0.")
        return cls(histories).plot(ax)

    def plot(self, ax: Any = None) -> TrainingCurvesDisplay:
        """Draw.

        Vertical lines mark the epochs from which on a further layer group is trained, with its name above; for these a
        figure of your own needs ``layout="constrained"``.

        Parameters
        ----------
        ax : array-like of Axes, or Axes, default=None
            One for each stage; None makes a figure.

        Returns
        -------
        TrainingCurvesDisplay
            This display.
        """
        n = len(self.histories)
        axes, is_own = _axes(ax, n, n, (5.0 * n, 4.2))
        for panel, (stage, rows) in zip(axes, self.histories.items(), strict=True):
            _draw_losses(panel, stage, rows)
        return _finish(self, axes, is_own, n_columns=2 * n)


def _draw_losses(panel: Any, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = np.arange(1, len(rows) + 1)
    marker = "o" if len(rows) <= 30 else None
    unfrozen = _unfreezings(rows)
    room = 320 / len(rows)  # points from one epoch to the next
    fits = all(5 * len(", ".join(names)) < room for _, names in unfrozen[:-1])
    rise = 0 if fits else 11  # else names stand in steps, so that they do not meet however near the epochs are
    pointer = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0)}
    for place, (epoch, names) in enumerate(unfrozen):
        panel.axvline(epoch, color="0.6", linewidth=0.8, linestyle="--")
        panel.annotate(
            " " + ", ".join(names),
            xy=(epoch, 1),
            xycoords=panel.get_xaxis_transform(),
            xytext=(0, 4 + rise * (len(unfrozen) - 1 - place)),
            textcoords="offset points",
            arrowprops=pointer,
            fontsize=8,
            color="0.3",
            annotation_clip=False,
        )
    training = [row.get("train_loss", np.nan) for row in rows]
    panel.plot(epochs, training, color=BLUE, marker=marker, markersize=4, label="training, with dropout")
    if any("valid_loss" in row for row in rows):
        held_out = np.array([row.get("valid_loss", np.nan) for row in rows], np.float64)
        panel.plot(epochs, held_out, color=RED, linestyle="--", marker=marker, markersize=4, label="held-out texts")
        best = int(np.nanargmin(held_out))
        ring = {"marker": "o", "markersize": 11, "fillstyle": "none", "linestyle": "none", "clip_on": False}
        panel.plot(epochs[best], held_out[best], color=RED, label="best on held-out texts", **ring)
    height = 11 + rise * (len(unfrozen) - 1) if unfrozen else 0
    panel.set_title(stage.capitalize(), fontsize="medium", pad=6 + height)
    unit = "token" if stage.endswith("language model") else "label"
    panel.set(xlabel="Epoch", ylabel=f"Loss (nats per {unit})")
    panel.set_xlim(0.5, len(rows) + 0.5)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.grid(alpha=0.25, axis="y")


def _unfreezings(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, list[str]]]:
    """Give the epochs from which on more groups are trained, and which."""
    found, before = [], set[str]()
    for epoch, row in enumerate(rows, start=1):
        trained = str(row["trained_groups"]).split(", ") if "trained_groups" in row else []
        new = [name for name in trained if name not in before]
        if new:
            found.append((epoch, new))
            before |= set(new)
    return found
