"""How often labels occur together, in truth and in predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.metrics import align_predictions
from sk_ulmfit.plotting._shared import (
    Display,
    Floats,
    choose_labels,
    draw_selection_title,
    prepare_axes,
    shorten_name,
    store_axes,
    true_labels,
)

if TYPE_CHECKING:
    from sk_ulmfit.plotting._shared import Panels

MOST_ROWS = 40  # unless labels are asked for by name
MOST_NUMBERS = 12  # labels of a matrix with numbers in its cells
MOST_TICKS = 60
LARGEST_FONT, CHARACTER_WIDTH = 9.0, 0.6  # points; as a share of the font size


class LabelCooccurrenceDisplay(Display):
    """How often labels occur together, in truth and in predictions, on one colour scale.

    Parameters
    ----------
    true, predicted : ndarray of float64, shape (L, L)
        Number of texts that have both labels, or their share among the texts with the label of the row; NaN if no text
        has the label of the row. The diagonal is not drawn.
    n_true, n_predicted : ndarray of int64, shape (L,)
        Number of texts that have each label.
    label_names : sequence of length L
        Label names.
    normalize : bool, default=True
        Whether the matrices hold shares.
    n_labels : int, default=None
        Total number of labels, for the title, if `label_names` are the most frequent ones.

    Attributes
    ----------
    axes_, figure_ : ndarray of Axes, shape (2,), and Figure
        The panels of truth and predictions, and their figure.

    Examples
    --------
    >>> from sk_ulmfit.plotting import LabelCooccurrenceDisplay
    >>> y = [[1, 1], [1, 0], [0, 1], [1, 0]]
    >>> predicted = [[1, 1], [1, 1], [0, 0], [1, 0]]
    >>> display = LabelCooccurrenceDisplay.from_predictions(y, predicted)
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
        ax: Panels = None,
    ) -> Self:
        """Draw the true labels and those that a fitted classifier predicts.

        Parameters
        ----------
        estimator : estimator
            Multi-label classifier.
        X : sequence of length n
            Texts, or what the estimator takes; not those it was trained on.
        y : array-like of shape (n, L), DataFrame, or n label lists
            True labels.
        label_names, labels, normalize, ax : optional
            See `from_predictions`; `label_names` defaults to the estimator's `label_names_`.
        """
        truth, names = true_labels(estimator, y, label_names)
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
        ax: Panels = None,
    ) -> Self:
        """Draw true and predicted labels.

        Parameters
        ----------
        y_true : array-like of shape (n, L), DataFrame, or n label lists
            True labels, NaN where unknown; texts in which one of two labels is unknown do not count for their share.
        y_pred : array-like of shape (n, L)
            Predicted labels, 0 and 1.
        label_names : sequence of length L, default=None
            Names of the columns of `y_pred`; None takes the columns of a DataFrame `y_true`, or numbers.
        labels : sequence of label names, default=None
            Labels to draw; None draws the forty most frequent ones.
        normalize : bool, default=True
            Whether to draw shares of the texts with the label of the row instead of numbers of texts.
        ax : array-like of 2 Axes, default=None
            For truth and predictions; None creates a figure.
        """
        truth, decided, names = align_predictions(y_true, y_pred, label_names, decisions=True)
        chosen = choose_labels(labels, names, (truth == 1).sum(axis=0), MOST_ROWS)
        truth, decided = truth[:, chosen], decided[:, chosen]
        known = ~np.isnan(truth)
        has_label = (truth == 1).astype(np.float64)
        gets_label = ((decided > 0) & known).astype(np.float64)
        return cls(
            _cooccurrence(has_label, known, normalize),
            _cooccurrence(gets_label, known, normalize),
            n_true=has_label.sum(axis=0).astype(np.int64),
            n_predicted=gets_label.sum(axis=0).astype(np.int64),
            label_names=[names[label] for label in chosen],
            normalize=normalize,
            n_labels=len(names) if labels is None else None,
        ).plot(ax)

    def plot(self, ax: Panels = None) -> Self:
        """Draw into `ax`, two Axes for truth and predictions, or into a new figure; return the display."""
        n = len(self.label_names)
        names = [shorten_name(name) for name in self.label_names]
        font_size = LARGEST_FONT if n <= MOST_NUMBERS else min(max(220 / n, 5.0), LARGEST_FONT)
        axes, is_new = prepare_axes(ax, 2, 2, _figure_size(names, font_size), sharey=True)
        off_diagonal = [np.where(np.eye(n, dtype=bool), np.nan, matrix) for matrix in (self.true, self.predicted)]
        largest = np.nanmax([0.0, *(value for matrix in off_diagonal for value in matrix.ravel())])
        for panel, matrix, title in zip(axes, off_diagonal, ("True labels", "Predicted labels"), strict=True):
            image = _draw_matrix(panel, matrix, largest)
            panel.set_title(title, fontsize="medium")
            _label_axes(panel, names, font_size, with_rows=panel is axes[0] or not is_new)
        bar = axes[0].figure.colorbar(image, ax=list(axes), shrink=0.8, pad=0.02)
        bar.set_label("Share of the texts with the row's label" if self.normalize else "Texts with both labels")
        if n <= MOST_NUMBERS:
            for panel, matrix, n_texts in zip(axes, off_diagonal, (self.n_true, self.n_predicted), strict=True):
                _write_numbers(panel, matrix, n_texts, largest, self.normalize)
            axes[1].set_title("Predicted labels (grey: texts with the label)", fontsize="medium")
        store_axes(self, axes)
        draw_selection_title(axes, is_new, n, self.n_labels)
        return self


