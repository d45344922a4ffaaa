"""Principal components of a teacher's vectors, and the vectors of passages in them, as targets of the training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.pretraining.teacher_vectors import TeacherVectors

MOST_VECTORS = 100_000  # from which the components are found
_ROWS_AT_ONCE = 10_000

Vectors = TeacherVectors | NDArray[np.float32]


@dataclass(frozen=True)
class Components:
    """Principal components of vectors: their `mean`, (n_dims,), and the `matrix` of components, (n_dims, n)."""

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]


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


def targets(vectors: NDArray[np.float32], components: Components) -> NDArray[np.float32]:
    """Return vectors (n, n_dims), centred, in principal components (n, n_components), scaled to length 1."""
    reduced = (vectors - components.mean) @ components.matrix
    lengths = np.linalg.norm(reduced, axis=1, keepdims=True)
    return reduced / np.maximum(lengths, np.finfo(np.float32).tiny)
