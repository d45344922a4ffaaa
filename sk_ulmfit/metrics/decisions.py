"""Metrics of decisions, 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._validation import check_choice, check_weights
from sk_ulmfit.labels import indicator_of, label_lists
from sk_ulmfit.metrics._checks import Floats, _checked, _undefined

AVERAGES = ("micro", "macro", "samples")


def f1_score(y_true: Any, y_pred: Any, *, average: str = "macro", sample_weight: Any = None) -> float:
    """Give the F1 of decisions, as scikit-learn's ``f1_score`` does, but with unknown entries left out.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        0 and 1, NaN where unknown.
    y_pred : array-like of shape (n, L)
        Decisions, 0 and 1.
    average : {"micro", "macro", "samples"}, default="macro"
        Over all entries at once, a mean over labels, or one over texts. A label or text without true and predicted
        entries counts 0, one of which nothing is known is left out.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If the shapes do not fit, or `average` is not known.

    Examples
    --------
    >>> from sk_ulmfit.metrics import f1_score
    >>> f1_score([[1, 0], [float("nan"), 1]], [[1, 0], [1, 1]], average="micro")
    1.0
    """
    check_choice("average", average, AVERAGES)
    averages = _averages(*_checked(y_true, y_pred, sample_weight, decisions=True))
    return float(averages[average][2]) if averages else _undefined("entry that is known")


def hamming_loss(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Give the share of entries decided wrongly, as scikit-learn's ``hamming_loss`` does, unknown ones left out.

    One minus it is what fastai calls ``accuracy_thresh`` and ``accuracy_multi``.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        0 and 1, NaN where unknown.
    y_pred : array-like of shape (n, L)
        Decisions, 0 and 1.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    float
        From 0 to 1; smaller is better.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> from sk_ulmfit.metrics import hamming_loss
    >>> hamming_loss([[1, 0], [0, 1]], [[1, 1], [0, 1]])
    0.25
    """
    truth, decided, weight = _checked(y_true, y_pred, sample_weight, decisions=True)
    known = ~np.isnan(truth)
    wrong = ((truth == 1) != (decided > 0)) & known
    total = float(weight @ known.sum(axis=1))
    return float(weight @ wrong.sum(axis=1)) / total if total else _undefined("entry that is known")


def exact_match(y_true: Any, y_pred: Any, label_names: Sequence[Any], sample_weight: Any = None) -> float:
    """Give the share of texts with all labels right (subset accuracy, exact match ratio).

    Parameters
    ----------
    y_true : array-like of shape (n, L), DataFrame, or n label lists
        True labels; one that is not among the names makes its text wrong. An entry that is unknown (NaN) is right
        either way. Columns of a DataFrame that have these names may stand in any order.
    y_pred : array-like of shape (n, L)
        Decisions, 0 and 1.
    label_names : sequence of length L
        What the columns of `y_pred` stand for.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> from sk_ulmfit.metrics import exact_match
    >>> exact_match([["late"], ["late", "lost"]], [[1, 0], [1, 0]], ["late", "lost"])
    0.5
    """
    decided, rows = np.asarray(y_pred) > 0, label_lists(y_true)
    if rows is not None:
        if len(rows) != len(decided):
            raise ValueError(f"y_true has {len(rows)} rows, the predictions have {len(decided)}; give as many.")
        names = np.empty(len(label_names), object)
        names[:] = list(label_names)
        right = np.array([set(labels) == set(names[row]) for labels, row in zip(rows, decided, strict=True)])
    else:
        if hasattr(y_true, "columns") and set(y_true.columns) == set(label_names):
            y_true = indicator_of(y_true, label_names)[0]
        truth = _checked(y_true, decided, None)[0]
        right = (np.isnan(truth) | ((truth == 1) == decided)).all(axis=1)
    weight = check_weights(sample_weight, len(right))
    return float(np.average(right, weights=weight))


def _counts(truth: NDArray[np.float32], decided: NDArray[Any], weight: Floats, axis: int) -> tuple[Floats, ...]:
    """Weigh what is right, what is predicted and what is true, of each label (axis 0) or text (axis 1).

    Labels and texts of which nothing is known are left out.
    """
    known = ~np.isnan(truth)
    has, yes = truth == 1, (decided > 0) & known
    some = known.any(axis=axis)
    if axis == 0:
        return tuple((weight @ part)[some] for part in (has & yes, yes, has))
    return (*(part.sum(axis=1)[some] for part in (has & yes, yes, has)), weight[some])


def _precision_recall_f1(right: Any, predicted: Any, n_with: Any) -> Floats:
    def share(part: Any, whole: Any) -> Any:
        return part / np.where(whole > 0, whole, 1)

    return np.asarray([share(right, predicted), share(right, n_with), share(2 * right, predicted + n_with)])


def _averages(truth: NDArray[np.float32], decided: NDArray[Any], weight: Floats) -> dict[str, Floats]:
    """Give precision, recall and F1 of each kind of average; empty if nothing is known."""
    *counts, of_text = _counts(truth, decided, weight, axis=1)
    if not len(of_text):
        return {}
    labels = _counts(truth, decided, weight, axis=0)
    each, n_with = _precision_recall_f1(*labels), labels[2]
    return {
        "micro": _precision_recall_f1(*(count.sum() for count in labels)),
        "macro": each.mean(axis=1),
        "weighted": each @ (n_with / n_with.sum() if n_with.any() else np.full(len(n_with), 1 / len(n_with))),
        "samples": _precision_recall_f1(*counts) @ of_text / of_text.sum(),
    }
