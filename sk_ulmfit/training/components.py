"""Principal components of a teacher's vectors: vectors in them are what a language model learns to give to texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.models.schema import TEACHER_COMPONENTS, TEACHER_MEAN


@dataclass(frozen=True)
class Components:
    """Principal components of vectors: their `mean`, (n_dims,), and the `matrix` of components, (n_dims, n)."""

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Components | None:
        """Return those among the arrays of a language model; None if it has none."""
        if TEACHER_MEAN not in arrays:
            return None
        return cls(arrays[TEACHER_MEAN], arrays[TEACHER_COMPONENTS])

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of a language model that has learned from these components."""
        return {TEACHER_MEAN: self.mean, TEACHER_COMPONENTS: self.matrix}


def targets(vectors: NDArray[np.float32], components: Components) -> NDArray[np.float32]:
    """Return vectors (n, n_dims), centred, in principal components (n, n_components), scaled to length 1."""
    reduced = (vectors - components.mean) @ components.matrix
    lengths = np.linalg.norm(reduced, axis=1, keepdims=True)
    return reduced / np.maximum(lengths, np.finfo(np.float32).tiny)
