"""Metrics of calibration, which compare predicted probabilities with shares of positives."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from sk_ulmfit._choices import Numbers
from sk_ulmfit._validation import check_choice, check_number
from sk_ulmfit.metrics._checks import check_predictions, check_probabilities, mean_of_known


def expected_calibration_error(
    y_true: Any,
    y_proba: Any,
    *,
    n_bins: int = 15,
    average: Literal["micro", "macro"] = "micro",
    sample_weight: Numbers | None = None,
) -> float:
    """Compute the mean difference between predicted probabilities and shares of positives, over bins of equal width.

    The difference of each bin counts by its number of entries. If labels are rare, most probabilities are rightly near
    0, and the error is small.

    Parameters
    ----------
    y_true, y_proba : array-like of shape (n, L)
        See `sk_ulmfit.metrics`.
    n_bins : int, default=15
        Number of bins between 0 and 1.
    average : {"micro", "macro"}, default="micro"
        Over all entries at once, or the mean of the errors of the labels.
    sample_weight : array-like of shape (n,), default=None
        Weight of each text.

    References
    ----------
    Naeini, M. P., Cooper, G. F., Hauskrecht, M. (2015), "Obtaining Well Calibrated Probabilities Using Bayesian
    Binning";
    Guo, C., Pleiss, G., Sun, Y., Weinberger, K. Q. (2017), "On Calibration of Modern Neural Networks", section 2.

    Examples
    --------
    >>> from sk_ulmfit.metrics import expected_calibration_error
    >>> y, proba = [[1], [0], [0], [0]], [[0.3], [0.3], [0.3], [0.3]]
    >>> round(expected_calibration_error(y, proba), 3)
    0.05
    """
    check_number("n_bins", n_bins, low=1, integer=True)
    check_choice("average", average, ("micro", "macro"))
    truth, proba, weight = check_predictions(y_true, y_proba, sample_weight)
    check_probabilities(proba)
    edges = np.linspace(0, 1, n_bins + 1)[1:-1]
    n_labels = truth.shape[1]
    gap, count = np.zeros((n_labels, n_bins)), np.zeros((n_labels, n_bins))
    for label in range(n_labels):
        known = ~np.isnan(truth[:, label])
        true, predicted, known_weight = truth[known, label], proba[known, label], weight[known]
        bins = np.searchsorted(edges, predicted, side="left")
        count[label] = np.bincount(bins, known_weight, n_bins)
        gap[label] = np.bincount(bins, known_weight * (true - predicted), n_bins)
    if average == "micro":
        gap, count = gap.sum(axis=0, keepdims=True), count.sum(axis=0, keepdims=True)
    total = count.sum(axis=1)
    errors = np.abs(gap).sum(axis=1) / np.where(total > 0, total, np.nan)
    return mean_of_known(errors, "entry that is known")
