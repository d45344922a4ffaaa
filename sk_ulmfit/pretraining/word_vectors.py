"""The teacher's vectors of the words of the vocabulary, and the embedding that a model starts with from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.pretraining.log import Say
from sk_ulmfit.pretraining.passage_files import block_of, read_json, write_json
from sk_ulmfit.pretraining.principal_components import Vectors
from sk_ulmfit.pretraining.teacher_vectors import WORD_VECTORS, TeacherVectors, write_vectors
from sk_ulmfit.pretraining.worker_settings import WorkerSettings
from sk_ulmfit.text.vocabulary import RESERVED, Vocabulary
from sk_ulmfit.training.components import Components
from sk_ulmfit.training.teacher import Teacher

WORDS = "words.json"
EMBEDDING_SCALE = 0.15  # root mean square of the entries of the first embedding
RARE = 1e-3  # relative frequency at which a word counts half in the mean of the embedded words


def prepare_word_vectors(
    folder: Path,
    vocabulary: Vocabulary,
    teacher: Teacher,
    say: Say,
    workers: WorkerSettings = WorkerSettings(),  # noqa: B008 (frozen)
) -> TeacherVectors:
    """Return the teacher's vector of each word of a vocabulary; those of special tokens and fillers are zero.

    Vectors of another vocabulary are replaced.
    """
    made_from = {"vocabulary": hashlib.blake2b(vocabulary.to_json().encode(), digest_size=16).hexdigest()}
    if read_json(folder / WORDS) != made_from:
        for file in folder.glob(f"{WORD_VECTORS}-*.npy"):
            file.unlink()
        write_json(folder / WORDS, made_from)
    words = [_spelled(word) for word in vocabulary.words]

    def words_of(block: int) -> Sequence[str | None]:
        return block_of(words, block)

    return write_vectors(folder, WORD_VECTORS, len(words), words_of, teacher, say, workers)


def _spelled(word: str) -> str | None:
    """Return a word of a vocabulary as it stands in texts; None for special tokens and fillers."""
    if RESERVED.fullmatch(word):
        return None
    if RESERVED.fullmatch(word[1:]):  # of a text that contains the name of a special token
        return word[1:]
    return word.replace("▁", " ").strip() or word


def start_of_embedding(
    word_vectors: Vectors,
    counts: NDArray[np.integer[Any]] | NDArray[np.floating[Any]],
    components: Components,
    emb_dim: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the embedding of words, (n_words, emb_dim), and the weight of each word in a mean, (n_words, 1).

    The embedding of a word is the teacher's vector of it, centred and in principal components; random numbers fill
    dimensions that the teacher does not have. A word of relative frequency p weighs ``RARE / (RARE + p)``, as in SIF
    (Arora et al. 2017). A row of `word_vectors`, (n_words, n_dims), that is zero belongs to a special token: its
    embedding is random and its weight 0. `counts`, (n_words,), tell how often each word occurs.
    """
    word_vectors = word_vectors[:]
    is_word = word_vectors.any(axis=1)
    embedding = rng.normal(0, EMBEDDING_SCALE, (len(word_vectors), emb_dim)).astype(np.float32)
    words = word_vectors[is_word]
    reduced = (words - words.mean(axis=0)) @ components.matrix[:, :emb_dim]  # (n, n_components)
    reduced *= EMBEDDING_SCALE / np.sqrt(np.mean(reduced**2))
    embedding[is_word, : reduced.shape[1]] = reduced
    frequency = counts / counts.sum()
    weight = np.where(is_word, RARE / (RARE + frequency), 0)
    return embedding, weight[:, None].astype(np.float32)