def _cooccurrence(has_label: Floats, known: NDArray[np.bool_], normalize: bool) -> Floats:
    """Count texts with both labels, or compute their share; `has_label` and `known` have the shape (n, L)."""
    both = has_label.T @ has_label
    if not normalize:
        return both
    n_row = has_label.T @ known
    return both / np.where(n_row > 0, n_row, np.nan)


def _figure_size(names: Sequence[str], font_size: float) -> tuple[float, float]:
    """Return width and height in inches, with space for the names beside and below the panels."""
    side = min(max(0.42 * len(names), 2.6), 6.0)
    name_length = max(map(len, names)) * font_size * CHARACTER_WIDTH / 72
    return 2 * side + name_length + 1.6, side + name_length + 1.0


def _draw_matrix(panel: Any, matrix: Floats, largest: float) -> Any:
    panel.set_facecolor("0.88")
    return panel.imshow(matrix, cmap="Blues", vmin=0, vmax=largest or 1, aspect="auto")


def _label_axes(panel: Any, names: Sequence[str], font_size: float, with_rows: bool) -> None:
    """Write label names on the axes, all of them or every second, third, ... one."""
    step = -(-len(names) // MOST_TICKS)
    ticks = range(0, len(names), step)
    panel.set_xticks(ticks, names[::step], rotation=90, fontsize=font_size)
    panel.set_xlabel("that also have this one")
    if with_rows:
        panel.set_yticks(ticks, names[::step], fontsize=font_size)
        panel.set_ylabel("Texts with this label")


def _write_numbers(panel: Any, matrix: Floats, n_texts: NDArray[np.int64], largest: float, normalize: bool) -> None:
    """Write the number of each cell, and on the diagonal the number of texts with the label."""
    for row, column in np.ndindex(matrix.shape):
        value = matrix[row, column]
        if row == column:
            panel.text(column, row, f"{n_texts[row]}", ha="center", va="center", fontsize=8, style="italic")
        elif not np.isnan(value):
            number = f"{value:.2f}".replace("0.", ".", 1) if normalize and value < 1 else f"{value:.0f}"
            colour = "white" if value > 0.6 * largest else "black"
            panel.text(column, row, number, ha="center", va="center", fontsize=8, color=colour)
