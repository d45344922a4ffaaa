"""The shards of corpora as one file of token ids and one of offsets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sk_ulmfit.text.encoding import narrowest_dtype
from sk_ulmfit.text.shards import Shard, all_words, read_shard
from sk_ulmfit.text.vocabulary import Vocabulary
from sk_ulmfit.text.workers import Workers


@dataclass(frozen=True)
class IdsTask:
    """A shard of a corpus, and from which byte of a file on its token ids are to be written."""

    shard: Shard
    corpus: int
    n_buckets: int
    file: Path
    begin: int
    vocabulary: Path
    dtype: str


def write_ids(
    shards: Sequence[Sequence[Shard]],
    n_buckets: int,
    file: Path,
    vocabulary_file: Path,
    vocabulary: Vocabulary,
    workers: Workers,
) -> list[int]:
    """Write the ids of all shards into one file in .npy format; return the number of unknown tokens of each corpus.

    Each worker writes into its own part of the file. Unlike writing through a memory map, a full disk raises OSError.
    """
    dtype = np.dtype(narrowest_dtype(vocabulary))
    n_tokens = sum(shard.n_tokens for of_corpus in shards for shard in of_corpus)
    with file.open("wb") as opened:
        _write_header(opened, dtype, n_tokens)
        begin = opened.tell()
        opened.truncate(begin + n_tokens * dtype.itemsize)

    def tasks() -> Iterator[IdsTask]:
        place = begin
        for corpus, of_corpus in enumerate(shards):
            for shard in of_corpus:
                yield IdsTask(shard, corpus, n_buckets, file, place, vocabulary_file, dtype.str)
                place += shard.n_tokens * dtype.itemsize

    n_unknown = [0] * len(shards)
    for corpus, n in workers.run(write_ids_of_shard, tasks()):
        n_unknown[corpus] += n
    return n_unknown


def write_ids_of_shard(task: IdsTask) -> tuple[int, int]:
    """Write the ids of a shard; return the number of its corpus, and of its unknown tokens."""
    vocabulary = Vocabulary.from_json(task.vocabulary.read_text(encoding="utf-8"))
    (numbers,) = read_shard(task.shard.path, "numbers")
    ids = vocabulary.lookup(all_words(task.shard.path, task.n_buckets)).astype(task.dtype)[numbers]
    with task.file.open("r+b") as file:
        file.seek(task.begin)
        file.write(ids.tobytes())
    return task.corpus, int((ids == vocabulary.unk).sum())


def write_offsets(shards: Sequence[Sequence[Shard]], file: Path) -> None:
    """Write where each document begins and the last one ends, (n_documents + 1,), in .npy format."""
    n_documents = sum(shard.n_documents for of_corpus in shards for shard in of_corpus)
    with file.open("wb") as opened:
        _write_header(opened, np.dtype(np.int64), n_documents + 1)
        opened.write(np.zeros(1, np.int64).tobytes())
        end = 0
        for of_corpus in shards:
            for shard in of_corpus:
                ends = end + np.cumsum(read_shard(shard.path, "lengths")[0], dtype=np.int64)
                opened.write(ends.tobytes())
                end += shard.n_tokens


def _write_header(file: Any, dtype: np.dtype[Any], n: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n,)}
    np.lib.format.write_array_header_1_0(file, header)
