"""Whether a teacher is the one that a language model has learned from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.models.state import ModelState
from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.components import Components, targets
from sk_ulmfit.training.teacher import Teacher
from sk_ulmfit.training.text_vectors import text_vectors

MOST_READ, MOST_COMPARED, FEWEST_COMPARED = 256, 64, 16  # passages
MOST_UNKNOWN = 0.1  # share of the words of a passage
# Mean cosine similarity of a model's vectors to its teacher's. Of an English model it was 0.68 to 0.74 on posts,
# abstracts and news, and 0.42 on German; to vectors whose dimensions were exchanged it was -0.03 to 0.06.
LOWEST_COSINE = 0.2


def check_dimensions(teacher: Teacher, components: Components) -> None:
    """Raise ValueError if a teacher's vectors have not as many dimensions as those that components were found in."""
    if teacher.n_dims != len(components.mean):
        raise ValueError(
            f"The teacher's vectors have {teacher.n_dims} dimensions, but the model to start from has learned from "
            f"another teacher, whose vectors have {len(components.mean)}; pass that one."
        )


def check_vectors(
    start: ModelState, passages: Sequence[str], teacher: Teacher, components: Components, device: str
) -> None:
    """Raise ValueError if a model gives passages vectors that have nothing to do with the teacher's.

    Passages with many unknown words are left out. If only a few remain, nothing is checked: the right teacher could be
    refused by chance.
    """
    rows = np.linspace(0, len(passages) - 1, min(len(passages), MOST_READ)).astype(int)
    corpus = start.encode([passages[row] for row in rows])
    known = np.flatnonzero(_unknown_shares(corpus, start.vocabulary.unk) <= MOST_UNKNOWN)[:MOST_COMPARED]
    if len(known) < FEWEST_COMPARED:
        return
    vectors = text_vectors(start, corpus.take(known), device, "float32")  # (n, dim), of length 1
    wanted = targets(teacher.vectors([passages[row] for row in rows[known]]), components)
    cosine = float((vectors * wanted).sum(axis=1).mean())
    if cosine < LOWEST_COSINE:
        raise ValueError(
            "The model to start from has learned from another teacher: its vectors do not fit those of this one (mean "
            f"cosine similarity {cosine:.2f}); pass the teacher that it has learned from, or teacher=None."
        )


def _unknown_shares(corpus: TokenIds, unknown: int) -> NDArray[np.float64]:
    """Return the share of unknown words in each document, (n,)."""
    return np.add.reduceat(corpus.ids == unknown, corpus.offsets[:-1], dtype=np.float64) / corpus.lengths
