"""Precision, recall and F1 against the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import precision_recall_curve

from sk_ulmfit.plotting._shared import (
    BLUE,
    GREEN,
    MOST_PANELS,
    RED,
    Floats,
    _axes,
    _checked_probabilities,
    _chosen,
    _finish,
    _last_step,
    _predicted,
    _selection,
    _short,
)
from sk_ulmfit.thresholds import check_thresholds


class ThresholdCurve(NamedTuple):
    """Precision, recall and F1 of one label at each threshold.

    Attributes
    ----------
    name : str or int
        Label name.
    thresholds : ndarray of float64, shape (n_thresholds,)
        The distinct probabilities, rising: a label is predicted where its probability is at least the threshold.
    precision, recall, f1 : ndarray of float64, shape (n_thresholds,)
        Of the decisions by each threshold.
    n_texts : int
        Texts that have the label.
    in_use : float or None
        The threshold in use, if one is.
    """

    name: Any
    thresholds: Floats
    precision: Floats
    recall: Floats
    f1: Floats
    n_texts: int
    in_use: float | None


class ThresholdCurveDisplay:
    """Precision, recall and F1 against the threshold, one panel for each label.

    Parameters
    ----------
    curves : list of ThresholdCurve
        One for each label that is drawn.
    n_labels : int, default=None
        Labels that these were the most frequent of; the title says so.

    Attributes
    ----------
    axes_ : ndarray of Axes, shape (n_curves,)
        The panels.
    figure_ : Figure
        Where they stand.

    See Also
    --------
    sk_ulmfit.thresholds.tune_thresholds : Chooses thresholds.

    Examples
    --------
    >>> from sk_ulmfit.plotting import ThresholdCurveDisplay
    >>> y, names = [["late"], ["late", "lost"], []], ["late", "lost"]
    >>> proba = [[0.9, 0.2], [0.6, 0.4], [0.3, 0.1]]
    >>> display = ThresholdCurveDisplay.from_predictions(y, proba, label_names=names, thresholds=0.5)
    >>> display.curves[0].f1.round(2).tolist()
    [0.8, 1.0, 0.67]
    """

    def __init__(self, curves: Sequence[ThresholdCurve], *, n_labels: int | None = None):
        self.curves = curves
        self.n_labels = n_labels

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, label_names: Any = None, labels: Any = None, ax: Any = None
    ) -> ThresholdCurveDisplay:
        """Draw the curves of a fitted classifier; its thresholds are marked.

        Parameters
        ----------
        estimator : estimator
            Multi-label classifier with ``predict_proba``. Its thresholds are `thresholds_` or `best_thresholds_`, 0.5
            if it has neither, and none if `top_k` decides.
        X : sequence of length n
            What it takes; texts that it was not trained on.
        y : array-like of shape (n, L), DataFrame, or n label lists
            True labels; unknown entries (NaN) are left out.
        label_names : sequence of length L, default=None
            Names of its labels; None takes `label_names_`, if it has them.
        labels : sequence of label names, default=None
            Those to draw; None takes all, or if they are many, the twelve that most texts have.
        ax : array-like of Axes, default=None
            One for each label drawn; None makes a figure.

        Returns
        -------
        ThresholdCurveDisplay
            The display, drawn.
        """
        truth, proba, names = _predicted(estimator, X, y, label_names)
        last = _last_step(estimator)
        in_use = getattr(last, "thresholds_", getattr(last, "best_thresholds_", 0.5))
        in_use = None if getattr(last, "top_k", None) is not None else in_use
        return cls.from_predictions(truth, proba, label_names=names, labels=labels, thresholds=in_use, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_proba: Any,
        *,
        label_names: Any = None,
        labels: Any = None,
        thresholds: Any = None,
        ax: Any = None,
    ) -> ThresholdCurveDisplay:
        """Draw the curves of probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n, L), DataFrame, or n label lists
            True labels; unknown entries (NaN) are left out.
        y_proba : array-like of shape (n, L), or list of L arrays of shape (n, 2)
            Probabilities.
        label_names : sequence of length L, default=None
            What the columns of `y_proba` stand for; None takes the columns of a DataFrame, or numbers.
        labels : sequence of label names, default=None
            Those to draw; None takes all, or if they are many, the twelve that most texts have.
        thresholds : float, array-like of shape (L,) or dict, default=None
            Thresholds to mark: one for all, one per label, or by label name (labels not named: 0.5). None marks none.
        ax : array-like of Axes, default=None
            One for each label drawn; None makes a figure.

        Returns
        -------
        ThresholdCurveDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the shapes do not fit, a label is unknown, or no text has a label.
        """
        truth, proba, names = _checked_probabilities(y_true, y_proba, label_names)
        in_use = None if thresholds is None else check_thresholds(thresholds, names)
        n_texts = (truth == 1).sum(axis=0)
        curves = []
        for label in _chosen(labels, names, n_texts, MOST_PANELS):
            known = ~np.isnan(truth[:, label])
            if not n_texts[label]:
                raise ValueError(f"No text has the label {names[label]!r}: it has no recall; leave it out of labels.")
            precision, recall, cuts = precision_recall_curve(truth[known, label], proba[known, label])
            precision, recall = precision[:-1], recall[:-1]
            total = precision + recall
            f1 = 2 * precision * recall / np.where(total > 0, total, 1)
            mark = None if in_use is None else float(in_use[label])
            curves.append(ThresholdCurve(names[label], cuts, precision, recall, f1, int(n_texts[label]), mark))
        return cls(curves, n_labels=len(names) if labels is None else None).plot(ax)

    def plot(self, ax: Any = None) -> ThresholdCurveDisplay:
        """Draw.

        Parameters
        ----------
        ax : array-like of Axes, default=None
            One for each curve; None makes a figure.

        Returns
        -------
        ThresholdCurveDisplay
            This display.
        """
        n = len(self.curves)
        n_columns = min(n, 4)
        n_rows = -(-n // n_columns)
        axes, is_own = _axes(ax, n, n_columns, (max(2.6 * n_columns, 4.0), 2.2 * n_rows + 0.8))
        for place, (panel, curve) in enumerate(zip(axes, self.curves, strict=True)):
            x = np.array([0.0, *curve.thresholds, 1.0])  # a value holds from the threshold before to its own
            for name, values, colour, style in (
                ("precision", [*curve.precision, np.nan], BLUE, "--"),  # above all probabilities nothing is predicted
                ("recall", [*curve.recall, 0.0], GREEN, ":"),
                ("F1", [*curve.f1, 0.0], RED, "-"),
            ):
                y = np.array([values[0], *values])
                panel.plot(x, y, drawstyle="steps-pre", color=colour, linestyle=style, label=name)
            if curve.in_use is not None:
                panel.axvline(curve.in_use, color="black", linewidth=1, label="threshold in use")
            texts = "text" if curve.n_texts == 1 else "texts"
            panel.set_title(f"{_short(curve.name)} ({curve.n_texts} {texts})", fontsize="small")
            panel.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
            panel.grid(alpha=0.25)
            if place + n_columns >= n or not is_own:
                panel.set_xlabel("Threshold (probability)", fontsize="small")
            if place % n_columns == 0 or not is_own:
                panel.set_ylabel("Precision, recall, F1", fontsize="small")
        return _finish(self, axes, is_own, _selection(n, self.n_labels))
