"""Training of the linear model: one SVM per label, whose margins are scaled to log-odds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import logit
from sklearn.metrics import average_precision_score

from sk_ulmfit._dask_tasks import backend_within
from sk_ulmfit.text.streams import Advance, counted
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.liblinear import train_svm
from sk_ulmfit.training.linear import LinearModel, Terms, tf_idf
from sk_ulmfit.training.ngrams import VocabularyNgrams
from sk_ulmfit.training.platt import scales_of
from sk_ulmfit.training.svms import Svms
from sk_ulmfit.training.term_counts import (
    CountedDocuments,
    count_documents,
    count_folds,
    count_with_terms,
    held_out_folds,
)

Floats = NDArray[np.float64]

TOLERANCE = 0.1  # of the solver: finer ones take longer and rank no better
STRENGTHS = (1.0, 0.3, 0.1, 0.03)  # C of the SVMs
N_TRIED = 3  # of them: the two in the middle, and the one beyond the better of these
SMOOTHING = 0.5  # documents added to each count behind the log-ratio of a term
HALF_SHARE = 30  # with so many documents of a label, the network has half of its largest share
MAX_TOKENS = 5_000_000  # of a larger corpus a random part is used; the counts of so many take 1 to 3 GB
MIN_WORK_FOR_WORKERS = 50_000_000  # counts times labels from which more than one process pays


class LinearFit(NamedTuple):
    """A linear model, and what it says of documents that it was trained without.

    Attributes
    ----------
    model : LinearModel
        Trained on all documents.
    rows : ndarray of int64, shape (m,)
        Numbers of the documents that were held out once.
    out_of_fold : ndarray of float64, shape (m, L)
        Their log-odds; those of the base rates where the other documents could teach nothing.
    strength : float, default=0.0
        The strength of the SVMs, or of the ridge regression, that was chosen.
    scales : tuple of ndarray, or None
        Slope and offset from the margins of the SVMs to log-odds, shape (L,) each.
    final : LinearModel or None
        Trained on documents that were held out from `model` too; None if there were none.
    """

    model: LinearModel
    rows: NDArray[np.int64]
    out_of_fold: Floats
    strength: float = 0.0
    scales: tuple[Floats, Floats] | None = None
    final: LinearModel | None = None

    @property
    def for_new_documents(self) -> LinearModel:
        """The model that predicts what is neither trained on nor held out."""
        return self.model if self.final is None else self.final

    def with_share(self, share: Any) -> LinearFit:
        """Return both models with this share of the network, but the whole one where words say nothing."""

        def of(model: LinearModel) -> LinearModel:
            return replace(model, network_share=np.where(model.network_share == 1, 1, share).astype(np.float32))

        return self._replace(model=of(self.model), final=None if self.final is None else of(self.final))


@dataclass(frozen=True)
class _Solver:
    """How the SVMs are trained: seed of folds and solver, worker processes, and what is called after each SVM."""

    seed: int
    n_jobs: int | None
    advance: Advance | None

    @classmethod
    def of(cls, documents: CountedDocuments, seed: int, n_jobs: int | None, advance: Advance | None) -> _Solver:
        """Return a solver with worker processes if there is enough work for them."""
        enough = documents.counts.nnz * documents.y.shape[1] >= MIN_WORK_FOR_WORKERS
        return cls(seed, n_jobs if enough else 1, advance)


def fit_linear_model(
    corpus: TokenIds,
    vocabulary: Vocabulary,
    indicator: NDArray[np.floating[Any]],
    seed: int = 0,
    n_jobs: int | None = None,
    *,
    document_weight: NDArray[np.float32] | None = None,
    pos_weight: Floats | None = None,
    ngrams: VocabularyNgrams | None = None,
    advance: Advance | None = None,
) -> LinearFit | None:
    """Train one linear SVM per label on TF-IDF, and scale its margins to log-odds.

    Terms are the words, and the n-grams of 3 and 4 characters within words that at least three documents have. A count
    n becomes (1 + log n) times the inverse document frequency. For each label a term is multiplied by the cube root of
    |r|, where r is the log-ratio of its frequencies in documents with and without the label, and all terms by one
    number that makes their mean squared length 1. The strength is chosen for the largest mean average precision on
    held-out documents: 0.3 and 0.1 are compared, and then the next one beyond the better of the two. From these
    documents, Platt scaling learns the log-odds; labels with few documents share one scale.

    Parameters
    ----------
    corpus : TokenIds
        n documents.
    vocabulary : Vocabulary
        Words of the ids; ``xxunk``, ``xxpad`` and ``xxbos`` are left out.
    indicator : ndarray, shape (n, L)
        0 and 1, NaN where unknown.
    seed : int, default=0
        Seed of the folds and of the solver.
    n_jobs : int or None, default=None
        Worker processes, as in joblib, used if there is enough work.
    document_weight : ndarray of shape (n,), default=None
        Weight of each document, 1 on average.
    pos_weight : ndarray of shape (L,), default=None
        Factor on the odds of each label, as for the network.
    ngrams : VocabularyNgrams or None, default=None
        N-grams of the vocabulary, if they are counted.
    advance : callable, default=None
        Called with 1 after each SVM; `count_svms` tells how many there are.

    Returns
    -------
    LinearFit or None
        None if the words say nothing about any label of held-out documents.

    References
    ----------
    Platt, J. (1999), "Probabilistic Outputs for Support Vector Machines", section 2.
    Wang, S., Manning, C. (2012), "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification", section 2.
    Cavnar, W., Trenkle, J. (1994), "N-Gram-Based Text Categorization", section 3.
    """
    counted = count_documents(corpus, vocabulary, indicator, document_weight, ngrams)
    if counted is None:
        return None
    terms, documents = counted
    solver = _Solver.of(documents, seed, n_jobs, advance)
    if advance is not None:
        advance(0)  # the first SVM begins
    strength, rows, margins = _choose_strength(documents, solver)
    svms = _fit_svms(documents, strength, solver)
    return linear_fit_of(terms, documents, svms, rows, margins, pos_weight, strength)


def linear_fit_of(
    terms: Terms,
    documents: CountedDocuments,
    svms: Svms,
    rows: NDArray[np.int64],
    margins: Floats,
    pos_weight: Floats | None,
    strength: float,
) -> LinearFit | None:
    """Scale SVMs to log-odds by the margins, shape (m, L), of held-out documents; None if words say nothing."""
    slope, offset = scales = scales_of(margins, documents.y[rows], documents.weight_of(rows))
    informative = svms.learnable & (slope > 0)
    if not informative.any():
        return None
    share = default_share(_count_rarer(documents.y))
    model = _in_log_odds(terms, documents, svms, scales, pos_weight, share)
    boost, prior = _boost(pos_weight, len(slope)), logit(base_rates(documents.y, documents.weight))
    out_of_fold = np.where(informative & np.isfinite(margins), margins * slope + offset, prior) + boost
    return LinearFit(model, rows, out_of_fold, strength, scales)


def train_again(
    fit: LinearFit,
    corpus: TokenIds,
    vocabulary: Vocabulary,
    indicator: NDArray[np.floating[Any]],
    seed: int = 0,
    n_jobs: int | None = None,
    *,
    document_weight: NDArray[np.float32] | None = None,
    pos_weight: Floats | None = None,
    ngrams: VocabularyNgrams | None = None,
    advance: Advance | None = None,
) -> LinearFit:
    """Train the SVMs of `fit_linear_model` on more documents too, those of `fit` included; they become `final`.

    Strength, scales and the share of the network stay, so no fold is trained.
    """
    assert fit.scales is not None
    counted = count_documents(corpus, vocabulary, indicator, document_weight, ngrams)
    assert counted is not None
    terms, documents = counted
    svms = _fit_svms(documents, fit.strength, _Solver.of(documents, seed, n_jobs, advance))
    return fit._replace(final=_in_log_odds(terms, documents, svms, fit.scales, pos_weight, fit.model.share))


def _in_log_odds(
    terms: Terms,
    documents: CountedDocuments,
    svms: Svms,
    scales: tuple[Floats, Floats],
    pos_weight: Floats | None,
    share: Floats,
) -> LinearModel:
    """Scale SVMs to log-odds; the network has the whole share of labels about which words say nothing."""
    slope, offset = scales
    informative = svms.learnable & (slope > 0)
    prior = logit(base_rates(documents.y, documents.weight))
    bias = np.where(informative, svms.bias * slope + offset, prior) + _boost(pos_weight, len(slope))
    share = np.where(svms.learnable & ~informative, 1, share)
    return LinearModel.of_terms(terms, svms.idf, svms.weight * slope, bias, share)


def _boost(pos_weight: Floats | None, n_labels: int) -> Floats:
    return np.zeros(n_labels) if pos_weight is None else np.log(pos_weight)


def count_svms(n_documents: int, n_labels: int) -> int:
    """Count the SVMs that `fit_linear_model` trains, if every label can be learned in every fold."""
    return n_labels * (N_TRIED + count_folds(n_documents))  # on the first fold, on the other folds and on all documents


def default_share(n_telling: NDArray[Any]) -> Floats:
    """Return the network's share of each label or target, c / (2 c + 60) for c documents that tell about it."""
    return np.asarray(0.5 * n_telling / (n_telling + HALF_SHARE))


