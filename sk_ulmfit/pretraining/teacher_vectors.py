"""A teacher's vectors of many texts, in files of 8 bits a number: written block by block, opened memory-mapped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sk_ulmfit.nn.device import resolve_device
from sk_ulmfit.pretraining.interrupt import postponed_interrupt
from sk_ulmfit.pretraining.log import Say, clock
from sk_ulmfit.pretraining.loop import LOG_SECONDS
from sk_ulmfit.pretraining.passage_files import block_sizes, written
from sk_ulmfit.pretraining.settings import PretrainingError
from sk_ulmfit.pretraining.worker_settings import WorkerSettings
from sk_ulmfit.text.workers import Workers, n_processes
from sk_ulmfit.training.teacher import FolderTeacher, Teacher

PASSAGE_VECTORS, WORD_VECTORS = "vectors", "word-vectors"


class TeacherVectors:
    """Vectors on disk, (n, n_dims), as a matrix: rows that are read come as float32, scaled to length 1.

    A row that is zero, such as that of a special token, stays zero.
    """

    def __init__(self, blocks: Sequence[NDArray[np.int8]]):
        self.blocks = blocks
        self._ends = np.cumsum([len(block) for block in blocks])

    @property
    def shape(self) -> tuple[int, int]:
        """Number of vectors, and of their dimensions."""
        return int(self._ends[-1]), self.blocks[0].shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.integer[Any]] | slice) -> NDArray[np.float32]:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        numbers = np.searchsorted(self._ends, rows, side="right")  # (n,), of the block of each row
        vectors = np.empty((len(rows), self.shape[1]), np.float32)
        for number in np.unique(numbers):
            here = numbers == number
            block = self.blocks[number]
            vectors[here] = block[rows[here] - (self._ends[number] - len(block))]
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(lengths, np.float32(1e-30))


def write_vectors(
    folder: Path,
    kind: str,
    n_texts: int,
    texts_of: Callable[[int], Sequence[str | None]],
    teacher: Teacher,
    say: Say,
    workers: WorkerSettings = WorkerSettings(),  # noqa: B008 (frozen)
) -> TeacherVectors:
    """Write the vectors of the blocks of texts that have none yet, or a damaged file; return all.

    `texts_of` returns the texts of a block; the vector of None is zero. After Ctrl-C or SIGTERM, blocks in progress
    are dropped and KeyboardInterrupt raised. The teacher is not loaded if the files of all blocks are there.
    """
    sizes = block_sizes(n_texts)
    files = vector_files(folder, kind, n_texts)
    n_dims = _stored_dims(files) or teacher.n_dims
    shapes = [(size, n_dims) for size in sizes]
    missing = [block for block, file in enumerate(files) if _open(file, shapes[block], say) is None]
    progress = _Progress(kind.replace("-", " "), n_texts, sum(sizes[block] for block in missing), say)
    with postponed_interrupt() as interrupted:

        def after_batch(n: int) -> None:
            progress.add(n)
            if interrupted():
                raise KeyboardInterrupt

        for block, vectors in _vectors_of_blocks(missing, texts_of, teacher, workers, after_batch):
            with written(files[block]) as file:
                np.save(file, vectors)
    blocks = [_open(file, shape, say) for file, shape in zip(files, shapes, strict=True)]
    if any(block is None for block in blocks):
        raise PretrainingError(f"Files in {folder} were changed while the run wrote them; start again.")
    return TeacherVectors([block for block in blocks if block is not None])


def vector_files(folder: Path, kind: str, n_texts: int) -> list[Path]:
    """Return the files of the blocks of vectors, in the order in which they are written."""
    return [folder / f"{kind}-{block:05d}.npy" for block in range(len(block_sizes(n_texts)))]


def _stored_dims(files: Sequence[Path]) -> int | None:
    """Return the number of dimensions of the vectors in files; None if one is missing or damaged, or they differ."""
    try:
        (n_dims,) = {np.load(file, mmap_mode="r").shape[1] for file in files}
    except (OSError, EOFError, ValueError, IndexError):  # ValueError also of several numbers
        return None
    return int(n_dims)


def _open(path: Path, shape: tuple[int, int], say: Say) -> NDArray[np.int8] | None:
    """Return the vectors in a file, memory-mapped; None if there are none of this shape."""
    try:
        vectors = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError):
        vectors = np.empty(0)
    if vectors.shape == shape and vectors.dtype == np.int8:
        return vectors
    say(f"{path} is damaged; its vectors are computed again")
    return None


def _vectors_of(
    texts: Sequence[str | None], teacher: Teacher, after_batch: Callable[[int], None]
) -> NDArray[np.float32]:
    rows = [row for row, text in enumerate(texts) if text is not None]
    vectors = np.zeros((len(texts), teacher.n_dims), np.float32)
    vectors[rows] = teacher.vectors([text for text in texts if text is not None], after_batch)
    return vectors


def _in_8_bits(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Round each row to 8 bits, its largest entry to 127, which keeps its direction."""
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    return np.rint(vectors * (127 / np.where(largest, largest, 1))).astype(np.int8)


