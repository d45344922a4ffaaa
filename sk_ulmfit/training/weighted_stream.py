"""The stream of several corpora, of which each has its share of the tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.text.corpora import shares
from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.batching import StreamDataset


class WeightedStreamDataset(StreamDataset):
    """Documents of several corpora that a language model reads in the shares given by `weights`.

    `parts` are the indices of the documents of each corpus. An epoch has as many tokens as all of them together. Each
    corpus is read as a whole as often as its share allows. The rest of its share is filled by documents drawn without
    repetition, the last of which ends where the share is reached.
    """

    def __init__(self, corpus: TokenIds, parts: Sequence[NDArray[np.int64]], weights: Sequence[float]):
        super().__init__(corpus, np.concatenate(parts))
        self.parts = parts
        ends = np.rint(np.cumsum(shares(weights)) * self.n_tokens).astype(np.int64)
        ends[-1] = self.n_tokens
        self.part_tokens = np.diff(ends, prepend=0)  # (n_corpora,): tokens of each corpus in an epoch

    def draw(self, rng: np.random.Generator | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw the documents of an epoch; return them shuffled, and how many tokens of each are read."""
        assert rng is not None, "documents are drawn at random"
        drawn = [self._draw_part(*part, rng) for part in zip(self.parts, self.part_tokens.tolist(), strict=True)]
        documents, lengths = (np.concatenate(arrays) for arrays in zip(*drawn, strict=True))
        order = rng.permutation(len(documents))
        return documents[order], lengths[order]

    def _draw_part(
        self, documents: NDArray[np.int64], n_tokens: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the documents of one corpus in an epoch, with `n_tokens` tokens, and their lengths."""
        lengths = self.corpus.lengths_of(documents)
        n_cycles, n_left = divmod(n_tokens, int(lengths.sum()))
        drawn = rng.permutation(len(documents))
        ends = np.cumsum(lengths[drawn])
        drawn = drawn[: np.searchsorted(ends - lengths[drawn], n_left)]  # those that begin before the share is reached
        rest = np.diff(np.minimum(ends[: len(drawn)], n_left), prepend=0)
        return (
            np.concatenate([np.tile(documents, n_cycles), documents[drawn]]),
            np.concatenate([np.tile(lengths, n_cycles), rest]),
        )
