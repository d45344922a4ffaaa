"""Texts with their targets and weights, checked: what an estimator learns from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._validation import check_weights
from sk_ulmfit.labels import check_labels, check_pos_weight, warn_constant, warn_similar
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
    """

    kind: ClassVar[str]  # of the model that learns from them, as in a file
    outputs: ClassVar[str]  # what the targets are called

    texts: Texts
    y: NDArray[np.floating[Any]]
    names: list[Any]
    task: Task
    document_weight: NDArray[np.float64] | None = None

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
    def every_text_has_label(self) -> bool:
        """Whether each text whose labels are all known has one of them; False if there is no such text."""
        known = self.y[~np.isnan(self.y).any(axis=1)]
        return len(known) > 0 and bool(known.any(axis=1).all())


def check_labelled_texts(X: Any, y: Any, sample_weight: Any = None, pos_weight: Any = None) -> LabelledTexts:
    """Check what ``fit`` of a classifier takes; texts of weight 0 are left out.

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
    warn_similar(names)
    pos_weight = check_pos_weight(pos_weight, indicator, names, weight)
    return LabelledTexts(texts, np.ascontiguousarray(indicator), names, Classification(pos_weight), weight)


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
