"""Calibration of the probabilities of each label."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from sk_ulmfit._choices import Calibration, Numbers
from sk_ulmfit._validation import check_choice, check_weights
from sk_ulmfit.labels import check_labels
from sk_ulmfit.thresholds import check_proba

Floats = NDArray[np.float64]

METHODS = get_args(Calibration)
PRIOR = 10.0  # weight of the prior shared by all labels, in maximally uncertain entries
LIMIT = 20.0  # log-odds are clipped here
N_BINS = 801
STEPS = 50  # of Newton's method, at most
SMALLEST_SLOPE = 0.05  # above 0, to keep the order of texts


def fit_calibration(
    y: Any, proba: Any, method: Calibration = "platt", *, sample_weight: Numbers | None = None
) -> Floats:
    """Fit a calibration of probabilities on texts that they were not learned from.

    The log-odds z of each label become ``slope * z + offset``. Both are fitted by maximum likelihood, first for all
    labels together and then for each label, with the common values as a prior that weighs as much as ten entries of
    probability 0.5. Rare labels therefore stay near the common values.

    Parameters
    ----------
    y : array-like of shape (n, L)
        True labels, 0 and 1; unknown entries (NaN) are left out.
    proba : array-like of shape (n, L), or list of L arrays of shape (n, 2)
        Probabilities.
    method : {"temperature", "platt"}, default="platt"
        "platt" fits slope and offset; "temperature" the slope alone, one over the temperature.
    sample_weight : array-like of shape (n,), default=None
        Weight of each text; only ratios matter.

    Returns
    -------
    ndarray of float64, shape (2, L)
        Slope, above 0, and offset of each label.

    Raises
    ------
    ValueError
        If shapes do not match, `method` is unknown, or a probability lies outside [0, 1].

    References
    ----------
    Platt, J. (1999), "Probabilistic Outputs for Support Vector Machines", section 2.1.
    Guo, C., Pleiss, G., Sun, Y., Weinberger, K. Q. (2017), "On Calibration of Modern Neural Networks", section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.calibration import calibrate, fit_calibration
    >>> y = np.array([[1], [0], [0], [0]] * 50)  # a quarter is 1
    >>> proba = np.full((200, 1), 0.5)
    >>> calibrate(proba, fit_calibration(y, proba))[0].round(2).tolist()
    [0.25]
    """
    check_choice("method", method, METHODS)
    truth = check_labels(y)[0]
    proba = check_proba(proba, truth.shape)
    weight = check_weights(sample_weight, len(truth))
    counts = _binned(truth, proba, np.ones(len(truth)) if weight is None else weight / weight[weight > 0].mean())
    start = np.array([[1.0], [0.0]])
    free = np.array([True, method == "platt"])
    odds, zeros, ones = (part.reshape(1, -1) for part in counts)
    common = _fit(odds, zeros, ones, start, free)
    return _fit(*counts, common, free)


def calibrate(proba: Floats, coefficients: Floats) -> Floats:
    """Calibrate probabilities.

    Parameters
    ----------
    proba : ndarray, shape (n, L)
        Probabilities.
    coefficients : ndarray, shape (2, L)
        Slopes and offsets from `fit_calibration`.

    Returns
    -------
    ndarray of float64, shape (n, L)
        Probabilities strictly between 0 and 1, in the same order within each label.
    """
    odds = logit(np.clip(proba, np.finfo(np.float64).tiny, np.nextafter(1.0, 0.0)))
    return np.clip(expit(coefficients[0] * odds + coefficients[1]), np.finfo(np.float64).tiny, np.nextafter(1.0, 0.0))


def _binned(truth: NDArray[np.float32], proba: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """Bin the entries of each label by log-odds: mean log-odds, weight of zeros and weight of ones, all (L, bins)."""
    n_labels = truth.shape[1]
    odds_sum, total, ones = (np.zeros((n_labels, N_BINS)) for _ in range(3))
    for label in range(n_labels):
        y = truth[:, label]
        known = ~np.isnan(y)
        odds = np.clip(logit(proba[known, label]), -LIMIT, LIMIT)
        where = ((odds + LIMIT) * ((N_BINS - 1) / (2 * LIMIT))).astype(np.intp)
        of_row = weight[known]
        total[label] = np.bincount(where, of_row, N_BINS)
        odds_sum[label] = np.bincount(where, of_row * odds, N_BINS)
        ones[label] = np.bincount(where, of_row * y[known], N_BINS)
    return odds_sum / np.where(total > 0, total, 1), (total - ones).clip(0), ones


def _fit(odds: Floats, zeros: Floats, ones: Floats, prior: Floats, free: NDArray[np.bool_]) -> Floats:
    """Return slope and offset of each label, (2, L), fitted to bins, (L, bins); only those that are `free` move."""
    total = zeros + ones
    design = np.stack([odds, np.ones_like(odds)])  # (2, L, bins)
    penalty = _penalty(design, total, prior)

    def loss(value: Floats) -> Floats:
        scores = value[:, :1] * odds + value[:, 1:]
        likelihood = (ones * np.logaddexp(0, -scores) + zeros * np.logaddexp(0, scores)).sum(axis=1)
        off = value - prior.T
        return np.asarray(
            likelihood + np.einsum("la,lac,lc->l", off, np.broadcast_to(penalty, (len(off), 2, 2)), off) / 2
        )

    value = np.tile(prior.T, (len(odds), 1))  # (L, 2)
    best = loss(value)
    for _ in range(STEPS):
        scores = value[:, :1] * odds + value[:, 1:]
        gradient = np.einsum("alb,lb->la", design, total * expit(scores) - ones) + (value - prior.T) @ penalty
        curvature = np.einsum("alb,clb,lb->lac", design, design, total * _variance(scores)) + penalty
        step = _newton_step(gradient, curvature, free)
        for _ in range(30):  # halve the steps that increase the loss
            tried = value + step
            tried[:, 0] = tried[:, 0].clip(SMALLEST_SLOPE)
            now = loss(tried)
            worse = now > best + 1e-9 * (1 + best)
            if not worse.any():
                break
            step[worse] /= 2
        moved = np.abs(tried - value).max(initial=0.0)
        value, best = np.where(worse[:, None], value, tried), np.where(worse, best, now)
        if moved < 1e-6:
            break
    return value.T


def _penalty(design: Floats, total: Floats, prior: Floats) -> Floats:
    """Return the precision matrix (2, 2) of the prior, worth `PRIOR` maximally uncertain entries."""
    spread = total * _variance(prior[0] * design[0] + prior[1])
    information = np.einsum("alb,clb,lb->ac", design, design, spread) / max(spread.sum(), 1e-12)
    # A maximally uncertain entry has variance 1/4. The ridge keeps a slope at its prior where there is no evidence.
    return np.asarray(PRIOR / 4 * information + 1e-6 * np.eye(2))


def _newton_step(gradient: Floats, curvature: Floats, free: NDArray[np.bool_]) -> Floats:
    """Return the step (L, 2) for gradient (L, 2) and curvature (L, 2, 2), 0 where a value is not free."""
    gradient[:, ~free] = 0.0
    curvature[:, ~free, :] = curvature[:, :, ~free] = 0.0
    curvature[:, ~free, ~free] = 1.0
    return np.asarray(-np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0])


def _variance(scores: Floats) -> Floats:
    return np.asarray(expit(scores) * expit(-scores))