def _count_rarer(indicator: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Count the documents that have each label, or lack it if these are fewer."""
    n_with, n_known = (indicator == 1).sum(axis=0), (~np.isnan(indicator)).sum(axis=0)
    return np.asarray(np.minimum(n_with, n_known - n_with))


def sample_documents(lengths: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Choose the documents to learn from: all, or of very many a random part of `MAX_TOKENS`.

    `lengths` holds the tokens of each document, shape (n,). The result holds row numbers in ascending order.
    """
    if lengths.sum() <= MAX_TOKENS:
        return np.arange(len(lengths))
    order = np.random.default_rng(seed).permutation(len(lengths))
    n_chosen = max(1, int(np.searchsorted(np.cumsum(lengths[order]), MAX_TOKENS, side="right")))
    return np.sort(order[:n_chosen])


def base_rates(indicator: NDArray[np.floating[Any]], document_weight: NDArray[np.float32] | None = None) -> Floats:
    """Estimate the share of the documents that have each label, from the known entries, shape (L,).

    Half a document of either kind is added, so a rate lies strictly between 0 and 1. A label without any known entry
    gets the mean of the others.
    """
    weight = np.ones(len(indicator), np.float32) if document_weight is None else document_weight
    n_known = weight @ ~np.isnan(indicator)
    rate = (weight @ (indicator == 1) + 0.5) / (n_known + 1.0)
    return np.where(n_known > 0, rate, rate[n_known > 0].mean())


def _fit_svms(documents: CountedDocuments, strength: float, solver: _Solver) -> Svms:
    """Train the SVMs of the labels that are learnable: some documents have them, some do not."""
    counts, y = documents.counts, documents.y
    idf = documents.idf()
    features = tf_idf(counts, documents.n_words, idf)
    learnable = np.asarray((y == 1).any(axis=0) & (y == 0).any(axis=0))
    weight, bias = np.zeros((counts.shape[1], y.shape[1]), np.float32), np.zeros(y.shape[1])
    labels = np.flatnonzero(learnable)
    workers = Parallel(solver.n_jobs, backend_within(solver.n_jobs), return_as="generator")
    svms = workers(
        delayed(_fit_svm)(features, y[:, label], documents.weight, strength, solver.seed) for label in labels
    )
    for label, (label_weight, label_bias) in counted(zip(labels, svms, strict=True), solver.advance):
        weight[:, label], bias[label] = label_weight, label_bias
    return Svms(idf, weight, bias, learnable)


def _fit_svm(
    features: sparse.csr_matrix,
    y: NDArray[np.floating[Any]],
    document_weight: NDArray[np.float32] | None,
    strength: float,
    seed: int,
) -> tuple[Floats, float]:
    """Train on the features times their evidence; return the weights of the features themselves, and the bias."""
    known = ~np.isnan(y)
    if not known.all():
        features, y = features[known], y[known]
        document_weight = None if document_weight is None else document_weight[known]
    evidence = _evidence(features, y == 1, document_weight)
    data = evidence[features.indices]
    data *= features.data
    weighed = sparse.csr_matrix((data, features.indices, features.indptr), shape=features.shape)
    # Without this, margins would differ in size from label to label, and one strength could not suit all labels.
    squares = np.asarray(weighed.power(2).sum(axis=1))[:, 0]
    unit = np.sqrt(max(np.average(squares, weights=document_weight), np.finfo(np.float64).tiny))
    data /= unit
    weights, bias = train_svm(weighed, y == 1, document_weight, strength, TOLERANCE, seed)
    return weights * evidence / unit, bias


def _evidence(
    features: sparse.csr_matrix, has_label: NDArray[np.bool_], document_weight: NDArray[np.float32] | None
) -> Floats:
    """Measure what each term says about a label: the cube root of the absolute log-ratio of its frequencies."""
    weight = np.ones(len(has_label)) if document_weight is None else document_weight.astype(np.float64)
    n, n_present = weight.sum(), weight[has_label].sum()
    n_with_term = count_with_terms(features, document_weight)
    of_label = None if document_weight is None else document_weight[has_label]
    n_present_with_term = count_with_terms(features[has_label], of_label)  # few rows of many
    rate = (n_present_with_term + SMOOTHING) / (n_present + 2 * SMOOTHING)
    other_rate = (n_with_term - n_present_with_term + SMOOTHING) / (n - n_present + 2 * SMOOTHING)
    return np.asarray(np.cbrt(np.abs(np.log(rate) - np.log(other_rate))))


def _choose_strength(documents: CountedDocuments, solver: _Solver) -> tuple[float, NDArray[np.int64], Floats]:
    """Choose the strength on held-out documents; return it with the numbers of these, and their margins."""
    y = documents.y
    folds = held_out_folds(len(y), solver.seed)
    rows = np.concatenate([np.arange(0), *(held_out for _, held_out in folds)])
    first_rows = rows[: len(folds[0][1])] if folds else rows
    truth, weight = y[first_rows], documents.weight_of(first_rows)

    def tried(strength: float) -> tuple[float, float, Floats]:
        margins = _held_out_margins(documents, folds[:1], strength, solver)
        return mean_average_precision(truth, margins, weight), strength, margins

    strongest, strong, weak, weakest = STRENGTHS
    middle = [tried(strong), tried(weak)]
    beyond = tried(weakest if middle[1][0] > middle[0][0] else strongest)
    _, strength, margins = max(*middle, beyond, key=lambda each: each[:2])  # the largest of the best ones
    margins = np.concatenate([margins, _held_out_margins(documents, folds[1:], strength, solver)])
    return strength, rows, margins


def _held_out_margins(documents: CountedDocuments, folds: list[Any], strength: float, solver: _Solver) -> Floats:
    """Compute the margins of the held-out documents of each fold, NaN for labels that the others cannot teach."""
    margins = [np.empty((0, documents.y.shape[1]))]
    for train, held_out in folds:
        svms = _fit_svms(documents.take(train), strength, solver)
        margins.append(svms.margins(documents.take(held_out)))
    return np.concatenate(margins)


def mean_average_precision(
    truth: NDArray[np.floating[Any]], margins: Floats, weight: NDArray[np.float32] | None
) -> float:
    """Compute the mean over the labels that were learned in every fold."""
    ranked = np.flatnonzero((truth == 1).any(axis=0) & np.isfinite(margins).all(axis=0))
    precisions = []
    for label in ranked:
        known = ~np.isnan(truth[:, label])
        weight_of_known = None if weight is None else weight[known]
        precisions.append(
            average_precision_score(truth[known, label], margins[known, label], sample_weight=weight_of_known)
        )
    return float(np.mean(precisions)) if precisions else 0.0
