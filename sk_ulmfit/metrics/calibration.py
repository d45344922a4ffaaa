"""How far probabilities are from how often they come true."""

from __future__ import annotations

from typing import Any

import numpy as np

from sk_ulmfit._validation import check_choice, check_number
from sk_ulmfit.metrics._checks import _checked, _nan_mean
from sk_ulmfit.metrics.decisions import AVERAGES


def expected_calibration_error(
    y_true: Any, y_proba: Any, *, n_bins: int = 15, average: str = "micro", sample_weight: Any = None
) -> float:
    """Give the mean distance between probabilities and how often they come true.

    Probabilities are sorted into bins of equal width; each bin's mean probability is compared to the share of its
    entries that are 1, and the differences are averaged by the number of entries.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        0 and 1, NaN where unknown.
    y_proba : array-like of shape (n, L), or list of L arrays of shape (n, 2)
        Probabilities.
    n_bins : int, default=15
        Number of bins between 0 and 1.
    average : {"micro", "macro"}, default="micro"
        Over all entries at once, or a mean over labels of each one's error. Where labels are rare, most entries are
        near 0 for certain, and either is small.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    float
        From 0 to 1; 0 is best.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a probability lies outside [0, 1].

    References
    ----------
    M. P. Naeini, G. F. Cooper, M. Hauskrecht (2015), "Obtaining Well Calibrated Probabilities Using Bayesian Binning";
    C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger (2017), "On Calibration of Modern Neural Networks", section 2.

    Examples
    --------
    >>> from sk_ulmfit.metrics import expected_calibration_error
    >>> round(expected_calibration_error([[1], [0], [0], [0]], [[0.3], [0.3], [0.3], [0.3]]), 3)
    0.05
    """
    check_number("n_bins", n_bins, low=1, integer=True)
    check_choice("average", average, AVERAGES[:2])
    truth, proba, weight = _checked(y_true, y_proba, sample_weight)
    if not np.all((proba >= 0) & (proba <= 1)):
        raise ValueError("y_proba must hold probabilities from 0 to 1; scores of another kind have no calibration.")
    edges = np.linspace(0, 1, n_bins + 1)[1:-1]
    n_labels = truth.shape[1]
    gap, count = np.zeros((n_labels, n_bins)), np.zeros((n_labels, n_bins))
    for label in range(n_labels):
        rows = ~np.isnan(truth[:, label])
        where = np.searchsorted(edges, proba[rows, label], side="left")
        count[label] = np.bincount(where, weight[rows], n_bins)
        gap[label] = np.bincount(where, weight[rows] * (truth[rows, label] - proba[rows, label]), n_bins)
    if average == "micro":
        gap, count = gap.sum(axis=0, keepdims=True), count.sum(axis=0, keepdims=True)
    total = count.sum(axis=1)
    errors = np.abs(gap).sum(axis=1) / np.where(total > 0, total, np.nan)
    return _nan_mean(errors, "entry that is known")
