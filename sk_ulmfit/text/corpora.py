"""Several corpora in one: the documents of each, and its share of what is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CorpusPart:
    """One of the corpora; `source` is its name and size."""

    source: str
    n_documents: int
    n_tokens: int
    n_unknown: int


@dataclass(frozen=True)
class Corpora:
    """Corpora whose documents follow one another; without `weights`, each is read in proportion to its size."""

    parts: tuple[CorpusPart, ...]
    weights: tuple[float, ...] | None = None

    def shares(self) -> NDArray[np.float64]:
        """Return the share of each corpus in the tokens that are read, (n_corpora,)."""
        return shares([part.n_tokens for part in self.parts] if self.weights is None else self.weights)

    def split(self, documents: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Split sorted indices of documents into those of each corpus."""
        ends = np.cumsum([part.n_documents for part in self.parts])
        return np.split(documents, np.searchsorted(documents, ends[:-1]))

    def to_info(self) -> dict[str, Any]:
        """Return the entries of `PackedCorpus.info`; none for a single corpus, which `info` itself describes."""
        if len(self.parts) == 1:
            return {}
        weights = None if self.weights is None else list(self.weights)
        return {"corpora": [asdict(part) for part in self.parts], "weights": weights}

    @classmethod
    def from_info(cls, info: dict[str, Any]) -> Corpora:
        """Return the corpora that `PackedCorpus.info` describes; raise ValueError if its entries contradict another."""
        if "corpora" not in info:
            return cls((CorpusPart(info["source"], info["n_documents"], info["n_tokens"], info["n_unknown"]),))
        try:
            parts = tuple(CorpusPart(**part) for part in info["corpora"])
            weights = None if info["weights"] is None else tuple(map(float, info["weights"]))
            counts = np.array([(part.n_documents, part.n_tokens, part.n_unknown) for part in parts], np.int64)
        except (KeyError, TypeError) as error:
            raise ValueError(str(error)) from None
        if counts.sum(axis=0).tolist() != [info["n_documents"], info["n_tokens"], info["n_unknown"]]:
            raise ValueError("the corpora have other numbers of documents or tokens together")
        if weights is not None and (len(weights) != len(parts) or not all(0 < weight < math.inf for weight in weights)):
            raise ValueError("the weights are not one positive number for each corpus")
        return cls(parts, weights)


def shares(weights: Sequence[float]) -> NDArray[np.float64]:
    """Scale positive weights to a sum of 1."""
    scaled = np.asarray(weights, np.float64) / max(weights)
    return scaled / scaled.sum()
