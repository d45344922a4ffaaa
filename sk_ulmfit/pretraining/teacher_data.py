"""All that a run learns from a teacher, in one folder: made once, step by step, each of them resumable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sk_ulmfit.pretraining.log import Say
from sk_ulmfit.pretraining.passage_ids import prepare_passage_ids
from sk_ulmfit.pretraining.passages import PassageSettings
from sk_ulmfit.pretraining.teacher_folder import prepare_passages
from sk_ulmfit.pretraining.teacher_vectors import PASSAGE_VECTORS, TeacherVectors, write_vectors
from sk_ulmfit.pretraining.word_vectors import prepare_word_vectors
from sk_ulmfit.pretraining.worker_settings import WorkerSettings
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.teacher import Teacher


@dataclass(frozen=True)
class TeacherData:
    """Passages as token ids, the teacher's vectors of them, and those of the words of the vocabulary."""

    passages: TokenIds
    vectors: TeacherVectors
    word_vectors: TeacherVectors


def prepare_teacher_data(
    folder: Path,
    settings: PassageSettings,
    teacher: Teacher,
    vocabulary: Vocabulary,
    language: str,
    backward: bool,
    workers: WorkerSettings,
    say: Say,
) -> TeacherData:
    """Return what a folder holds of a run learns from its teacher, after making what is missing."""
    passages = prepare_passages(folder, settings, teacher, say)
    word_vectors = prepare_word_vectors(folder, vocabulary, teacher, say, workers)
    ids = prepare_passage_ids(passages, vocabulary, language, backward, workers.n_jobs, say)
    vectors = write_vectors(folder, PASSAGE_VECTORS, passages.n_passages, passages.texts_of, teacher, say, workers)
    return TeacherData(ids, vectors, word_vectors)
