"""A linear model of the words of a text, which decides beside the network.

A label with few texts hangs on a rare word or two. TF-IDF weighs rare words up, and a linear SVM finds them from one
example; the pooled features of a network need many. So each label is decided by both, by the network the more the more
texts have the label.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from sk_ulmfit.text import TokenIds
from sk_ulmfit.weights import Weights

PREFIX = "tfidf."  # of the names of its arrays among those of a classifier
STRENGTHS = (1.0, 0.3, 0.1)  # C of the SVM, of which the first that is best on held-out documents is taken
N_FOLDS = 3
MOST_FOLDED = 20_000  # of more documents than these one fold is held out, which is enough to scale the margins
FEW = 30  # with so many documents of a label, the network has half of the weight that it has with very many
TOKENS_AT_ONCE = 4_000_000


def fit_tfidf(
    corpus: TokenIds, indicator: NDArray[np.floating[Any]], seed: int = 0, n_jobs: int | None = None
) -> Weights:
    """Train one linear SVM per label on TF-IDF, scaled so that its outputs are log-odds.

    Weights are 1 + log of a word's count times its inverse document frequency, documents are of length one. The
    strength of the SVM is that of the largest mean average precision on held-out documents. What a margin says of the
    odds is learned from these too, for all labels at once (Platt 1999, section 2): a rare label has too few for a scale
    of its own.

    Parameters
    ----------
    corpus : TokenIds
        n documents.
    indicator : ndarray, shape (n, L)
        0 and 1.
    seed : int, default=0
        Seed of the folds and of the solver.
    n_jobs : int or None, default=None
        Worker processes, as in joblib; labels are shared out.

    Returns
    -------
    dict of str to ndarray
        What `tfidf_logits` and `blend` take; empty if words say nothing about the labels of held-out documents.

    References
    ----------
    J. Platt (1999), "Probabilistic Outputs for Support Vector Machines", section 2.
    G. Mesnil et al. (2015), "Ensemble of Generative and Discriminative Techniques for Sentiment Analysis of Movie
    Reviews", sections 2 and 3: a recurrent network and a linear model of words err on different texts.
    """
    y = indicator > 0
    words = np.unique(corpus.ids)
    counts = sparse.vstack(list(_counts(corpus, words)), "csr")
    strength, scale = _choose(counts, y, seed, n_jobs)
    if scale is None:
        return {}
    slope, offset = scale
    idf, weight, bias, varied = _fit(counts, y, strength, seed, n_jobs)
    n_texts = y.sum(0)
    log_odds = np.log((n_texts + 0.5) / (len(y) - n_texts + 0.5))
    arrays = {
        "words": words,
        "idf": idf.astype(np.float32),
        "weight": (weight * slope).astype(np.float16),
        "bias": np.where(varied, bias * slope + offset, log_odds).astype(np.float32),
        "network_share": (0.5 * n_texts / (n_texts + FEW)).astype(np.float32),
    }
    return {PREFIX + name: array for name, array in arrays.items()}


def split_tfidf(weights: Weights) -> tuple[Weights, Weights]:
    """Split the arrays of a classifier into those of its network and those of its linear model, which may be none."""
    tfidf = {name: array for name, array in weights.items() if name.startswith(PREFIX)}
    return {name: array for name, array in weights.items() if name not in tfidf}, tfidf


def tfidf_logits(tfidf: Weights, corpus: TokenIds) -> NDArray[np.float64]:
    """Give the log-odds of each label for each document.

    Parameters
    ----------
    tfidf : dict of str to ndarray
        What `fit_tfidf` gave, not empty.
    corpus : TokenIds
        n documents.

    Returns
    -------
    ndarray of float64, shape (n, L)
        Log-odds; those of a document do not depend on the others.
    """
    weight, bias = tfidf[PREFIX + "weight"].astype(np.float32), tfidf[PREFIX + "bias"]
    parts = [_features(counts, tfidf[PREFIX + "idf"]) @ weight for counts in _counts(corpus, tfidf[PREFIX + "words"])]
    return np.concatenate([np.empty((0, len(bias))), *parts]) + bias


def blend(network: NDArray[np.float64], tfidf: Weights, corpus: TokenIds) -> NDArray[np.float64]:
    """Average the log-odds of the network and of the linear model.

    On a label that c training documents have, the network's share is c / (2 c + 60): a half at most, little for few.

    Parameters
    ----------
    network : ndarray of float64, shape (n, L)
        Log-odds by the network.
    tfidf : dict of str to ndarray
        What `fit_tfidf` gave; if it is empty, the network decides alone.
    corpus : TokenIds
        The n documents.

    Returns
    -------
    ndarray of float64, shape (n, L)
        Log-odds.
    """
    if not tfidf:
        return network
    share = tfidf[PREFIX + "network_share"].astype(np.float64)
    return share * network + (1 - share) * tfidf_logits(tfidf, corpus)


def _counts(corpus: TokenIds, words: NDArray[np.int32]) -> Iterator[sparse.csr_matrix]:
    """Count the known words of some documents after the others, shape (some, len(words)) each."""
    borders = np.searchsorted(corpus.offsets, np.arange(0, corpus.offsets[-1] + 1, TOKENS_AT_ONCE))
    borders = np.unique([0, *borders, len(corpus)])
    for first, end in pairwise(borders):
        offsets = corpus.offsets[first : end + 1]
        ids = corpus.ids[offsets[0] : offsets[-1]]
        columns = np.searchsorted(words, ids).clip(max=len(words) - 1)
        known = (words[columns] == ids).astype(np.float32)
        counts = sparse.csr_matrix((known, columns, offsets - offsets[0]), shape=(end - first, len(words)))
        counts.sum_duplicates()
        counts.eliminate_zeros()
        yield counts


def _features(counts: sparse.csr_matrix, idf: NDArray[np.floating[Any]]) -> sparse.csr_matrix:
    """Give TF-IDF with logarithmic counts, rows of length one."""
    features = counts.copy()
    features.data = (1 + np.log(counts.data)) * idf[counts.indices].astype(np.float32)
    return normalize(features, copy=False)


def _fit(
    counts: sparse.csr_matrix, y: NDArray[np.bool_], strength: float, seed: int, n_jobs: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_]]:
    """Train on counts; give the idf, weights and biases, and which labels vary: only those can be learned."""
    n_with = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = np.log((1 + len(y)) / (1 + n_with)) + 1
    features = _features(counts, idf)
    varied = np.asarray(y.any(axis=0) & ~y.all(axis=0))
    weight, bias = np.zeros((counts.shape[1], y.shape[1]), np.float32), np.zeros(y.shape[1])
    labels = np.flatnonzero(varied)
    found = Parallel(n_jobs)(delayed(_fit_label)(features, y[:, label], strength, seed) for label in labels)
    for label, (label_weight, label_bias) in zip(labels, found, strict=True):
        weight[:, label], bias[label] = label_weight, label_bias
    return idf, weight, bias, varied


def _fit_label(
    features: sparse.csr_matrix, has_label: NDArray[np.bool_], strength: float, seed: int
) -> tuple[NDArray[np.float64], float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        svm = LinearSVC(C=strength, random_state=seed).fit(features, has_label)
    return svm.coef_[0], float(svm.intercept_[0])


def _choose(
    counts: sparse.csr_matrix, y: NDArray[np.bool_], seed: int, n_jobs: int | None
) -> tuple[float, tuple[float, float] | None]:
    """Give the best strength on held-out documents, and the scale of its margins."""
    folds = list(KFold(min(N_FOLDS, len(y)), shuffle=True, random_state=seed).split(y)) if len(y) > 1 else []
    folds = folds if len(y) <= MOST_FOLDED else folds[:1]
    truth = y[np.concatenate([np.arange(0), *(held_out for _, held_out in folds)])]
    found = {c: _held_out_margins(counts, y, folds, c, seed, n_jobs) for c in STRENGTHS}
    strength = max(STRENGTHS, key=lambda c: _mean_average_precision(truth, found[c]))
    learned = np.isfinite(found[strength])
    return strength, _platt(found[strength][learned], truth[learned])


def _held_out_margins(
    counts: sparse.csr_matrix, y: NDArray[np.bool_], folds: list[Any], strength: float, seed: int, n_jobs: int | None
) -> NDArray[np.float64]:
    """Give margins on the held-out documents of each fold, NaN for labels that its other documents do not teach."""
    margins = [np.empty((0, y.shape[1]))]
    for train, held_out in folds:
        idf, weight, bias, varied = _fit(counts[train], y[train], strength, seed, n_jobs)
        margins.append(np.where(varied, _features(counts[held_out], idf) @ weight + bias, np.nan))
    return np.concatenate(margins)


def _mean_average_precision(truth: NDArray[np.bool_], margins: NDArray[np.float64]) -> float:
    """Give the mean over the labels that every fold has learned."""
    ranked = truth.any(axis=0) & np.isfinite(margins).all(axis=0)
    if not ranked.any():
        return 0.0
    return float(average_precision_score(truth[:, ranked], margins[:, ranked]))


def _platt(margins: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Give slope and offset from margin to log-odds, None if a larger margin does not mean better odds."""
    if truth.all() or not truth.any():
        return None
    scale = LogisticRegression().fit(margins[:, None], truth)
    slope, offset = float(scale.coef_[0, 0]), float(scale.intercept_[0])
    return (slope, offset) if slope > 0 else None
