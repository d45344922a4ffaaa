"""Batches of passages of similar length, each with the vector that its text should get."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.batching import Batch, pad

Targets = Callable[[NDArray[np.int64]], NDArray[np.float32]]  # from indices of passages, (n,), to vectors (n, dim)

LENGTH_NOISE = 0.1  # passages whose lengths differ by less than this share may be in one batch, or not


class PassageBatches:
    """Batches of passages, longest first, padded with `pad_id`, and their targets, (batch, dim).

    A batch has about `tokens_per_batch` positions, and 8 rows or a multiple unless its passages are long. All epochs
    have the same number of batches; `seed` draws which passages are together, and the order of the batches. The first
    batch of an epoch has the longest passages, so that too little memory shows at once. `corpus` may be memory-mapped;
    `passages` are the indices of those to be read, None means all.
    """

    def __init__(
        self,
        corpus: TokenIds,
        targets: Targets,
        tokens_per_batch: int,
        pad_id: int,
        seed: int,
        passages: NDArray[np.integer[Any]] | None = None,
    ):
        self.corpus, self.targets, self.pad_id, self.seed = corpus, targets, pad_id, seed
        self.passages = np.arange(len(corpus)) if passages is None else passages
        self.lengths = corpus.lengths_of(self.passages)  # (n_passages,)
        self.edges = _edges(-np.sort(-self.lengths), tokens_per_batch)  # (n_batches + 1,)

    def n_batches(self, n_epochs: int) -> int:
        """Count the batches of `n_epochs` epochs."""
        return n_epochs * (len(self.edges) - 1)

    def plan(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the indices of the passages of each batch of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        noisy = self.lengths * (1 + LENGTH_NOISE * rng.random(len(self.lengths)))
        order = np.argsort(-noisy, kind="stable")
        batches = [order[begin:end] for begin, end in zip(self.edges, self.edges[1:], strict=False)]
        return [self.passages[batches[i]] for i in [0, *(1 + rng.permutation(len(batches) - 1))]]

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from number `first` on."""
        for indices in self.plan(epoch)[first:]:
            longest_first = indices[np.argsort(-self.corpus.lengths_of(indices), kind="stable")]
            yield pad(self.corpus, longest_first, self.pad_id), torch.from_numpy(self.targets(longest_first))


def _edges(lengths: NDArray[np.int64], tokens_per_batch: int) -> list[int]:
    """Return where each batch of passages begins, and the last one ends; `lengths` are in descending order."""
    edges = [0]
    while edges[-1] < len(lengths):
        rows = max(1, tokens_per_batch // int(lengths[edges[-1]]))
        rows -= rows % 8 if rows > 8 else 0  # oneDNN keeps kernels and buffers for each shape: use few
        edges.append(min(edges[-1] + rows, len(lengths)))
    return edges
