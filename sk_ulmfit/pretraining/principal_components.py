"""Principal components of a teacher's vectors, found from those of many passages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.pretraining.teacher_vectors import TeacherVectors
from sk_ulmfit.training.components import Components

MOST_VECTORS = 100_000  # from which the components are found
_ROWS_AT_ONCE = 10_000

Vectors = TeacherVectors | NDArray[np.float32]


def components(vectors: Vectors, n: int) -> Components:
    """Return the first n principal components of the first vectors; all if they have fewer dimensions.

    The entry of each component that is largest in magnitude is positive.
    """
    n_rows = min(len(vectors), MOST_VECTORS)
    starts = range(0, n_rows, _ROWS_AT_ONCE)
    parts = [slice(start, min(start + _ROWS_AT_ONCE, n_rows)) for start in starts]
    mean = sum(vectors[part].sum(axis=0, dtype=np.float64) for part in parts) / n_rows
    scatter = np.zeros((len(mean), len(mean)))
    for part in parts:
        centred = vectors[part] - mean
        scatter += centred.T @ centred
    _, matrix = np.linalg.eigh(scatter)  # columns, in ascending order of their variance
    matrix = matrix[:, ::-1][:, :n]
    largest = np.abs(matrix).argmax(axis=0)
    matrix = matrix * np.sign(matrix[largest, np.arange(matrix.shape[1])])
    return Components(mean.astype(np.float32), matrix.astype(np.float32))
