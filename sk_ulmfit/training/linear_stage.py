"""The linear model as a stage of a fit: of labels or values, on all texts or a part, from the beginning or going on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.data import TrainingTexts, mean_one
from sk_ulmfit.training.linear_rounds import KeptSvms, go_on_with_svms
from sk_ulmfit.training.linear_training import LinearFit, count_svms, fit_linear_model, sample_documents, train_again
from sk_ulmfit.training.ngrams import VocabularyNgrams
from sk_ulmfit.training.progress import LINEAR_MODEL, show_stage
from sk_ulmfit.training.ridge import fit_ridge, fit_ridge_again, most_ridges
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
    """Train the linear model on the documents `train`; the rows of the result are numbers of `train`.

    Where rows are only held out to learn decisions from, a second model, `final`, is trained on all documents, unless
    there are so many that even those of `train` are not all used.
    """
    if store is not None:
        store.ngrams = VocabularyNgrams.of(vocabulary.words, None if store.earlier is None else store.earlier.ngrams)
        if store.rows is not None and store.earlier is not None and store.earlier.svms is not None:
            return _go_on(data, corpus, vocabulary, settings, store, store.earlier.svms, store.rows)
    chosen = sample_documents(corpus.lengths_of(train), settings.seed)
    rows = train[chosen]
    ngrams = None if store is None else store.ngrams
    learns_all = settings.gives_rows_back and len(rows) == len(train)
    fit = _fit(data, corpus, rows, vocabulary, settings, ngrams, learns_all)
    if store is not None and fit is not None and fit.scales is not None and len(rows) == len(corpus):
        store.svms = KeptSvms.after_first(fit.strength, data.y.shape, settings.seed)
    return None if fit is None else fit._replace(rows=chosen[fit.rows])


def _fit(
    data: TrainingTexts,
    corpus: TokenIds,
    rows: NDArray[np.int64],
    vocabulary: Vocabulary,
    settings: ClassifierSettings,
    ngrams: VocabularyNgrams | None,
    learns_all: bool,
) -> LinearFit | None:
    """Train SVMs of labels, or ridge regressions of values, on the rows `rows`; with `learns_all` on all rows too."""
    y, task, weight, seed = data.y[rows], data.task, mean_one(data.weight_of(rows)), settings.seed
    weight_of_all = mean_one(data.document_weight)
    if isinstance(task, Regression):
        with show_stage(LINEAR_MODEL, most_ridges(len(y)) + learns_all, "trainings", settings) as advance:
            z, of_rows = task.standardise(y), corpus.take(rows)
            kept: dict[str, Any] = {"ngrams": VocabularyNgrams.of(vocabulary.words, ngrams), "advance": advance}
            fit = fit_ridge(of_rows, vocabulary, z, seed, document_weight=weight, **kept)
            if fit is None or not learns_all:
                return fit
            z = task.standardise(data.y)
            return fit_ridge_again(fit, corpus, vocabulary, z, document_weight=weight_of_all, **kept)
    options: dict[str, Any] = {"seed": seed, "n_jobs": settings.n_jobs, "pos_weight": task.pos_weight}
    n_svms = count_svms(*y.shape) + (y.shape[1] if learns_all else 0)
    with show_stage(LINEAR_MODEL, n_svms, "SVMs", settings) as advance:
        options |= {"ngrams": VocabularyNgrams.of(vocabulary.words, ngrams), "advance": advance}
        fit = fit_linear_model(corpus.take(rows), vocabulary, y, document_weight=weight, **options)
        if fit is None or not learns_all:
            return fit
        return train_again(fit, corpus, vocabulary, data.y, document_weight=weight_of_all, **options)


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
