"""Character n-grams within words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse


def count_ngrams(words: Sequence[str]) -> sparse.csr_matrix:
    """Count the n-grams of 3 and 4 characters in each word with a space at either end, shape (n_words, n_ngrams).

    The n-grams are in alphabetical order. ``CountVectorizer(analyzer="char_wb", ngram_range=(3, 4), lowercase=False)``
    counts the same, seven times as slowly.

    Examples
    --------
    >>> from sk_ulmfit.training.ngrams import count_ngrams
    >>> count_ngrams(["an", ""]).toarray()  # " an", " an " and "an "
    array([[1., 1., 1.],
           [0., 0., 0.]], dtype=float32)
    """
    pieces = [(row, f" {piece} ") for row, word in enumerate(words) for piece in word.split()]
    if not pieces:
        return sparse.csr_matrix((len(words), 0), dtype=np.float32)
    lengths = np.array([len(piece) for _, piece in pieces])
    row = np.repeat([row for row, _ in pieces], lengths)  # of each character
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(lengths.sum())  # characters up to the end of the piece
    text = "".join(piece for _, piece in pieces).encode("utf-32-le", "surrogatepass")
    rank = np.unique(np.frombuffer(text, np.uint32), return_inverse=True)[1] + 1  # 0 stands for no character
    base = int(rank.max()) + 1  # its cube fits into 64 bits
    at, at_4 = np.flatnonzero(left >= 3), np.flatnonzero(left >= 4)
    prefix = np.zeros(len(rank), np.int64)
    prefix[at] = np.unique((rank[at] * base + rank[at + 1]) * base + rank[at + 2], return_inverse=True)[1]
    keys = np.concatenate([prefix[at] * base, prefix[at_4] * base + rank[at_4 + 3]])
    ngrams, column = np.unique(keys, return_inverse=True)
    where = (np.concatenate([row[at], row[at_4]]), column)
    counts = sparse.csr_matrix((np.ones(len(keys), np.float32), where), shape=(len(words), len(ngrams)))
    counts.sort_indices()  # older versions of scipy leave them as they come
    return counts
