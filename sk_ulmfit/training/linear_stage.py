"""The linear model as a stage of a fit: of labels or values, on all texts or a part, from the beginning or going on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.data import TrainingTexts, mean_one
from sk_ulmfit.training.linear_rounds import KeptSvms, go_on_with_svms
from sk_ulmfit.training.linear_training import LinearFit, count_svms, fit_linear_model, sample_documents
from sk_ulmfit.training.ngrams import VocabularyNgrams
from sk_ulmfit.training.progress import LINEAR_MODEL, show_stage
from sk_ulmfit.training.ridge import fit_ridge, most_ridges
from sk_ulmfit.training.rounds import TrainingStore
from sk_ulmfit.training.settings import ClassifierSettings
from sk_ulmfit.training.task import Regression
from sk_ulmfit.training.term_counts import N_FOLDS


def train_linear_model(
    data: TrainingTexts,
    corpus: TokenIds,
    vocabulary: Vocabulary,
    train: NDArray[np.int64],
    settings: ClassifierSettings,
    store: TrainingStore | None = None,
) -> LinearFit | None:
    """Train the linear model on the documents `train`; the rows of the result are numbers of `train`."""
    if store is not None:
        store.ngrams = VocabularyNgrams.of(vocabulary.words, None if store.earlier is None else store.earlier.ngrams)
        if store.rows is not None and store.earlier is not None and store.earlier.svms is not None:
            return _go_on(data, corpus, vocabulary, settings, store, store.earlier.svms, store.rows)
    chosen = sample_documents(corpus.lengths_of(train), settings.seed)
    rows = train[chosen]
    ngrams = None if store is None else store.ngrams
    fit = _fit(data, corpus.take(rows), rows, vocabulary, settings, ngrams)
    if store is not None and fit is not None and fit.strength and len(rows) == len(corpus):
        store.svms = KeptSvms.after_first(fit.strength, data.y.shape, settings.seed)
    return None if fit is None else fit._replace(rows=chosen[fit.rows])


def _fit(
    data: TrainingTexts,
    corpus: TokenIds,
    rows: NDArray[np.int64],
    vocabulary: Vocabulary,
    settings: ClassifierSettings,
    ngrams: VocabularyNgrams | None,
) -> LinearFit | None:
    """Train SVMs of labels, or ridge regressions of values, on documents that are the rows `rows` of the data."""
    y, task, weight, seed = data.y[rows], data.task, mean_one(data.weight_of(rows)), settings.seed
    if isinstance(task, Regression):
        with show_stage(LINEAR_MODEL, most_ridges(len(y)), "trainings", settings) as advance:
            z = task.standardise(y)
            return fit_ridge(corpus, vocabulary, z, seed, document_weight=weight, ngrams=ngrams, advance=advance)
    with show_stage(LINEAR_MODEL, count_svms(*y.shape), "SVMs", settings) as advance:
        return fit_linear_model(
            corpus,
            vocabulary,
            y,
            seed,
            settings.n_jobs,
            document_weight=weight,
            pos_weight=task.pos_weight,
            ngrams=ngrams,
            advance=advance,
        )


def _go_on(
    data: TrainingTexts,
    corpus: TokenIds,
    vocabulary: Vocabulary,
    settings: ClassifierSettings,
    store: TrainingStore,
    earlier: KeptSvms,
    rows: NDArray[np.int64],
) -> LinearFit | None:
    """Train the SVMs of all labels from those of an earlier training."""
    assert not isinstance(data.task, Regression)
    assert store.ngrams is not None
    with show_stage(LINEAR_MODEL, data.y.shape[1] * (N_FOLDS + 1), "SVMs", settings) as advance:
        fit, store.svms = go_on_with_svms(
            corpus,
            vocabulary,
            store.ngrams,
            data.y,
            earlier,
            rows,
            seed=settings.seed,
            pos_weight=data.task.pos_weight,
            advance=advance,
        )
    return fit
