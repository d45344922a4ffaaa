"""Training of the linear model of values: ridge regression on TF-IDF."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import Ridge

from sk_ulmfit.text.streams import Advance
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.linear import LinearModel, Terms, tf_idf
from sk_ulmfit.training.linear_training import LinearFit, default_share
from sk_ulmfit.training.ngrams import VocabularyNgrams
from sk_ulmfit.training.term_counts import CountedDocuments, count_documents, count_folds, held_out_folds

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

STRENGTHS = (10.0, 3.0, 1.0, 0.3, 0.1)  # alpha for documents of length 1, from the strongest penalty to the weakest
TOLERANCE = 1e-4


def fit_ridge(
    corpus: TokenIds,
    vocabulary: Vocabulary,
    z: NDArray[np.floating[Any]],
    seed: int = 0,
    *,
    document_weight: NDArray[np.float32] | None = None,
    ngrams: VocabularyNgrams | None = None,
    advance: Advance | None = None,
) -> LinearFit | None:
    """Train a ridge regression of standardised values on TF-IDF, all targets at once.

    Terms and TF-IDF are those of `fit_linear_model`. One strength of the penalty serves all targets: that of the
    smallest squared error on held-out documents, searched from the strongest one until the error rises. Targets that
    words predict no better than their mean does are left to the network.

    Parameters
    ----------
    corpus : TokenIds
        n documents.
    vocabulary : Vocabulary
        Words of the ids; ``xxunk``, ``xxpad`` and ``xxbos`` are left out.
    z : ndarray, shape (n, T)
        Standardised values, NaN where unknown.
    seed : int, default=0
        Seed of the folds.
    document_weight : ndarray of float32, shape (n,), default=None
        Weight of each document, 1 on average.
    ngrams : VocabularyNgrams or None, default=None
        N-grams of the vocabulary, if they are counted.
    advance : callable, default=None
        Called with 1 after each training; `most_ridges` tells how many there are at most.

    Returns
    -------
    LinearFit or None
        Its predictions are standardised values. None if words predict no target of held-out documents.
    """
    counted = count_documents(corpus, vocabulary, z, document_weight, ngrams)
    if counted is None:
        return None
    terms, documents = counted
    if advance is not None:
        advance(0)  # the first training begins
    folds = [_fold(documents, *fold) for fold in held_out_folds(len(z), seed)]
    strength, predicted = _choose_strength(folds[0], advance) if folds else (STRENGTHS[0], [])
    predicted += [fold.predict_held_out(strength, advance) for fold in folds[1:]]
    rows = np.concatenate([np.arange(0), *(fold.held_out_rows for fold in folds)])
    out_of_fold = np.concatenate([np.empty((0, z.shape[1])), *predicted])
    truth, weight_of_rows = z[rows], documents.weight_of(rows)
    informative = _errors(out_of_fold, truth, weight_of_rows) < _errors(0.0, truth, weight_of_rows)
    if not informative.any():
        return None
    share = np.where(informative, default_share((~np.isnan(z)).sum(axis=0)), 1)
    model = _train(terms, documents, strength, share, advance)
    return LinearFit(model, rows, out_of_fold * informative, strength)


def fit_ridge_again(
    fit: LinearFit,
    corpus: TokenIds,
    vocabulary: Vocabulary,
    z: NDArray[np.floating[Any]],
    *,
    document_weight: NDArray[np.float32] | None = None,
    ngrams: VocabularyNgrams | None = None,
    advance: Advance | None = None,
) -> LinearFit:
    """Train the regression of `fit_ridge` on more documents too, those of `fit` included; it becomes `final`.

    Strength and share of the network stay, so no fold is trained.
    """
    counted = count_documents(corpus, vocabulary, z, document_weight, ngrams)
    assert counted is not None
    return fit._replace(final=_train(*counted, fit.strength, fit.model.share, advance))


def _train(
    terms: Terms, documents: CountedDocuments, strength: float, share: Floats, advance: Advance | None
) -> LinearModel:
    """Train on all documents; targets of which the network has the whole share get no weights."""
    idf = documents.idf()
    features = tf_idf(documents.counts, documents.n_words, idf)
    weight, bias = _fit(features, documents.y, documents.weight, strength, advance)
    informative = share != 1
    return LinearModel.of_terms(terms, idf, weight * informative, bias * informative, share)


def most_ridges(n_documents: int) -> int:
    """Count the trainings of `fit_ridge` if it tries all strengths."""
    return len(STRENGTHS) + count_folds(n_documents)  # on the first fold, on the other folds and on all documents


class _Fold(NamedTuple):
    """TF-IDF of the documents to train on, with their values and weights, and the documents that are held out."""

    features: sparse.csr_matrix
    z: NDArray[np.floating[Any]]
    weight: NDArray[np.float32] | None
    held_out: CountedDocuments
    held_out_features: sparse.csr_matrix
    held_out_rows: Rows

    def predict_held_out(self, strength: float, advance: Advance | None) -> Floats:
        """Predict the values of the held-out documents, shape (m, T)."""
        weight, bias = _fit(self.features, self.z, self.weight, strength, advance)
        return np.asarray(self.held_out_features @ weight + bias)


def _fold(documents: CountedDocuments, train: Rows, held_out: Rows) -> _Fold:
    part, rest = documents.take(train), documents.take(held_out)
    idf = part.idf()
    features, others = (tf_idf(each.counts, each.n_words, idf) for each in (part, rest))
    return _Fold(features, part.y, part.weight, rest, others, held_out)


def _choose_strength(fold: _Fold, advance: Advance | None) -> tuple[float, list[Floats]]:
    """Choose the strength on held-out documents; return it with a list of the predictions for these."""
    chosen, least = (STRENGTHS[0], np.zeros(0)), np.inf
    for strength in STRENGTHS:
        predicted = fold.predict_held_out(strength, advance)
        error = _errors(predicted, fold.held_out.y, fold.held_out.weight).sum()
        if error >= least:
            break
        chosen, least = (strength, predicted), error
    return chosen[0], [chosen[1]]


def _fit(
    features: sparse.csr_matrix,
    z: NDArray[np.floating[Any]],
    document_weight: NDArray[np.float32] | None,
    strength: float,
    advance: Advance | None,
) -> tuple[Floats, Floats]:
    """Train on the known values of each target; return weights, shape (n_terms, T), and biases, shape (T,)."""
    weight, bias = np.zeros((features.shape[1], z.shape[1])), np.zeros(z.shape[1])
    known, pattern = np.unique(~np.isnan(z), axis=1, return_inverse=True)
    for i, rows in enumerate(known.T):
        targets = np.flatnonzero(pattern.ravel() == i)
        if rows.any():
            weight_of_rows = None if document_weight is None else document_weight[rows]
            ridge = Ridge(strength, solver="sparse_cg", tol=TOLERANCE)
            ridge.fit(features[rows], z[np.ix_(rows, targets)], weight_of_rows)
            weight[:, targets] = ridge.coef_.reshape(len(targets), -1).T  # of one target it is a vector
            bias[targets] = ridge.intercept_
    if advance is not None:
        advance(1)
    return weight, bias


def _errors(
    predicted: Floats | float, z: NDArray[np.floating[Any]], document_weight: NDArray[np.float32] | None
) -> Floats:
    """Sum up the squared errors of each target, shape (T,)."""
    weight = 1.0 if document_weight is None else document_weight[:, None]
    return np.asarray(np.nansum(weight * (predicted - z) ** 2, axis=0))
