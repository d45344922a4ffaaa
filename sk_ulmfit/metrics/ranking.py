"""Metrics of the order in which labels are ranked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from sk_ulmfit._validation import check_number
from sk_ulmfit.metrics._checks import Floats, _checked, _nan_mean, _undefined

ROWS_AT_ONCE = 10_000


def precision_at_k(y_true: Any, y_score: Any, *, k: int = 5, sample_weight: Any = None) -> float:
    """Give the share of true labels among the `k` that a text is most likely to have, as a mean over texts.

    Of equal scores the label that comes first ranks first.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        0 and 1; an entry that is unknown (NaN) is not ranked, and a text with fewer than `k` known ones is judged by
        those.
    y_score : array-like of shape (n, L), or list of L arrays of shape (n, 2)
        Probabilities or other scores; a list is what some classifiers of scikit-learn give.
    k : int, default=5
        How many labels of each text are looked at; at most L.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    float
        From 0 to 1. Texts with fewer than `k` true labels cannot reach 1.

    Raises
    ------
    ValueError
        If the shapes do not fit, or there are not so many labels.

    References
    ----------
    C. D. Manning, P. Raghavan, H. Schütze (2008), "Introduction to Information Retrieval", section 8.4.

    Examples
    --------
    >>> from sk_ulmfit.metrics import precision_at_k
    >>> precision_at_k([[1, 0, 1], [0, 1, 0]], [[0.9, 0.8, 0.1], [0.2, 0.9, 0.3]], k=1)
    1.0
    """
    truth, scores, weight = _checked(y_true, y_score, sample_weight)
    _check_k(k, truth.shape[1])
    n_known = (~np.isnan(truth)).sum(axis=1)
    right = np.concatenate([hits[:, :k].sum(axis=1) for hits in _ranked(truth, scores)])
    return _mean_of_texts(right / np.clip(n_known, 1, k), n_known > 0, weight, "an entry that is known")


def r_precision(y_true: Any, y_score: Any, *, sample_weight: Any = None) -> float:
    """Give the precision at R, R being the number of true labels of a text, as a mean over the texts that have any.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        0 and 1, NaN where unknown; such entries are not ranked.
    y_score : array-like of shape (n, L), or list of L arrays of shape (n, 2)
        Probabilities or other scores.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    float
        From 0 to 1; 1 where all true labels rank above all others.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    C. D. Manning, P. Raghavan, H. Schütze (2008), "Introduction to Information Retrieval", section 8.4.

    Examples
    --------
    >>> from sk_ulmfit.metrics import r_precision
    >>> r_precision([[1, 0, 1], [0, 1, 0]], [[0.9, 0.8, 0.1], [0.2, 0.9, 0.3]])
    0.75
    """
    truth, scores, weight = _checked(y_true, y_score, sample_weight)
    n_true = (truth == 1).sum(axis=1)
    right: list[Floats] = []
    for hits in _ranked(truth, scores):
        n_here = n_true[sum(map(len, right)) :][: len(hits)]
        right.append((hits * (np.arange(hits.shape[1]) < n_here[:, None])).sum(axis=1))
    return _mean_of_texts(np.concatenate(right) / np.clip(n_true, 1, None), n_true > 0, weight, "a label")


def ndcg_at_k(y_true: Any, y_score: Any, *, k: int = 5, sample_weight: Any = None) -> float:
    """Give the normalised discounted cumulative gain of the first `k` labels, as a mean over the texts that have any.

    A true label at place i counts 1 / log2(i + 1), divided by what the best order of all labels would reach. Unlike
    scikit-learn's ``ndcg_score``, texts without true labels are left out instead of counting 0, and of equal scores the
    label that comes first ranks first.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        0 and 1, NaN where unknown; such entries are not ranked.
    y_score : array-like of shape (n, L), or list of L arrays of shape (n, 2)
        Probabilities or other scores.
    k : int, default=5
        How many labels of each text are looked at; at most L.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If the shapes do not fit, or there are not so many labels.

    References
    ----------
    K. Järvelin, J. Kekäläinen (2002), "Cumulated gain-based evaluation of IR techniques", section 2.

    Examples
    --------
    >>> from sk_ulmfit.metrics import ndcg_at_k
    >>> round(ndcg_at_k([[1, 0, 1]], [[0.9, 0.8, 0.1]], k=2), 3)
    0.613
    """
    truth, scores, weight = _checked(y_true, y_score, sample_weight)
    _check_k(k, truth.shape[1])
    discount = 1 / np.log2(np.arange(2, k + 2))
    n_true = (truth == 1).sum(axis=1)
    gain = np.concatenate([hits[:, :k] @ discount for hits in _ranked(truth, scores)])
    best = discount.cumsum()[np.clip(n_true, 1, k) - 1]
    return _mean_of_texts(gain / best, n_true > 0, weight, "a label")


def mean_average_precision(y_true: Any, y_score: Any, *, sample_weight: Any = None) -> float:
    """Give the mean of the average precision over labels, of those that some texts have.

    scikit-learn's ``average_precision_score`` refuses unknown entries and counts a label that no text has as 0.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        0 and 1, NaN where unknown; each label is judged by the texts that it is known of.
    y_score : array-like of shape (n, L), or list of L arrays of shape (n, 2)
        Probabilities or other scores.
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
    >>> from sk_ulmfit.metrics import mean_average_precision
    >>> mean_average_precision([[1, 0], [0, 0], [float("nan"), 0]], [[0.9, 0.8], [0.2, 0.9], [1.0, 0.3]])
    1.0
    """
    truth, scores, weight = _checked(y_true, y_score, sample_weight)
    return _nan_mean(_average_precision(truth, scores, weight), "label that some text has")


def _check_k(k: Any, n_labels: int) -> None:
    check_number("k", k, low=1, high=n_labels, integer=True)


def _ranked(truth: NDArray[np.float32], scores: Floats) -> Iterator[Floats]:
    """Give truths in the order of scores, some texts at a time; unknown ones are 0 and come last."""
    for start in range(0, len(truth), ROWS_AT_ONCE):
        part = truth[start : start + ROWS_AT_ONCE]
        known = ~np.isnan(part)
        order = np.argsort(-np.where(known, scores[start : start + ROWS_AT_ONCE], -np.inf), axis=1, kind="stable")
        yield np.take_along_axis(np.where(known, part, 0.0).astype(np.float64), order, axis=1)


def _mean_of_texts(values: Floats, counts: NDArray[np.bool_], weight: Floats, what: str) -> float:
    total = float(weight[counts].sum())
    return float(values[counts] @ weight[counts]) / total if total else _undefined(f"text with {what}")


def _average_precision(truth: NDArray[np.float32], scores: Floats, weight: Floats) -> Floats:
    """Give the average precision of each label, NaN for one that no text has."""
    values = np.full(truth.shape[1], np.nan)
    for label in range(truth.shape[1]):
        rows = ~np.isnan(truth[:, label])
        if (truth[rows, label] * weight[rows]).any():
            values[label] = average_precision_score(
                truth[rows, label].astype(np.int64), scores[rows, label], sample_weight=weight[rows]
            )
    return values
