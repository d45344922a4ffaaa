"""The linear model of a fit that goes on: SVMs that start from those of the fit before."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.text.streams import Advance
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.dual_svms import train_svms
from sk_ulmfit.training.folds import folds_going_on
from sk_ulmfit.training.linear_training import TOLERANCE, LinearFit, linear_fit_of
from sk_ulmfit.training.ngrams import VocabularyNgrams
from sk_ulmfit.training.term_counts import N_FOLDS, CountedDocuments, count_documents, held_out_folds

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

PASSES, FOLD_PASSES = 2, 1  # over all documents, once the new ones were learned: as near to the solution as liblinear


class KeptSvms(NamedTuple):
    """What a training of SVMs leaves for the next one.

    Attributes
    ----------
    strength : float
        C of the SVMs.
    fold : ndarray of int64, shape (n,)
        In which fold each document was held out.
    duals : list of ndarray, shape (n, L) each
        Dual variables of the SVMs that were trained without each fold, and with all documents.
    """

    strength: float
    fold: Rows
    duals: list[Floats]

    @classmethod
    def after_first(cls, strength: float, shape: tuple[int, int], seed: int) -> KeptSvms | None:
        """Return what `fit_linear_model` leaves of so many documents and labels; None if they are too few for folds."""
        fold = np.full(shape[0], -1)
        for number, (_, held_out) in enumerate(held_out_folds(shape[0], seed)):
            fold[held_out] = number
        if fold.min(initial=0) < 0 or fold.max(initial=0) != N_FOLDS - 1:
            return None
        return cls(strength, fold, [np.zeros(shape)] * (N_FOLDS + 1))


def go_on_with_svms(
    corpus: TokenIds,
    vocabulary: Vocabulary,
    ngrams: VocabularyNgrams,
    indicator: NDArray[np.floating[Any]],
    earlier: KeptSvms,
    rows: Rows,
    *,
    seed: int = 0,
    pos_weight: Floats | None = None,
    advance: Advance | None = None,
) -> tuple[LinearFit | None, KeptSvms | None]:
    """Train the linear model of labels as `fit_linear_model` does, from the solution of an earlier training.

    Terms, their weights and the scales of the margins are those of all documents of now. Documents keep their folds,
    and the SVMs their strength. The result differs from that of a fit from the beginning by these two, and within the
    tolerance of the solver.

    Parameters
    ----------
    corpus : TokenIds
        Documents, as of `fit_linear_model`.
    vocabulary : Vocabulary
        Their words.
    ngrams : VocabularyNgrams
        N-grams of the vocabulary.
    indicator : ndarray of shape (n, L)
        Labels, as of `fit_linear_model`.
    earlier : KeptSvms
        What the earlier training has left, for the same labels.
    rows : ndarray of int64, shape (n,)
        Row of each document in the earlier training; -1 for a new one, or one with other labels.
    seed : int, default=0
        Seed of the random order of documents.
    pos_weight : ndarray of float64, shape (L,), default=None
        As of `fit_linear_model`.
    advance : callable, default=None
        Called with the number of labels after each solution for all of them; there are `N_FOLDS` + 1.

    Returns
    -------
    LinearFit or None
        None if words say nothing, as of `fit_linear_model`.
    KeptSvms or None
        What this training leaves; None without words.
    """
    counted = count_documents(corpus, vocabulary, indicator, None, ngrams)
    if counted is None:
        return None, None
    terms, documents = counted
    fold = folds_going_on(earlier.fold, rows, indicator, N_FOLDS, seed)
    duals = [_of_rows(dual, rows) for dual in earlier.duals]
    strength = earlier.strength
    margins = np.empty(indicator.shape)
    for number in range(N_FOLDS):
        held_out = fold == number
        margins[held_out], duals[number] = _without(documents, held_out, strength, duals[number], seed)
        if advance is not None:
            advance(indicator.shape[1])
    svms, duals[-1] = train_svms(documents, strength, duals[-1], TOLERANCE, seed, PASSES)
    fit = linear_fit_of(terms, documents, svms, np.arange(len(rows)), margins, pos_weight, strength)
    return fit, KeptSvms(strength, fold, duals)


def _of_rows(dual: Floats, rows: Rows) -> Floats:
    """Return the dual variables of documents, 0 of new ones."""
    return np.where(rows[:, None] >= 0, dual[rows], 0.0)


def _without(
    documents: CountedDocuments, held_out: NDArray[np.bool_], strength: float, start: Floats, seed: int
) -> tuple[Floats, Floats]:
    """Train without some documents; return their margins, and the dual variables of all, 0 of those held out."""
    train, dual = np.flatnonzero(~held_out), np.zeros(start.shape)
    svms, dual[train] = train_svms(documents.take(train), strength, start[train], TOLERANCE, seed, FOLD_PASSES)
    return svms.margins(documents.take(np.flatnonzero(held_out))), dual