@dataclass(frozen=True)
class BlockTask:
    """A block of texts for the teacher in a folder, which a worker loads itself."""

    block: int
    texts: Sequence[str | None]
    folder: Path
    fingerprint: str
    device: str
    n_threads: int | None


def _vectors_of_blocks(
    blocks: Sequence[int],
    texts_of: Callable[[int], Sequence[str | None]],
    teacher: Teacher,
    settings: WorkerSettings,
    after_batch: Callable[[int], None],
) -> Iterator[tuple[int, NDArray[np.int8]]]:
    """Yield the vectors of blocks, in any order; a function, and a model on a GPU of this machine, read here."""
    is_local = not settings.is_remote
    if not isinstance(teacher, FolderTeacher) or (is_local and teacher.device != "cpu"):
        settings = WorkerSettings()
    with settings.started() as workers:
        if type(workers) is Workers:
            for block in blocks:
                yield block, _in_8_bits(_vectors_of(texts_of(block), teacher, after_batch))
            return
        assert isinstance(teacher, FolderTeacher)
        place = (teacher.folder.absolute(), teacher.fingerprint, "cpu" if is_local else "auto")
        n_threads = max(1, n_processes(-1) // workers.n) if is_local else None
        tasks = (BlockTask(block, texts_of(block), *place, n_threads) for block in blocks)
        for block, vectors in workers.run(read_block, tasks):
            after_batch(len(vectors))
            yield block, vectors


def read_block(task: BlockTask) -> tuple[int, NDArray[np.int8]]:
    """Return the number of a block and the vectors of its texts, in a process of a worker."""
    if task.n_threads is not None:
        torch.set_num_threads(task.n_threads)
    teacher = _teacher_of_worker(task.folder, task.device)
    if teacher.fingerprint != task.fingerprint:
        raise PretrainingError(f"{task.folder} holds another model for a worker than here; put the same one there.")
    return task.block, _in_8_bits(_vectors_of(task.texts, teacher, lambda n: None))


@lru_cache(maxsize=1)
def _teacher_of_worker(folder: Path, device: str) -> Teacher:
    return FolderTeacher(folder, resolve_device(device))


class _Progress:
    """Lines of progress: how many vectors are done, how many a second, and the time left."""

    def __init__(self, what: str, n_all: int, n_left: int, say: Say):
        self.what, self.n_all, self.n_left, self.say = what, n_all, n_left, say
        self.n_computed, self.start = 0, time.monotonic()
        self.said = self.start

    def add(self, n: int) -> None:
        self.n_computed += n
        now = time.monotonic()
        if now - self.said < LOG_SECONDS:
            return
        self.said = now
        speed = self.n_computed / (now - self.start)
        left = self.n_left - self.n_computed
        self.say(
            f"{self.what}: {self.n_all - left:,} of {self.n_all:,}, {speed:,.0f} a second, {clock(left / speed)} left"
        )
