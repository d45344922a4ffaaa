"""What a language model learns from a teacher on texts of the user: passages, and the vectors that they should get."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sk_ulmfit.models.state import ModelState
from sk_ulmfit.nn.processes import current
from sk_ulmfit.text.encoding import encode_texts
from sk_ulmfit.text.passages import split_long
from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.text.vocabulary import Vocabulary
from sk_ulmfit.training.batching import StreamBatches
from sk_ulmfit.training.components import Components, targets
from sk_ulmfit.training.passage_batches import PassageBatches
from sk_ulmfit.training.progress import TEACHER, show_stage
from sk_ulmfit.training.same_teacher import check_dimensions, check_vectors
from sk_ulmfit.training.settings import LanguageModelSettings
from sk_ulmfit.training.teacher import Teacher


class TaughtPassages:
    """Passages as token ids, and their targets, (n, dim), from which batches are made."""

    def __init__(
        self,
        texts: Sequence[str] | StreamedTexts,
        teacher: Teacher,
        start: ModelState,
        vocabulary: Vocabulary,
        settings: LanguageModelSettings,
    ):
        """Cut texts of more than 200 words into passages and ask the teacher for their vectors.

        `start`, a model that has learned from a teacher, tells in which components; another teacher is refused.
        """
        components = cast(Components, Components.from_arrays(start.weights))
        check_dimensions(teacher, components)
        passages = [passage for text in texts for part in split_long(text) if (passage := teacher.readable(part))]
        if not passages:
            raise ValueError("The texts hold no words that the teacher could read; pass texts that have words.")
        backward = settings.direction == "backward"

        def ask() -> NDArray[np.float16]:
            check_vectors(start, passages, teacher, components, settings.device)
            with show_stage(TEACHER, len(passages), "passages", settings, backward) as advance:
                vectors = teacher.vectors(passages, advance)
            return targets(vectors, components).astype(np.float16)

        self.targets = current().from_first(ask)  # (n_passages, dim)
        self.corpus = encode_texts(passages, vocabulary, settings.language, settings.n_jobs, backward=backward)
        self.pad_id = vocabulary.pad

    def beside(self, streams: StreamBatches) -> JointBatches:
        """Return the windows of a stream, each with passages, so that an epoch reads about every passage once."""
        tokens_per_batch = -(-len(self.corpus.ids) // streams.n_batches(1))
        seed = 0 if streams.seed is None else streams.seed
        return JointBatches(streams, PassageBatches(self.corpus, self._targets_of, tokens_per_batch, self.pad_id, seed))

    def _targets_of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.targets[rows].astype(np.float32)


class JointBatches:
    """Windows of a stream, each with a batch of passages, which begin again when all were read.

    A batch is the input of a window, and a dict of all targets: "words" of the window, (batch, time), "passages" as
    input, and their "vectors", (n_passages, dim).
    """

    def __init__(self, streams: StreamBatches, passages: PassageBatches):
        self.streams = streams
        self._passages = itertools.chain.from_iterable(map(passages.batches, itertools.count()))

    def n_batches(self, n_epochs: int) -> int:
        """Count the batches of `n_epochs` epochs."""
        return self.streams.n_batches(n_epochs)

    def n_units(self, n_epochs: int) -> int:
        """Count the tokens of the windows of `n_epochs` epochs."""
        return self.streams.n_units(n_epochs)

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], dict[str, Any]]]:
        for (x, words), (passages, vectors) in zip(self.streams, self._passages, strict=False):
            yield x, {"words": words, "passages": passages, "vectors": vectors}
