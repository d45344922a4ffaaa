"""From margins of SVMs to log-odds: Platt scaling on held-out documents."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

Floats = NDArray[np.float64]

MIN_FOR_OWN_SCALE = 20  # held-out documents with a label, and without it
DEFAULT_SCALE = (4.0, 0.0)  # slope and offset if no held-out document has a label that could be learned
MIN_SPREAD = 0.01  # of margins; they differ by about 1 where words say anything about the label
MAX_CELLS = 1_000_000  # margins from which a scale is learned
STEPS, SMALLEST_STEP, SMALLEST_CURVATURE = 50, 1e-6, 1e-9  # of Newton's method


def scales_of(
    margins: Floats, y: NDArray[np.floating[Any]], weight: NDArray[np.float32] | None
) -> tuple[Floats, Floats]:
    """Learn slope and offset from margins to log-odds for each label; the slope is 0 where margins say nothing.

    Labels with few held-out documents share one scale. Labels with none take it too, but do not contribute to it: they
    could only show documents without the label.
    """
    learned, truth = np.isfinite(margins) & ~np.isnan(y), y == 1
    weights = None if weight is None else np.broadcast_to(weight[:, None], y.shape)

    def platt(chosen: Any) -> tuple[float, float]:
        return _platt(margins[chosen], truth[chosen], None if weights is None else weights[chosen])

    n_seen = np.minimum((truth & learned).sum(axis=0), (~truth & learned).sum(axis=0))
    slope, offset = np.empty(len(n_seen)), np.empty(len(n_seen))
    few = (n_seen > 0) & (n_seen < MIN_FOR_OWN_SCALE)
    slope[:], offset[:] = platt(learned & few) if few.any() else DEFAULT_SCALE
    for label in np.flatnonzero(n_seen >= MIN_FOR_OWN_SCALE):
        slope[label], offset[label] = platt((learned[:, label], label))
    return slope, offset


def _platt(margins: Floats, truth: NDArray[np.bool_], weight: NDArray[np.float32] | None) -> tuple[float, float]:
    """Learn slope and offset from margin to log-odds; a larger margin never means lower odds."""
    every, unit = -(-len(margins) // MAX_CELLS), float(margins.std())
    if unit < MIN_SPREAD:
        return 0.0, 0.0
    weight = np.ones(len(margins), np.float32) if weight is None else weight
    slope, offset = _fit_logistic(margins[::every] / unit, truth[::every], weight[::every])
    return max(slope / unit, 0.0), offset


def _fit_logistic(x: Floats, truth: NDArray[np.bool_], weight: NDArray[np.float32]) -> tuple[float, float]:
    """Return slope and offset of a logistic regression with one feature, as ``LogisticRegression`` does, by Newton.

    The loss is the cross-entropy plus half of the squared slope.
    """
    values = np.array([0.0, logit((weight @ truth + 0.5) / (weight.sum() + 1))])
    design = np.stack([x, np.ones_like(x)])

    def loss(values: Floats) -> float:
        scores = values @ design
        return float(weight @ np.logaddexp(0, np.where(truth, -scores, scores)) + values[0] ** 2 / 2)

    best = loss(values)
    for _ in range(STEPS):
        rate = expit(values @ design)
        gradient = design @ (weight * (rate - truth)) + [values[0], 0]
        curvature = (design * (weight * rate * (1 - rate))) @ design.T + [[1, 0], [0, SMALLEST_CURVATURE]]
        step = np.linalg.solve(curvature, gradient)
        while (now := loss(values - step)) > best + 1e-9 * (1 + best) and np.abs(step).max() > SMALLEST_STEP:
            step /= 2
        values, best = values - step, now
        if np.abs(step).max() < SMALLEST_STEP:
            break
    return float(values[0]), float(values[1])
