"""The linear model that is averaged with the network, in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.tf_idf import weigh_counts

Floats = NDArray[np.float64]

TOKENS_AT_ONCE = 100_000


class OnnxLinearModel:
    """Log-odds of labels, or standardised values, from TF-IDF of words and n-grams.

    `arrays` are those of `LinearModel`, in the form in which a file holds them.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]):
        self._words, self._idf = arrays["words"], arrays["idf"]
        self._offsets = arrays["ngram_offsets"].astype(np.int64)
        self._ngrams, self._counts = arrays["ngrams"].astype(np.int64), arrays["ngram_counts"].astype(np.float64)
        self._weight, self._bias = arrays["weight"], arrays["bias"].astype(np.float64)
        self.share = arrays["network_share"].astype(np.float64)

    def logits(self, corpus: TokenIds) -> Floats:
        """Compute the log-odds of labels, or standardised values, shape (n_documents, K)."""
        logits = np.tile(self._bias, (len(corpus), 1))
        borders = np.searchsorted(corpus.offsets, np.arange(0, corpus.offsets[-1] + 1, TOKENS_AT_ONCE))
        borders = np.unique([0, *borders, len(corpus)])
        for first, end in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
            self._add(corpus.take(np.arange(first, end)), logits[first:end])
        return logits

    def _add(self, corpus: TokenIds, logits: Floats) -> None:
        """Add what the terms of some documents say."""
        row, term, counts = self._count(corpus)
        values = weigh_counts(counts, row, term, len(self._words), self._idf)
        ends = np.searchsorted(row, np.arange(len(corpus) + 1))
        for document, (start, end) in enumerate(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)):
            logits[document] += values[start:end] @ self._weight[term[start:end]].astype(np.float64)

    def _count(self, corpus: TokenIds) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Count the terms of each document; return document, term and count, by document and term."""
        n_ids, n_terms = len(self._offsets) - 1, len(self._idf)
        row = np.repeat(np.arange(len(corpus)), corpus.lengths)
        pair, n_times = np.unique(row * n_ids + corpus.ids, return_counts=True)
        row, ids = np.divmod(pair, n_ids)
        place = np.searchsorted(self._words, ids).clip(max=max(len(self._words) - 1, 0))
        is_counted = self._words[place] == ids if len(self._words) else np.zeros(len(ids), bool)
        n_stored = self._offsets[ids + 1] - self._offsets[ids]
        starts = np.cumsum(n_stored) - n_stored
        stored = np.arange(n_stored.sum()) + np.repeat(self._offsets[ids] - starts, n_stored)
        keys = np.concatenate(
            [
                row[is_counted] * n_terms + place[is_counted],
                np.repeat(row, n_stored) * n_terms + len(self._words) + self._ngrams[stored],
            ]
        )
        times = np.concatenate([n_times[is_counted], np.repeat(n_times, n_stored) * self._counts[stored]])
        keys, which = np.unique(keys, return_inverse=True)
        row, term = np.divmod(keys, n_terms)
        return row, term, np.bincount(which, times, len(keys))
