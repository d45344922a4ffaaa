"""From probabilities and thresholds to decisions. This file needs numpy alone, for those who only predict."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SMALLEST = 1e-6  # distance of thresholds from 0 and 1 before log-odds are taken


def decide(
    proba: Floats, thresholds: Floats, *, top_k: int | None = None, at_least_one: bool = False
) -> NDArray[np.int64]:
    """Decide which labels each text gets.

    Parameters
    ----------
    proba : ndarray, shape (n, L)
        Probabilities.
    thresholds : ndarray, shape (L,)
        A label is predicted where its probability reaches its threshold.
    top_k : int, default=None
        Predict the `top_k` most probable labels of each text instead; all labels if there are fewer.
    at_least_one : bool, default=False
        Give a text that would get no label the one that is nearest to its threshold, in log-odds. Of equally near
        ones it is the most probable, as of all labels if they have one threshold.

    Returns
    -------
    ndarray of int64, shape (n, L)
        0 and 1.
    """
    if top_k is not None:
        chosen = np.argsort(-proba, axis=1, kind="stable")[:, :top_k]
        decided = np.zeros(proba.shape, np.int64)
        np.put_along_axis(decided, chosen, 1, axis=1)
        return decided
    decided = (proba >= thresholds).astype(np.int64)
    if at_least_one and len(proba):
        without = np.flatnonzero(~decided.any(axis=1))
        decided[without, _nearest(proba[without], thresholds)] = 1
    return decided


def _nearest(proba: Floats, thresholds: Floats) -> NDArray[np.int64]:
    """Return the label of each text that comes nearest to its threshold from below, shape (n,)."""
    distance = _log_odds(proba) - _log_odds(thresholds)
    is_nearest = distance == distance.max(axis=1, keepdims=True)
    return np.where(is_nearest, proba, -1).argmax(axis=1)


def _log_odds(values: Floats) -> Floats:
    clipped = np.clip(values, SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
