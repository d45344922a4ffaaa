"""Trained SVMs of labels, and their margins."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.training.linear import tf_idf
from sk_ulmfit.training.term_counts import CountedDocuments

Floats = NDArray[np.float64]


class Svms(NamedTuple):
    """One linear SVM per label.

    Attributes
    ----------
    idf : ndarray of float64, shape (n_terms,)
        Inverse document frequency.
    weight : ndarray, shape (n_terms, L)
        Margin per unit of TF-IDF.
    bias : ndarray of float64, shape (L,)
        Margin of a document without terms.
    learnable : ndarray of bool, shape (L,)
        Labels that some documents have and some lack.
    """

    idf: Floats
    weight: NDArray[np.floating[Any]]
    bias: Floats
    learnable: NDArray[np.bool_]

    def margins(self, documents: CountedDocuments) -> Floats:
        """Compute the margins of documents, shape (m, L), NaN for labels that are not learnable."""
        features = tf_idf(documents.counts, documents.n_words, self.idf)
        return np.where(self.learnable, features @ self.weight + self.bias, np.nan)
