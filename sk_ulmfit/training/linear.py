"""The linear model that is averaged with the network: TF-IDF of words and character n-grams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.tf_idf import weigh_counts

Floats = NDArray[np.float64]

TOKENS_AT_ONCE = 1_000_000


class Terms(NamedTuple):
    """What is counted in a document.

    Attributes
    ----------
    words : ndarray of int32, shape (n_words,)
        Ids of the words, in ascending order.
    ngrams : csr_matrix of float32, shape (n_ids, n_ngrams)
        How often each n-gram occurs in the word of each id.
    """

    words: NDArray[np.int32]
    ngrams: sparse.csr_matrix


@dataclass(frozen=True)
class LinearModel:
    """One linear model per label or target on the TF-IDF of words and of character n-grams within words.

    A document is counted through its token ids alone: `ngram_offsets`, `ngrams` and `ngram_counts` are a CSR matrix of
    shape (n_ids, n_ngrams) that holds how often each n-gram occurs in the word of each id. Terms are the words,
    followed by the n-grams.

    Attributes
    ----------
    words : ndarray of int32, shape (n_words,)
        Ids of the words that are counted, in ascending order.
    ngram_offsets : ndarray of int32, shape (n_ids + 1,)
    ngrams : ndarray of int32, shape (n_stored,)
    ngram_counts : ndarray of uint8, shape (n_stored,)
    idf : ndarray of float32, shape (n_terms,)
        Inverse document frequency.
    weight : ndarray of float16, shape (n_terms, n_labels)
        Log-odds, or standardised values, per unit of TF-IDF.
    bias : ndarray of float32, shape (n_labels,)
        Log-odds of a document without terms.
    network_share : ndarray of float32, shape (n_labels,)
        Weight of the network in the mean of both models.
    """

    words: NDArray[np.int32]
    ngram_offsets: NDArray[np.int32]
    ngrams: NDArray[np.int32]
    ngram_counts: NDArray[np.uint8]
    idf: NDArray[np.float32]
    weight: NDArray[np.float16]
    bias: NDArray[np.float32]
    network_share: NDArray[np.float32]

    @classmethod
    def of_terms(cls, terms: Terms, idf: Floats, weight: NDArray[Any], bias: Floats, share: Floats) -> LinearModel:
        """Make a model of what a training gives; `share` is that of the network."""
        return cls(
            words=terms.words,
            ngram_offsets=terms.ngrams.indptr.astype(np.int32),
            ngrams=terms.ngrams.indices.astype(np.int32),
            ngram_counts=terms.ngrams.data.astype(np.uint8),
            idf=idf.astype(np.float32),
            weight=weight.astype(np.float16),
            bias=bias.astype(np.float32),
            network_share=share.astype(np.float32),
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], n_ids: int) -> LinearModel:
        """Make a model of the arrays in a file; raise KeyError, with its name, if one is missing or unknown."""
        arrays = dict(arrays)
        ngram_arrays = ("ngram_offsets", "ngrams", "ngram_counts")
        if not arrays.keys() & set(ngram_arrays):  # files of the first versions have no n-grams
            empty = np.zeros(n_ids + 1, np.int32), np.empty(0, np.int32), np.empty(0, np.uint8)
            arrays |= dict(zip(ngram_arrays, empty, strict=True))
        if wrong := arrays.keys() ^ {field.name for field in fields(cls)}:
            raise KeyError(min(wrong))
        return cls(**arrays)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, as `from_arrays` takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def share(self) -> Floats:
        """Weight of the network in the mean of both models, shape (n_labels,)."""
        return self.network_share.astype(np.float64)

    def logits(self, corpus: TokenIds) -> Floats:
        """Compute the log-odds of labels, or standardised values, shape (n_documents, n_labels)."""
        bias, terms = self.bias.astype(np.float64), self._terms()
        parts = [np.empty((0, len(bias)))]
        for counts in count_terms(corpus, terms):
            columns = np.unique(counts.indices)  # a few of many rows of the weights
            features = tf_idf(counts, len(terms.words), self.idf)
            parts.append(features[:, columns] @ self.weight[columns].astype(np.float64))
        return np.concatenate(parts) + bias

    def token_logits(self, document: NDArray[np.int32], labels: NDArray[np.integer[Any]]) -> Floats:
        """Split the log-odds of a document among its tokens.

        Each occurrence of a term gets an equal part of TF-IDF times weight.

        Parameters
        ----------
        document : ndarray of int32, shape (n_tokens,)
            Token ids.
        labels : ndarray of int, shape (K,)
            Columns of the labels wanted.

        Returns
        -------
        ndarray of float64, shape (n_tokens, K)
            Log-odds. Their sum over the tokens, plus the bias, is the result of `logits`.
        """
        terms = self._terms()
        (counts,) = count_terms(TokenIds(document, np.array([0, len(document)])), terms)
        features, columns = tf_idf(counts, len(terms.words), self.idf), counts.indices
        weight = self.weight[np.ix_(columns, labels)].astype(np.float64)
        per_occurrence = (features.data / counts.data)[:, None] * weight
        n_words = int((columns < len(terms.words)).sum())
        known = terms.words[columns[:n_words]]  # sorted, as the columns are
        present = np.isin(document, known)
        result = np.zeros((len(document), len(labels)))
        result[present] = per_occurrence[:n_words][np.searchsorted(known, document[present])]
        if n_words < len(columns):
            result += terms.ngrams[document][:, columns[n_words:] - len(terms.words)] @ per_occurrence[n_words:]
        return result

    def _terms(self) -> Terms:
        shape = (len(self.ngram_offsets) - 1, len(self.idf) - len(self.words))
        counts = self.ngram_counts.astype(np.float32)
        return Terms(self.words, sparse.csr_matrix((counts, self.ngrams, self.ngram_offsets), shape=shape))


def count_terms(corpus: TokenIds, terms: Terms) -> Iterator[sparse.csr_matrix]:
    """Count the terms of the documents, some documents at a time, shape (some, n_words + n_ngrams) each."""
    borders = np.searchsorted(corpus.offsets, np.arange(0, corpus.offsets[-1] + 1, TOKENS_AT_ONCE))
    borders = np.unique([0, *borders, len(corpus)])
    n_ids = terms.ngrams.shape[0]
    for first, end in pairwise(borders):
        offsets = corpus.offsets[first : end + 1]
        ids = corpus.ids[offsets[0] : offsets[-1]].copy()  # scipy sorts them in place
        of_id = sparse.csr_matrix(
            (np.ones(len(ids), np.float32), ids, offsets - offsets[0]), shape=(end - first, n_ids)
        )
        of_id.sum_duplicates()
        counts = sparse.hstack([of_id[:, terms.words], of_id @ terms.ngrams], "csr", dtype=np.float32)
        counts.sort_indices()
        yield counts


def tf_idf(counts: sparse.csr_matrix, n_words: int, idf: NDArray[np.floating[Any]]) -> sparse.csr_matrix:
    """Compute TF-IDF of counted terms; see `weigh_counts`."""
    features = counts.astype(np.float64)
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    features.data = weigh_counts(features.data, row, features.indices, n_words, idf)
    return features
