"""Vectors of the texts of a fit, kept in memory so that a fit that goes on need not compute them again."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sk_ulmfit.models.assembly import shared_weights
from sk_ulmfit.text.vocabulary import SPECIAL_TOKENS, TokenIds, Vocabulary

MOST_BYTES = 2**26  # of vectors that are kept


def checksum(module: nn.Module, vocabulary: Vocabulary) -> int:
    """Return a number that changes if somebody trains the encoder or the vector of a network.

    Of the weights of words it sees those of special tokens alone: these are in every text, and words are added.
    """
    special, total = vocabulary.lookup(SPECIAL_TOKENS), 0
    for name, array in shared_weights(module).items():
        if not name.startswith("head."):
            part = array[special] if array.shape[:1] == (len(vocabulary),) else array
            total = zlib.crc32(np.ascontiguousarray(part).data, total)
    return total


class SeenVectors(NamedTuple):
    """What a frozen encoder has computed.

    Attributes
    ----------
    corpus : TokenIds
        Documents, as ids of `vocabulary`.
    vectors : ndarray of float32, shape (n, d)
        What the head gets of each of them.
    vocabulary : Vocabulary
        Words of the encoder.
    conditions : tuple
        What else the vectors depend on: length, precision, device, and the `checksum` of the weights.
    """

    corpus: TokenIds
    vectors: NDArray[np.float32]
    vocabulary: Vocabulary
    conditions: tuple[object, ...]


class VectorStore:
    """Vectors that an earlier fit has kept, or None; and those that this fit keeps, None if it computed none."""

    def __init__(self, earlier: SeenVectors | None = None):
        self.earlier = earlier
        self.kept: SeenVectors | None = None

    def vectors_of(
        self,
        corpus: TokenIds,
        vocabulary: Vocabulary,
        conditions: tuple[object, ...],
        compute: Callable[[TokenIds], Tensor],
    ) -> Tensor:
        """Return the vectors of documents, (n, d); `compute` is called for those that were not seen."""
        rows = self._rows(corpus, vocabulary, conditions)
        new = np.flatnonzero(rows < 0)
        if len(new) == len(corpus) or self.earlier is None:
            vectors = compute(corpus)
        else:
            vectors = torch.from_numpy(self.earlier.vectors[rows])
            if len(new):
                vectors[torch.from_numpy(new)] = compute(corpus.take(new))
        n_kept = min(len(corpus), MOST_BYTES // max(vectors[:1].nbytes, 1))
        kept = vectors[:n_kept].numpy().copy()
        self.kept = SeenVectors(corpus.take(np.arange(n_kept)), kept, vocabulary, conditions)
        return vectors

    @property
    def is_of_same_network(self) -> bool:
        """Whether the earlier vectors are those of the network of now; False once somebody has trained it."""
        return self.earlier is not None and self.kept is not None and self.earlier.conditions == self.kept.conditions

    def _rows(self, corpus: TokenIds, vocabulary: Vocabulary, conditions: tuple[object, ...]) -> NDArray[np.int64]:
        """Return the row of each document among those that were seen, -1 if it is not there."""
        rows = np.full(len(corpus), -1)
        if self.earlier is None or self.earlier.conditions != conditions:
            return rows
        seen = _in_words_of(vocabulary, self.earlier.corpus, self.earlier.vocabulary)
        row_of = {document: row for row, document in enumerate(_as_bytes(seen))}
        rows[:] = [row_of.get(document, -1) for document in _as_bytes(corpus)]
        return rows


def _in_words_of(vocabulary: Vocabulary, corpus: TokenIds, earlier: Vocabulary) -> TokenIds:
    """Return documents as ids of another vocabulary; a word that is not in it has -1, which matches nothing."""
    words = earlier.words
    if vocabulary.words[: len(words)] == words:  # others come after them
        return corpus
    table = np.full(len(words), -1)
    for token in np.unique(corpus.ids):
        table[token] = vocabulary.index(words[token]) if words[token] in vocabulary else -1
    return corpus.map_ids(table)


def _as_bytes(corpus: TokenIds) -> list[bytes]:
    """Return the ids of each document."""
    content, ends = np.ascontiguousarray(corpus.ids).data.cast("B"), (corpus.offsets * corpus.ids.itemsize).tolist()
    return [bytes(content[begin:end]) for begin, end in pairwise(ends)]
