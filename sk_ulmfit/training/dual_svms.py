"""The SVMs of all labels at once, by dual coordinate descent that can start from an earlier solution."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sk_ulmfit.training.linear import tf_idf
from sk_ulmfit.training.svms import Svms
from sk_ulmfit.training.term_counts import CountedDocuments

Floats = NDArray[np.float64]

MOST_PASSES = 100  # over all documents; from an earlier solution a few are enough
SMOOTHING = 0.5  # documents added to each count behind the log-ratio of a term


def train_svms(
    documents: CountedDocuments, strength: float, start: Floats, tolerance: float, seed: int, passes: int = MOST_PASSES
) -> tuple[Svms, Floats]:
    """Train one linear SVM per label with the squared hinge loss, from the dual variables `start`, shape (n, L).

    Return the SVMs and their dual variables: how much each document pushes the weights of each label. The problem is
    that of ``LinearSVC`` on features that are weighed for each label as `fit_linear_model` says, and so is the
    criterion at which it stops, unless it has gone over all documents so many times as `passes` says. A start from
    nothing, all 0, has no such limit. All documents weigh the same.

    References
    ----------
    Hsieh, C.-J. et al. (2008), "A Dual Coordinate Descent Method for Large-scale Linear SVM", algorithm 1.
    """
    passes = passes if start.any() else MOST_PASSES
    y = documents.y
    idf = documents.idf()
    features = tf_idf(documents.counts, documents.n_words, idf)
    known = ~np.isnan(y)
    sign = np.where(known, np.where(y == 1, 1.0, -1.0), 0.0)
    learnable = (sign == 1).any(axis=0) & (sign == -1).any(axis=0)
    sign[:, ~learnable] = 0
    factor = evidence(features, y) ** 2  # of each term, for each label, squared as in all that follows
    squares = features.power(2) @ factor
    factor /= np.maximum((squares * known).sum(axis=0) / np.maximum(known.sum(axis=0), 1), np.finfo(np.float64).tiny)
    weight, bias, dual = _descend(features, factor, sign, strength, start, tolerance, seed, passes)
    return Svms(idf, weight, bias, learnable), dual


def evidence(features: sparse.csr_matrix, y: NDArray[np.floating[Any]]) -> Floats:
    """Measure what each term says about each label, shape (n_terms, L).

    This is the cube root of the absolute log-ratio of its frequencies in documents with and without the label.
    """
    has_label, known = (y == 1).astype(np.float64), (~np.isnan(y)).astype(np.float64)
    present = sparse.csr_matrix(
        (np.ones(len(features.data)), features.indices, features.indptr), shape=features.shape
    ).T
    with_label = present @ has_label
    without_label = present @ (known - has_label)
    n_with, n_known = has_label.sum(axis=0), known.sum(axis=0)
    rate = (with_label + SMOOTHING) / (n_with + 2 * SMOOTHING)
    other_rate = (without_label + SMOOTHING) / (n_known - n_with + 2 * SMOOTHING)
    return np.asarray(np.cbrt(np.abs(np.log(rate / other_rate))))


def _descend(
    features: sparse.csr_matrix,
    factor: Floats,
    sign: Floats,
    strength: float,
    start: Floats,
    tolerance: float,
    seed: int,
    passes: int,
) -> tuple[Floats, Floats, Floats]:
    """Minimise the dual problem; return weights (n_terms, L), biases (L,) and dual variables (n, L).

    `factor` (n_terms, L) holds squared weights of the terms, and `sign` (n, L) 1, -1, or 0 where a document does not
    count. Documents that `start` does not know come first. A pass goes over all documents, each with all labels, until
    no projected gradients of a label differ by more than `tolerance`.
    """
    offsets, indices, data = features.indptr.tolist(), features.indices, features.data
    dual = np.where(sign == 0, 0.0, start)
    signed = dual * sign
    weight, bias = (features.T @ signed) * factor, signed.sum(axis=0)
    softness = 1 / (2 * strength)
    rate = np.where(sign == 0, 0, 1 / (features.power(2) @ factor + 1 + softness))  # 1 by the curvature
    gradients = np.zeros(dual.shape)  # projected: 0 where a variable is 0 and would fall
    rng, everything = np.random.default_rng(seed), np.arange(len(dual))
    new = np.flatnonzero(~dual.any(axis=1))
    for rows in (new, *[everything] * passes) if len(new) < len(dual) else [everything] * passes:
        for row in rng.permutation(rows).tolist():
            part = slice(offsets[row], offsets[row + 1])
            columns, values = indices[part], data[part]
            of_row, before = weight[columns], dual[row]
            gradient = sign[row] * (values @ of_row + bias) - 1 + softness * before
            after = np.maximum(before - gradient * rate[row], 0)
            gradients[row] = np.where((before > 0) | (gradient < 0), gradient, 0)
            step = (after - before) * sign[row]
            dual[row] = after
            weight[columns] = of_row + (values[:, None] * factor[columns]) * step
            bias += step
        gradients[sign == 0] = 0
        spread = gradients.max(axis=0, initial=-np.inf) - gradients.min(axis=0, initial=np.inf)
        if rows is everything and spread.max(initial=0) <= tolerance:
            break
    return weight, bias, dual
