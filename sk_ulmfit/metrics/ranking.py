"""Metrics of rankings, which compare true labels with the labels of the highest scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from sk_ulmfit._choices import Numbers
from sk_ulmfit._validation import check_number
from sk_ulmfit.metrics._checks import Floats, check_predictions, mean_of_known, warn_undefined

ROWS_AT_ONCE = 10_000


def precision_at_k(y_true: Any, y_score: Any, *, k: int = 5, sample_weight: Numbers | None = None) -> float:
    """Compute the share of true labels among the `k` top-ranked ones, averaged over texts.

    Texts with fewer than `k` true labels cannot reach 1. Of equal scores the first label ranks first.

    Parameters
    ----------
    y_true, y_score : array-like of shape (n, L)
        See `sk_ulmfit.metrics`. If fewer than `k` entries of a text are known, these alone are looked at.
    k : int, default=5
        Number of labels to look at, at most L.
    sample_weight : array-like of shape (n,), default=None
        Weight of each text.

    References
    ----------
    Manning, C. D., Raghavan, P., Schütze, H. (2008), "Introduction to Information Retrieval", section 8.4.

    Examples
    --------
    >>> from sk_ulmfit.metrics import precision_at_k
    >>> precision_at_k([[1, 0, 1], [0, 1, 0]], [[0.9, 0.8, 0.1], [0.2, 0.9, 0.3]], k=1)
    1.0
    """
    truth, scores, weight = check_predictions(y_true, y_score, sample_weight)
    check_number("k", k, low=1, high=truth.shape[1], integer=True)
    n_known = (~np.isnan(truth)).sum(axis=1)
    n_hits = np.empty(len(truth))
    for rows, ranked in _ranked_truth(truth, scores):
        n_hits[rows] = ranked[:, :k].sum(axis=1)
    return _mean_of_texts(n_hits / np.clip(n_known, 1, k), n_known > 0, weight, "an entry that is known")


def r_precision(y_true: Any, y_score: Any, *, sample_weight: Numbers | None = None) -> float:
    """Compute the share of true labels among the R top-ranked ones, averaged over texts that have labels.

    R is the number of true labels of a text. The result is 1 if all true labels rank above all others. The source is
    that of `precision_at_k`.

    Parameters
    ----------
    y_true, y_score, sample_weight : array-like of shape (n, L), (n, L) and (n,)
        See `sk_ulmfit.metrics`.

    Examples
    --------
    >>> from sk_ulmfit.metrics import r_precision
    >>> r_precision([[1, 0, 1], [0, 1, 0]], [[0.9, 0.8, 0.1], [0.2, 0.9, 0.3]])
    0.75
    """
    truth, scores, weight = check_predictions(y_true, y_score, sample_weight)
    n_true = (truth == 1).sum(axis=1)
    n_hits = np.empty(len(truth))
    for rows, ranked in _ranked_truth(truth, scores):
        is_top = np.arange(ranked.shape[1]) < n_true[rows, None]
        n_hits[rows] = (ranked * is_top).sum(axis=1)
    return _mean_of_texts(n_hits / np.clip(n_true, 1, None), n_true > 0, weight, "a label")


def ndcg_at_k(y_true: Any, y_score: Any, *, k: int = 5, sample_weight: Numbers | None = None) -> float:
    """Compute the normalised discounted cumulative gain of the `k` top-ranked labels, averaged over texts with labels.

    A true label at rank i gains 1 / log2(i + 1); the sum is divided by that of the best ranking. Unlike scikit-learn's
    ``ndcg_score``, texts without true labels are ignored, and of equal scores the first label ranks first.

    Parameters
    ----------
    y_true, y_score : array-like of shape (n, L)
        See `sk_ulmfit.metrics`.
    k : int, default=5
        Number of labels to look at, at most L.
    sample_weight : array-like of shape (n,), default=None
        Weight of each text.

    References
    ----------
    Järvelin, K., Kekäläinen, J. (2002), "Cumulated gain-based evaluation of IR techniques", section 2.

    Examples
    --------
    >>> from sk_ulmfit.metrics import ndcg_at_k
    >>> round(ndcg_at_k([[1, 0, 1]], [[0.9, 0.8, 0.1]], k=2), 3)
    0.613
    """
    truth, scores, weight = check_predictions(y_true, y_score, sample_weight)
    check_number("k", k, low=1, high=truth.shape[1], integer=True)
    discount = 1 / np.log2(np.arange(2, k + 2))
    n_true = (truth == 1).sum(axis=1)
    gain = np.empty(len(truth))
    for rows, ranked in _ranked_truth(truth, scores):
        gain[rows] = ranked[:, :k] @ discount
    best = discount.cumsum()[np.clip(n_true, 1, k) - 1]
    return _mean_of_texts(gain / best, n_true > 0, weight, "a label")


def mean_average_precision(y_true: Any, y_score: Any, *, sample_weight: Numbers | None = None) -> float:
    """Compute the average precision of each label, averaged over labels that occur.

    Unlike scikit-learn's ``average_precision_score``, labels without texts are ignored instead of counting as 0.

    Parameters
    ----------
    y_true, y_score, sample_weight : array-like of shape (n, L), (n, L) and (n,)
        See `sk_ulmfit.metrics`.

    Examples
    --------
    >>> from sk_ulmfit.metrics import mean_average_precision
    >>> y = [[1, 0], [0, 0], [float("nan"), 0]]
    >>> mean_average_precision(y, [[0.9, 0.8], [0.2, 0.9], [1.0, 0.3]])
    1.0
    """
    truth, scores, weight = check_predictions(y_true, y_score, sample_weight)
    return mean_of_known(average_precisions(truth, scores, weight), "label that some text has")


def average_precisions(truth: NDArray[np.float32], scores: Floats, weight: Floats) -> Floats:
    """Return the average precision of each label, shape (L,), NaN for labels that no text has."""
    values = np.full(truth.shape[1], np.nan)
    for label in range(truth.shape[1]):
        known = ~np.isnan(truth[:, label])
        if (truth[known, label] * weight[known]).any():
            values[label] = average_precision_score(
                truth[known, label].astype(np.int64), scores[known, label], sample_weight=weight[known]
            )
    return values


def _ranked_truth(truth: NDArray[np.float32], scores: Floats) -> Iterator[tuple[slice, Floats]]:
    """Yield some rows at a time, and their truth by descending score; unknown entries are 0 and come last."""
    for start in range(0, len(truth), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        known = ~np.isnan(truth[rows])
        order = np.argsort(-np.where(known, scores[rows], -np.inf), axis=1, kind="stable")
        yield rows, np.take_along_axis(np.where(known, truth[rows], 0.0).astype(np.float64), order, axis=1)


def _mean_of_texts(values: Floats, counts: NDArray[np.bool_], weight: Floats, what: str) -> float:
    """Return the weighted mean of the texts that count; `what` names what none of them has if none counts."""
    total = float(weight[counts].sum())
    return float(values[counts] @ weight[counts]) / total if total else warn_undefined(f"text with {what}")
