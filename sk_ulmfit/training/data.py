"""Texts with their targets and weights, checked: what an estimator learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._validation import check_weights
from sk_ulmfit.labels import are_named, check_labels, check_pos_weight, join_columns, warn_constant, warn_similar
from sk_ulmfit.text.streams import StreamedTexts, check_texts
from sk_ulmfit.training.task import Classification, Task

Texts = list[str] | StreamedTexts
Number = TypeVar("Number", np.float32, np.float64)


@dataclass(frozen=True)
class TrainingTexts:
    """Texts with targets, each of which is an output of the network.

    Attributes
    ----------
    texts : list of str or StreamedTexts
        n raw texts.
    y : ndarray, shape (n, K)
        Targets, NaN where unknown.
    names : list of length K
        Names of the targets.
    task : Task
        What is learned of them.
    document_weight : ndarray of float64, shape (n,), or None
        Weight of each text, 1 on average; None if all are equal.
    n_earlier : int
        How many of the outputs, the first ones, are those of an earlier fit that goes on.
    """

    kind: ClassVar[str]  # of the model that learns from them, as in a file
    outputs: ClassVar[str]  # what the targets are called

    texts: Texts
    y: NDArray[np.floating[Any]]
    names: list[Any]
    task: Task
    document_weight: NDArray[np.float64] | None = None
    n_earlier: int = 0

    @property
    def untrained(self) -> NDArray[np.bool_]:
        """Which outputs of an earlier fit have no known target now, so that what was learned stays, shape (K,)."""
        return np.isnan(self.y).all(axis=0) & (np.arange(self.y.shape[1]) < self.n_earlier)

    @property
    def strata(self) -> NDArray[np.floating[Any]]:
        """What a held-out part has in proportion: 0 and 1, NaN where unknown, shape (n, K)."""
        return self.y

    def weight_of(self, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Return the weights of some rows, None if all texts weigh the same."""
        return None if self.document_weight is None else self.document_weight[rows]


@dataclass(frozen=True)
class LabelledTexts(TrainingTexts):
    """Texts with labels: y is 0 and 1, float32."""

    kind = "classifier"
    outputs = "labels"

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Which labels are the same for all texts, or known of none, of which the user has been warned, shape (L,)."""
        return np.asarray((self.y == 1).any(axis=0) != (self.y == 0).any(axis=0)) | np.isnan(self.y).all(axis=0)

    @property
    def every_text_has_label(self) -> bool:
        """Whether each text whose labels are all known has one of them; False if there is no such text."""
        y = self.y[:, ~self.untrained]
        known = y[~np.isnan(y).any(axis=1)]
        return len(known) > 0 and bool(known.any(axis=1).all())


def check_labelled_texts(
    X: Any, y: Any, sample_weight: Any = None, pos_weight: Any = None, earlier_names: Sequence[Any] | None = None
) -> LabelledTexts:
    """Check what ``fit`` of a classifier takes; texts of weight 0 are left out.

    Labels of an earlier fit that goes on come first, and are unknown where `y` has none of them.

    Raises
    ------
    ValueError
        If a text, a label or a weight is not valid, or their numbers differ.
    """
    texts = check_texts(X)
    indicator, names = check_labels(y)
    if len(texts) != len(indicator):
        raise ValueError(f"X has {len(texts)} texts, but y has {len(indicator)} rows; give one row of labels per text.")
    texts, indicator, weight = weigh_texts(texts, indicator, sample_weight)
    warn_constant(indicator, names)
    if earlier_names is not None:
        indicator, names = join_columns(indicator, names, earlier_names, named=are_named(y))
    warn_similar(names)
    pos_weight = check_pos_weight(pos_weight, indicator, names, weight)
    n_earlier = 0 if earlier_names is None else len(earlier_names)
    return LabelledTexts(texts, np.ascontiguousarray(indicator), names, Classification(pos_weight), weight, n_earlier)


def weigh_texts(
    texts: Texts, y: NDArray[Number], sample_weight: Any
) -> tuple[Texts, NDArray[Number], NDArray[np.float64] | None]:
    """Leave out the texts of weight 0; return the others, their rows of y, and weights of mean 1, None if all equal."""
    weight = check_weights(sample_weight, len(texts))
    if weight is None:
        return texts, y, None
    if not weight.all():
        counts = weight > 0
        texts = texts.chosen(counts) if isinstance(texts, StreamedTexts) else list(compress(texts, counts))
        y, weight = y[counts], weight[counts]
    return texts, y, None if (weight == weight[0]).all() else weight / weight.mean()


def mean_one(weight: NDArray[np.float64] | None) -> NDArray[np.float32] | None:
    """Scale weights to a mean of 1: only their ratios count."""
    return None if weight is None else (weight / weight.mean()).astype(np.float32)
