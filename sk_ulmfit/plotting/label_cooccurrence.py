"""How often labels go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.metrics import match_predictions, named_indicator
from sk_ulmfit.plotting._shared import (
    MOST_NUMBERS,
    MOST_ROWS,
    MOST_TICKS,
    Floats,
    _axes,
    _chosen,
    _finish,
    _names,
    _selection,
    _short,
)


class LabelCooccurrenceDisplay:
    """How often labels go together, in truth and in predictions, side by side on one colour scale.

    Parameters
    ----------
    true, predicted : ndarray of float64, shape (L, L)
        Texts with both labels: their number, or their share of the texts with the label of the row. The diagonal is not
        drawn. NaN where no text has the label of the row.
    n_true, n_predicted : ndarray of int64, shape (L,)
        Texts that have each label.
    label_names : sequence of length L
        Label names.
    normalize : bool, default=True
        Whether the matrices hold shares.
    n_labels : int, default=None
        Labels that these were the most frequent of; the title says so.

    Attributes
    ----------
    axes_ : ndarray of Axes, shape (2,)
        The panels of truth and prediction.
    figure_ : Figure
        Where they stand.

    Examples
    --------
    >>> from sk_ulmfit.plotting import LabelCooccurrenceDisplay
    >>> y = [[1, 1], [1, 0], [0, 1], [1, 0]]
    >>> display = LabelCooccurrenceDisplay.from_predictions(y, [[1, 1], [1, 1], [0, 0], [1, 0]])
    >>> display.true.round(2).tolist()
    [[1.0, 0.33], [0.5, 1.0]]
    """

    def __init__(
        self,
        true: Floats,
        predicted: Floats,
        *,
        n_true: NDArray[np.int64],
        n_predicted: NDArray[np.int64],
        label_names: Sequence[Any],
        normalize: bool = True,
        n_labels: int | None = None,
    ):
        self.true = true
        self.predicted = predicted
        self.n_true = n_true
        self.n_predicted = n_predicted
        self.label_names = label_names
        self.normalize = normalize
        self.n_labels = n_labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        label_names: Any = None,
        labels: Any = None,
        normalize: bool = True,
        ax: Any = None,
    ) -> LabelCooccurrenceDisplay:
        """Draw what a fitted classifier decides beside the truth.

        Parameters
        ----------
        estimator : estimator
            Multi-label classifier.
        X : sequence of length n
            What it takes; texts that it was not trained on.
        y : array-like of shape (n, L), DataFrame, or n label lists
            True labels; unknown entries (NaN) are left out.
        label_names : sequence of length L, default=None
            Names of its labels; None takes `label_names_`, if it has them.
        labels : sequence of label names, default=None
            Those to draw; None takes all, or if they are many, the forty that most texts have.
        normalize : bool, default=True
            Draw shares of the texts with the label of the row, not numbers of texts.
        ax : array-like of 2 Axes, default=None
            For truth and prediction; None makes a figure.

        Returns
        -------
        LabelCooccurrenceDisplay
            The display, drawn.
        """
        names = _names(estimator) if label_names is None else label_names
        truth, names = named_indicator(y, names)
        return cls.from_predictions(
            truth, estimator.predict(X), label_names=names, labels=labels, normalize=normalize, ax=ax
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        label_names: Any = None,
        labels: Any = None,
        normalize: bool = True,
        ax: Any = None,
    ) -> LabelCooccurrenceDisplay:
        """Draw decisions beside the truth.

        An entry that is unknown is left out of both matrices: a share is that of the texts with the label of the row in
        which the other label is known.

        Parameters
        ----------
        y_true : array-like of shape (n, L), DataFrame, or n label lists
            True labels, NaN where unknown.
        y_pred : array-like of shape (n, L)
            Decisions, 0 and 1.
        label_names : sequence of length L, default=None
            What the columns of `y_pred` stand for; None takes the columns of a DataFrame, or numbers.
        labels : sequence of label names, default=None
            Those to draw; None takes all, or if they are many, the forty that most texts have.
        normalize : bool, default=True
            Draw shares of the texts with the label of the row, not numbers of texts.
        ax : array-like of 2 Axes, default=None
            For truth and prediction; None makes a figure.

        Returns
        -------
        LabelCooccurrenceDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the shapes do not fit, `y_pred` holds other numbers, or a label is unknown.
        """
        truth, decided, names = match_predictions(y_true, y_pred, label_names, decisions=True)
        chosen = _chosen(labels, names, (truth == 1).sum(axis=0), MOST_ROWS)
        truth, decided = truth[:, chosen], decided[:, chosen]
        known = ~np.isnan(truth)
        has, gets = (truth == 1).astype(np.float64), ((decided > 0) & known).astype(np.float64)
        matrices = []
        for one in (has, gets):
            both = one.T @ one
            n_row = one.T @ known
            matrices.append(both / np.where(n_row > 0, n_row, np.nan) if normalize else both)
        return cls(
            *matrices,
            n_true=has.sum(axis=0).astype(np.int64),
            n_predicted=gets.sum(axis=0).astype(np.int64),
            label_names=[names[label] for label in chosen],
            normalize=normalize,
            n_labels=len(names) if labels is None else None,
        ).plot(ax)

    def plot(self, ax: Any = None) -> LabelCooccurrenceDisplay:
        """Draw; with few labels numbers stand in the cells, on the diagonal those of texts with the label.

        Parameters
        ----------
        ax : array-like of 2 Axes, default=None
            For truth and prediction; None makes a figure.

        Returns
        -------
        LabelCooccurrenceDisplay
            This display.
        """
        n = len(self.label_names)
        side = min(max(0.42 * n, 2.6), 6.0)
        names, step = [_short(name) for name in self.label_names], -(-n // MOST_TICKS)
        size = min(max(220 / n, 5.0), 9.0) if n > MOST_NUMBERS else 9.0
        room = max(map(len, names)) * size * 0.6 / 72  # for names beside and below the panels, in inches
        axes, is_own = _axes(ax, 2, 2, (2 * side + room + 1.6, side + room + 1.0), sharey=True)
        off_diagonal = [np.where(np.eye(n, dtype=bool), np.nan, matrix) for matrix in (self.true, self.predicted)]
        largest = np.nanmax([0.0, *(value for matrix in off_diagonal for value in matrix.ravel())])
        panels = zip(axes, off_diagonal, (self.n_true, self.n_predicted), strict=True)
        for place, (panel, matrix, counts) in enumerate(panels):
            panel.set_facecolor("0.88")
            image = panel.imshow(matrix, cmap="Blues", vmin=0, vmax=largest or 1, aspect="auto")
            panel.set_title(("True labels", "Predicted labels")[place], fontsize="medium")
            panel.set_xticks(range(0, n, step), names[::step], rotation=90, fontsize=size)
            if place == 0 or not is_own:
                panel.set_yticks(range(0, n, step), names[::step], fontsize=size)
            panel.set_xlabel("that also have this one")
            if place == 0 or not is_own:
                panel.set_ylabel("Texts with this label")
            for row, column in np.ndindex(n, n) if n <= MOST_NUMBERS else ():
                value = matrix[row, column]
                if row == column:
                    panel.text(column, row, f"{counts[row]}", ha="center", va="center", fontsize=8, style="italic")
                elif not np.isnan(value):
                    shown = f"{value:.2f}".replace("0.", ".", 1) if self.normalize and value < 1 else f"{value:.0f}"
                    colour = "white" if value > 0.6 * largest else "black"
                    panel.text(column, row, shown, ha="center", va="center", fontsize=8, color=colour)
        bar = axes[0].figure.colorbar(image, ax=list(axes), shrink=0.8, pad=0.02)
        bar.set_label("Share of the texts with the row's label" if self.normalize else "Texts with both labels")
        if n <= MOST_NUMBERS:
            axes[1].set_title("Predicted labels (grey: texts with the label)", fontsize="medium")
        return _finish(self, axes, is_own, _selection(n, self.n_labels), legend=False)
