"""What a training of a frozen network leaves in memory, so that a fit that goes on begins where it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.training.data import TrainingTexts
from sk_ulmfit.training.linear_head import KeptHeads
from sk_ulmfit.training.linear_rounds import KeptSvms
from sk_ulmfit.training.ngrams import VocabularyNgrams

MOST_TEXTS = 5_000  # of more, a training begins anew
MOST_ENTRIES = 500_000  # so does one on more entries of labels: a document pushes the weights of all of them at once
GROWTH = 4  # so does one on so many times as many texts as those that the last such training had, or as few
FEWEST_TEXTS = 50  # and one on so few: what is chosen with them changes from fit to fit, and they take no time


class SeenTraining(NamedTuple):
    """A training that is over.

    Attributes
    ----------
    rows : dict of str to int
        Row of each text.
    y : ndarray, shape (n, K)
        Targets.
    names : list of length K
        Names of the targets.
    heads : KeptHeads or None
        Linear heads of the network.
    svms : KeptSvms or None
        SVMs of the linear model; None of values, and if words say nothing.
    ngrams : VocabularyNgrams or None
        N-grams of the vocabulary.
    shifts : mapping
        How far reduced precision moves the predictions.
    n_first : int
        Texts of the last training that began anew: strengths were chosen and shifts measured with them.
    """

    rows: dict[str, int]
    y: NDArray[np.floating[Any]]
    names: list[Any]
    heads: KeptHeads | None
    svms: KeptSvms | None
    ngrams: VocabularyNgrams | None
    shifts: Mapping[str, float]
    n_first: int


class TrainingStore:
    """What an earlier training has left, or None, and what this one leaves, None if nothing can go on from it.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,), or None
        Row of each text in the earlier training, -1 if the text or its targets are new. None if this training does not
        go on from it.
    heads, svms, ngrams
        Of this training, as in `SeenTraining`.
    """

    def __init__(self, earlier: SeenTraining | None = None):
        self.earlier = earlier
        self.kept: SeenTraining | None = None
        self.rows: NDArray[np.int64] | None = None
        self.heads: KeptHeads | None = None
        self.svms: KeptSvms | None = None
        self.ngrams: VocabularyNgrams | None = None

    def begin(self, data: TrainingTexts) -> None:
        """Look whether this training goes on from the earlier one, and which texts that has seen."""
        seen = self.earlier
        if seen is None or seen.names != data.names or not is_near(len(data.texts), seen.n_first):
            return
        rows = np.array([seen.rows.get(text, -1) for text in data.texts])
        before = seen.y[rows]
        is_same = ((before == data.y) | (np.isnan(before) & np.isnan(data.y))).all(axis=1)
        self.rows = np.where(is_same, rows, -1)

    @property
    def going_on_from(self) -> SeenTraining | None:
        """The earlier training, if this one goes on from it."""
        return None if self.rows is None else self.earlier

    def keep(self, data: TrainingTexts, shifts: Mapping[str, float]) -> None:
        """Keep what this training leaves."""
        rows = {text: row for row, text in enumerate(data.texts)}
        before = self.going_on_from
        n_first = len(data.texts) if before is None else before.n_first
        self.kept = SeenTraining(rows, data.y, data.names, self.heads, self.svms, self.ngrams, shifts, n_first)


def is_near(n: int, n_first: int) -> bool:
    """Tell whether what was chosen with `n_first` texts will do for `n` texts.

    Examples
    --------
    >>> from sk_ulmfit.training.rounds import is_near
    >>> [n for n in (50, 51, 399, 400) if is_near(n, 100)]
    [51, 399]
    """
    return n > FEWEST_TEXTS and n_first < GROWTH * n and n < GROWTH * n_first


def can_be_kept(data: TrainingTexts) -> bool:
    """Tell whether a later training can go on from one on these data."""
    is_simple = isinstance(data.texts, list) and data.document_weight is None and not data.untrained.any()
    return is_simple and len(data.texts) <= MOST_TEXTS and data.y.size <= MOST_ENTRIES
