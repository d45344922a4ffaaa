"""What the training reads of a teacher's data: batches of passages with targets, and the first embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sk_ulmfit.models.state import ModelState
from sk_ulmfit.nn.losses import cosine_distance
from sk_ulmfit.pretraining.log import RunLog
from sk_ulmfit.pretraining.principal_components import components
from sk_ulmfit.pretraining.settings import PretrainingSettings
from sk_ulmfit.pretraining.teacher_data import TeacherData
from sk_ulmfit.pretraining.trainer import Start
from sk_ulmfit.pretraining.word_vectors import start_of_embedding
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.components import Components, targets
from sk_ulmfit.training.passage_batches import PassageBatches, Targets
from sk_ulmfit.training.text_vectors import text_vectors

MOST_HELD_OUT = 2_000  # passages


@dataclass(frozen=True)
class Distillation:
    """Batches of passages, what the teacher says of the words, and the passages that are held out.

    `components` are those of the targets, at most as many as the embedding has dimensions. `held_out` are indices of
    the `passages`; `target_of` gives the vectors that passages should get.
    """

    components: Components
    batches: PassageBatches
    start: Start
    passages: TokenIds
    held_out: NDArray[np.int64]
    target_of: Targets


def make_distillation(taught: TeacherData, vocabulary: Vocabulary, settings: PretrainingSettings) -> Distillation:
    """Return what the training reads; the last passages are held out."""
    assert settings.passage_tokens is not None
    n_passages = len(taught.passages)
    n_held_out = min(int(n_passages * settings.validation_fraction), MOST_HELD_OUT)
    in_components = components(taught.vectors, settings.emb_dim)

    def target_of(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return targets(taught.vectors[rows], in_components)  # (n, dim)

    counts = np.bincount(taught.passages.ids, minlength=len(vocabulary)) + 1
    rng = np.random.default_rng(settings.seed)
    embedding, word_weight = start_of_embedding(taught.word_vectors, counts, in_components, settings.emb_dim, rng)
    log_frequency = np.log(counts / counts.sum()).astype(np.float32)
    batches = PassageBatches(
        taught.passages,
        target_of,
        settings.passage_tokens,
        vocabulary.pad,
        settings.seed,
        np.arange(n_passages - n_held_out),
    )
    start = Start(embedding, word_weight, log_frequency)
    held_out = np.arange(n_passages - n_held_out, n_passages)
    return Distillation(in_components, batches, start, taught.passages, held_out, target_of)


def held_out_cosine(state: ModelState, distillation: Distillation, device: str, log: RunLog) -> float:
    """Log and return the mean cosine similarity of held-out passages to the teacher's vectors."""
    vectors = torch.from_numpy(
        text_vectors(state, distillation.passages.take(distillation.held_out), device, "float32")
    )
    wanted = torch.from_numpy(distillation.target_of(distillation.held_out))
    cosine = 1 - float(cosine_distance(vectors, wanted))
    log.write(event="end", held_out_passages=len(wanted), held_out_cosine=cosine)
    log.say(f"held-out cosine similarity to the teacher {cosine:.3f} ({len(wanted):,} passages)")
    return cosine
