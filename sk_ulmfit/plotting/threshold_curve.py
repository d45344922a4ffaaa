"""Precision, recall and F1 by threshold, one panel for each label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from sk_ulmfit._messages import short
from sk_ulmfit.plotting._shared import (
    BLUE,
    GREEN,
    RED,
    Display,
    Floats,
    align_probabilities,
    choose_labels,
    draw_legend,
    draw_selection_title,
    last_step,
    predict_probabilities,
    prepare_axes,
    shorten_name,
    store_axes,
)
from sk_ulmfit.thresholds import check_thresholds

if TYPE_CHECKING:
    from sk_ulmfit.plotting._shared import Panels

MOST_PANELS = 12  # unless labels are asked for by name
MOST_COLUMNS = 4


class ThresholdCurve(NamedTuple):
    """Precision, recall and F1 of one label at each threshold; arrays of shape (n_thresholds,)."""

    name: Any
    thresholds: Floats  # the distinct probabilities, ascending; from its threshold on a label is predicted
    precision: Floats
    recall: Floats
    f1: Floats
    n_texts: int  # that have the label
    threshold_in_use: float | None  # to mark


class ThresholdCurveDisplay(Display):
    """Precision, recall and F1 by threshold, one panel for each label.

    Parameters
    ----------
    curves : list of ThresholdCurve
        One for each label to draw.
    n_labels : int, default=None
        Total number of labels, for the title, if `curves` are those of the most frequent ones.

    Attributes
    ----------
    axes_, figure_ : ndarray of Axes, shape (n_curves,), and Figure
        The panels and their figure.

    Examples
    --------
    >>> from sk_ulmfit.plotting import ThresholdCurveDisplay
    >>> y, names = [["late"], ["late", "lost"], []], ["late", "lost"]
    >>> proba = [[0.9, 0.2], [0.6, 0.4], [0.3, 0.1]]
    >>> display = ThresholdCurveDisplay.from_predictions(
    ...     y, proba, label_names=names, thresholds=0.5
    ... )
    >>> display.curves[0].f1.round(2).tolist()
    [0.8, 1.0, 0.67]
    """

    def __init__(self, curves: Sequence[ThresholdCurve], *, n_labels: int | None = None):
        self.curves = curves
        self.n_labels = n_labels

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, label_names: Any = None, labels: Any = None, ax: Panels = None
    ) -> Self:
        """Draw the curves of a fitted classifier and mark its thresholds.

        Parameters
        ----------
        estimator : estimator
            Multi-label classifier with ``predict_proba``. Its thresholds are `thresholds_` or `best_thresholds_`, 0.5
            if it has neither, and none if it has `top_k`.
        X : sequence of length n
            Texts, or what the estimator takes; not those it was trained on.
        y : array-like of shape (n, L), DataFrame, or n label lists
            True labels.
        label_names, labels, ax : optional
            See `from_predictions`; `label_names` defaults to the estimator's `label_names_`.
        """
        truth, proba, names = predict_probabilities(estimator, X, y, label_names)
        return cls.from_predictions(
            truth, proba, label_names=names, labels=labels, thresholds=_thresholds_in_use(estimator), ax=ax
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_proba: Any,
        *,
        label_names: Any = None,
        labels: Any = None,
        thresholds: Any = None,
        ax: Panels = None,
    ) -> Self:
        """Draw the curves of predicted probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n, L), DataFrame, or n label lists
            True labels; unknown entries (NaN) are ignored.
        y_proba : array-like of shape (n, L), or list of L arrays of shape (n, 2)
            Predicted probabilities.
        label_names : sequence of length L, default=None
            Names of the columns of `y_proba`; None takes the columns of a DataFrame `y_true`, or numbers.
        labels : sequence of label names, default=None
            Labels to draw; None draws the twelve most frequent ones.
        thresholds : float, array-like of shape (L,) or dict, default=None
            Thresholds to mark: one for all labels, one per label, or by label name (0.5 for labels left out).
        ax : array-like of Axes, default=None
            One for each label; None creates a figure.
        """
        truth, proba, names = align_probabilities(y_true, y_proba, label_names)
        in_use = None if thresholds is None else check_thresholds(thresholds, names)
        curves = []
        for label in choose_labels(labels, names, (truth == 1).sum(axis=0), MOST_PANELS):
            mark = None if in_use is None else float(in_use[label])
            curves.append(_threshold_curve(names[label], truth[:, label], proba[:, label], mark))
        return cls(curves, n_labels=len(names) if labels is None else None).plot(ax)

    def plot(self, ax: Panels = None) -> Self:
        """Draw into `ax`, one Axes for each label, or into a new figure; return the display."""
        n = len(self.curves)
        n_columns = min(n, MOST_COLUMNS)
        n_rows = -(-n // n_columns)
        axes, is_new = prepare_axes(ax, n, n_columns, (max(2.6 * n_columns, 4.0), 2.2 * n_rows + 0.8))
        for place, (panel, curve) in enumerate(zip(axes, self.curves, strict=True)):
            _draw_curve(panel, curve)
            if place + n_columns >= n or not is_new:
                panel.set_xlabel("Threshold (probability)", fontsize="small")
            if place % n_columns == 0 or not is_new:
                panel.set_ylabel("Precision, recall, F1", fontsize="small")
        store_axes(self, axes)
        draw_legend(axes, is_new)
        draw_selection_title(axes, is_new, n, self.n_labels)
        return self


def _thresholds_in_use(estimator: Any) -> Any:
    classifier = last_step(estimator)
    if getattr(classifier, "top_k", None) is not None:
        return None
    return getattr(classifier, "thresholds_", getattr(classifier, "best_thresholds_", 0.5))


def _threshold_curve(name: Any, true: NDArray[np.float32], proba: Floats, in_use: float | None) -> ThresholdCurve:
    """Compute the curve of one label from truth (NaN where unknown) and probabilities, both of shape (n,)."""
    n_texts = int((true == 1).sum())
    if not n_texts:
        raise ValueError(f"No text has the label {short(name)}, so its recall is undefined; leave it out of labels.")
    known = ~np.isnan(true)
    precision, recall, thresholds = precision_recall_curve(true[known], proba[known])
    precision, recall = precision[:-1], recall[:-1]
    total = precision + recall
    f1 = 2 * precision * recall / np.where(total > 0, total, 1)
    return ThresholdCurve(name, thresholds, precision, recall, f1, n_texts, in_use)


def _draw_curve(panel: Any, curve: ThresholdCurve) -> None:
    x = np.array([0.0, *curve.thresholds, 1.0])  # a score holds from the threshold before up to its own
    for name, values, colour, style in (
        ("precision", [*curve.precision, np.nan], BLUE, "--"),  # undefined above the largest probability
        ("recall", [*curve.recall, 0.0], GREEN, ":"),
        ("F1", [*curve.f1, 0.0], RED, "-"),
    ):
        y = np.array([values[0], *values])
        panel.plot(x, y, drawstyle="steps-pre", color=colour, linestyle=style, label=name)
    if curve.threshold_in_use is not None:
        panel.axvline(curve.threshold_in_use, color="black", linewidth=1, label="threshold in use")
    texts = "text" if curve.n_texts == 1 else "texts"
    panel.set_title(f"{shorten_name(curve.name)} ({curve.n_texts} {texts})", fontsize="small")
    panel.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    panel.grid(alpha=0.25)
