"""Folds of a training that goes on: texts that were there stay in their folds, so that none is predicted by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.splitting import stratify

Rows = NDArray[np.int64]


def folds_going_on(
    earlier: Rows, rows: Rows, y: NDArray[np.floating[Any]], n_folds: int, seed: int
) -> NDArray[np.int64]:
    """Return the fold of each text, shape (n,): that of an earlier training, or one with too few texts.

    Parameters
    ----------
    earlier : ndarray of int64, shape (m,)
        Folds of the earlier texts.
    rows : ndarray of int64, shape (n,)
        Row of each text among the earlier ones; -1 for a new one.
    y : ndarray, shape (n, K)
        Labels, which new texts bring to the folds in proportion.
    n_folds : int
        Number of folds.
    seed : int
        Seed of the choice.
    """
    fold = np.where(rows >= 0, earlier[rows], -1)
    new = np.flatnonzero(fold < 0)
    sizes, room = np.bincount(fold[fold >= 0], minlength=n_folds), np.zeros(n_folds, np.int64)
    for _ in new:
        smallest = int(sizes.argmin())
        sizes[smallest] += 1
        room[smallest] += 1
    fold[new] = stratify(y[new], room.tolist(), np.random.default_rng(seed))
    return fold
