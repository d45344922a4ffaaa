"""Counted terms of training documents: what the SVMs of labels and the ridge regression of values learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.model_selection import KFold

from sk_ulmfit.text.vocabulary import BOS, PAD, UNK, TokenIds, Vocabulary
from sk_ulmfit.training.linear import Terms, count_terms
from sk_ulmfit.training.ngrams import VocabularyNgrams

Rows = NDArray[np.int64]

NOT_WORDS = (UNK, PAD, BOS)
MIN_NGRAM_DOCUMENTS = 3
MAX_NGRAM_WEIGHTS = 50_000_000  # n-grams times labels; of more n-grams the most frequent ones are kept
N_FOLDS = 3  # the strength is chosen on the first one
MAX_FOLDED = 20_000  # with more documents only the first fold is held out, and at most so many documents of it


@dataclass(frozen=True)
class CountedDocuments:
    """Counted documents with their targets.

    Attributes
    ----------
    counts : csr_matrix of float32, shape (n, n_terms)
        Words, followed by n-grams.
    n_words : int
        How many of the terms are words.
    y : ndarray, shape (n, L)
        0 and 1, or values; NaN where unknown.
    weight : ndarray of float32, shape (n,), or None
        Weight of each document, 1 on average.
    """

    counts: sparse.csr_matrix
    n_words: int
    y: NDArray[np.floating[Any]]
    weight: NDArray[np.float32] | None

    def take(self, rows: Rows) -> CountedDocuments:
        """Return some documents."""
        return CountedDocuments(self.counts[rows], self.n_words, self.y[rows], self.weight_of(rows))

    def weight_of(self, rows: Rows) -> NDArray[np.float32] | None:
        """Return the weights of some documents, None if all weigh the same."""
        return None if self.weight is None else self.weight[rows]

    def idf(self) -> NDArray[Any]:
        """Compute the inverse document frequency of each term, shape (n_terms,)."""
        return np.asarray(np.log((1 + len(self.y)) / (1 + count_with_terms(self.counts, self.weight))) + 1)


def find_words(corpus: TokenIds, vocabulary: Vocabulary) -> NDArray[np.int32]:
    """Return the ids of the words of the documents, in ascending order."""
    return np.setdiff1d(corpus.ids, [vocabulary.index(token) for token in NOT_WORDS]).astype(np.int32)


def choose_terms(
    corpus: TokenIds, of_vocabulary: VocabularyNgrams, words: NDArray[np.int32], n_labels: int
) -> tuple[Terms, sparse.csr_matrix]:
    """Choose the n-grams, from all words of the vocabulary, and count words and n-grams in the documents."""
    ngrams = of_vocabulary.counts
    if len(ngrams.data) and ngrams.data.max() > 255:
        ngrams = ngrams.copy()
        ngrams.data = ngrams.data.clip(max=255)  # LinearModel stores them as uint8
    counts = sparse.vstack(list(count_terms(corpus, Terms(words, ngrams))), "csr")
    n_documents = np.bincount(counts.indices, minlength=counts.shape[1])[len(words) :]
    by_frequency = np.argsort(-n_documents, kind="stable")[: max(1, MAX_NGRAM_WEIGHTS // n_labels)]
    chosen = np.sort(by_frequency[n_documents[by_frequency] >= MIN_NGRAM_DOCUMENTS])
    ngrams = ngrams[:, chosen]
    ngrams.sort_indices()
    return Terms(words, ngrams), counts[:, np.append(np.arange(len(words)), len(words) + chosen)]


def count_documents(
    corpus: TokenIds,
    vocabulary: Vocabulary,
    y: NDArray[np.floating[Any]],
    document_weight: NDArray[np.float32] | None = None,
    ngrams: VocabularyNgrams | None = None,
) -> tuple[Terms, CountedDocuments] | None:
    """Choose the terms of documents and count them; None without any word.

    `ngrams` are those of the vocabulary, if they are counted.
    """
    words = find_words(corpus, vocabulary)
    if not len(words):
        return None
    ngrams = VocabularyNgrams.of(vocabulary.words) if ngrams is None else ngrams
    terms, counts = choose_terms(corpus, ngrams, words, y.shape[1])
    return terms, CountedDocuments(counts, len(words), y, document_weight)


def count_with_terms(counts: sparse.csr_matrix, document_weight: NDArray[np.float32] | None) -> NDArray[Any]:
    """Count the documents that have each term, shape (n_terms,), each document as often as its weight says."""
    weight = None if document_weight is None else np.repeat(document_weight, np.diff(counts.indptr))
    return np.bincount(counts.indices, weight, minlength=counts.shape[1])


def held_out_folds(n_documents: int, seed: int) -> list[tuple[Rows, Rows]]:
    """Return the documents to train on and those held out, fold by fold; a single document cannot be split."""
    if n_documents < 2:
        return []
    splitter = KFold(min(N_FOLDS, n_documents), shuffle=True, random_state=seed)
    folds = list(splitter.split(np.empty(n_documents)))
    if n_documents > MAX_FOLDED:
        return [(train, held_out[:MAX_FOLDED]) for train, held_out in folds[:1]]
    return folds


def count_folds(n_documents: int) -> int:
    """Count the folds of many documents, or of three or more."""
    return 1 if n_documents > MAX_FOLDED else N_FOLDS
