"""TF-IDF of words and n-grams. This file needs numpy alone, for those who only predict."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def weigh_counts(
    counts: Floats,
    row: NDArray[np.integer[Any]],
    column: NDArray[np.integer[Any]],
    n_words: int,
    idf: NDArray[np.floating[Any]],
) -> Floats:
    """Compute TF-IDF with logarithmic counts, shape (n_counts,).

    Count i is that of the term `column[i]` in the document `row[i]`; rows rise from 0. The first `n_words` terms are
    words. In each row the words and the n-grams have equal Euclidean length, and the whole row has length 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.training.tf_idf import weigh_counts
    >>> weigh_counts(np.ones(2), np.zeros(2, int), np.array([0, 1]), 1, np.ones(2)).round(3).tolist()  # 1 / sqrt(2)
    [0.707, 0.707]
    """
    values = (1 + np.log(counts)) * idf[column].astype(np.float64)
    kind = 2 * row + (column >= n_words)
    n_rows = int(row[-1]) + 1 if len(row) else 0
    squares = np.bincount(kind, values**2, minlength=2 * n_rows)
    n_kinds = np.repeat((squares.reshape(-1, 2) > 0).sum(axis=1), 2)
    return np.asarray(values / np.sqrt(squares * n_kinds)[kind])
