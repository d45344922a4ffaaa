"""Shards of a corpus: token numbers and word counts of some of its documents, each in a file of its own.

The numbers of a shard are those of its own words. A shard is written completely or not at all, so whoever starts again
goes on with those that are missing.
"""

from __future__ import annotations

import itertools
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._files import atomic_write
from sk_ulmfit._messages import short_text
from sk_ulmfit.text.documents import CorpusError
from sk_ulmfit.text.encoding import text_blocks
from sk_ulmfit.text.parts import Group
from sk_ulmfit.text.tokenizer import numbering, tokenize_corpus

DONE = "done.json"  # written last, in the folder of a group
_CHARACTERS = 2**28  # of a shard, at most, and the rest of a block of texts


@dataclass(frozen=True)
class Shard:
    """A file of token numbers, and what is in it."""

    path: Path
    n_documents: int
    n_characters: int
    n_tokens: int


@dataclass(frozen=True)
class GroupTask:
    """The documents of a group, to be written as shards into a folder of its own."""

    group: Group
    folder: Path
    field: str
    language: str
    n_buckets: int


@dataclass(frozen=True)
class TextsTask:
    """Texts that are one shard."""

    path: Path
    texts: list[str]
    language: str
    n_buckets: int


def do_task(task: GroupTask | TextsTask) -> tuple[Path, list[Shard]]:
    """Write the shards of a task that are missing; return their folder and all of them."""
    if isinstance(task, TextsTask):
        return task.path.parent, [write_shard(task.path, [task.texts], task.language, task.n_buckets)]
    task.folder.mkdir(exist_ok=True)
    blocks = text_blocks(task.group.documents(task.field))
    shards = []
    for number, some in enumerate(_joined(blocks, 0 if task.group.is_large else _CHARACTERS)):
        path = shard_file(task.folder, number)
        shard = open_shard(path)
        if shard is None:
            shard = write_shard(path, some, task.language, task.n_buckets)
        for _ in some:  # of a shard that is there
            pass
        shards.append(shard)
    finish_group(task.folder, shards)
    return task.folder, shards


def hand_out(task: GroupTask) -> Iterator[TextsTask]:
    """Yield the texts of the shards of a large group that are missing."""
    task.folder.mkdir(exist_ok=True)
    for number, texts in enumerate(text_blocks(task.group.documents(task.field))):
        path = shard_file(task.folder, number)
        if open_shard(path) is None:
            yield TextsTask(path, texts, task.language, task.n_buckets)


def _joined(blocks: Iterator[list[str]], n_characters: int) -> Iterator[Iterator[list[str]]]:
    """Yield iterators over consecutive blocks, each of about `n_characters` characters and at least one block."""

    def some(first: list[str]) -> Iterator[list[str]]:
        n = 0
        for block in itertools.chain([first], blocks):
            yield block
            n += sum(map(len, block))
            if n >= n_characters:
                return

    for first in blocks:
        yield some(first)


def shard_file(folder: Path, number: int) -> Path:
    """Return the file of a shard in the folder of its group."""
    return folder / f"{number:05d}.npz"


def write_shard(path: Path, blocks: Iterable[list[str]], language: str, n_buckets: int) -> Shard:
    """Tokenize blocks of texts into one shard; its words are in the order of their buckets."""
    index = numbering()
    numbers: list[NDArray[Any]] = [np.zeros(0, np.int32)]
    lengths = [np.zeros(0, np.int64)]
    n_characters = 0
    for texts in blocks:
        corpus, words = tokenize_corpus(texts, language)
        numbers.append(np.fromiter(map(index.__getitem__, words), np.int32, len(words))[corpus.ids])
        lengths.append(corpus.lengths)
        n_characters += sum(map(len, texts))
    words, place, edges = _in_buckets(list(index), n_buckets)
    counts = np.zeros(len(words), np.int64)
    for part, of_part in enumerate(numbers):  # one after the other, which saves memory
        numbers[part] = place[of_part]
        counts += np.bincount(numbers[part], minlength=len(words))
    arrays: dict[str, NDArray[Any]] = {"numbers": np.concatenate(numbers), "lengths": np.concatenate(lengths)}
    for bucket, (begin, end) in enumerate(itertools.pairwise(edges)):
        arrays[f"words-{bucket}"] = np.frombuffer("\n".join(words[begin:end]).encode(), np.uint8)
        arrays[f"counts-{bucket}"] = counts[begin:end]
    shard = Shard(path, len(arrays["lengths"]), n_characters, len(arrays["numbers"]))
    arrays["sizes"] = np.array([shard.n_documents, shard.n_characters, shard.n_tokens])
    with atomic_write(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return shard


def _in_buckets(words: list[str], n_buckets: int) -> tuple[list[str], NDArray[Any], list[int]]:
    """Return words in the order of their buckets, the place of each given word there, and where the buckets begin."""
    buckets = np.fromiter((bucket_of(word, n_buckets) for word in words), np.int64, len(words))
    order = np.argsort(buckets, kind="stable")  # (n_words,)
    place = np.empty(len(words), np.uint16 if len(words) <= 2**16 else np.int32)
    place[order] = np.arange(len(words))
    edges = np.searchsorted(buckets[order], np.arange(n_buckets + 1))
    return [words[number] for number in order.tolist()], place, edges.tolist()


def bucket_of(word: str, n_buckets: int) -> int:
    """Return the bucket of a word, the same in all shards."""
    return zlib.crc32(word.encode()) % n_buckets


def read_shard(path: Path, *names: str) -> list[NDArray[Any]]:
    """Return arrays of a shard; raise CorpusError if the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise CorpusError(
            f"The shard {path} is damaged ({short_text(error)}); delete it and start again, which writes it anew."
        ) from None


def words_of(path: Path, bucket: int) -> tuple[list[str], NDArray[np.int64]]:
    """Return the words of a shard in a bucket, and how often each occurs."""
    text, counts = read_shard(path, f"words-{bucket}", f"counts-{bucket}")
    return _words(text), counts


def all_words(path: Path, n_buckets: int) -> list[str]:
    """Return the words of a shard, in the order of their numbers."""
    texts = read_shard(path, *(f"words-{bucket}" for bucket in range(n_buckets)))
    return [word for text in texts for word in _words(text)]


def _words(text: NDArray[np.uint8]) -> list[str]:
    return text.tobytes().decode().split("\n") if len(text) else []


def open_shard(path: Path) -> Shard | None:
    """Return a shard that has been written; None if there is none."""
    if not path.exists():
        return None
    (sizes,) = read_shard(path, "sizes")
    return Shard(path, *sizes.tolist())


def finish_group(folder: Path, shards: list[Shard]) -> None:
    """Note that all shards of a group have been written."""
    rows = [{**asdict(shard), "path": shard.path.name} for shard in shards]
    with atomic_write(folder / DONE) as file:
        file.write(json.dumps(rows, indent=1).encode())


def handed_out(folder: Path) -> list[Shard]:
    """Return the shards that have been written of a group which is handed out."""
    paths = itertools.takewhile(Path.exists, (shard_file(folder, number) for number in itertools.count()))
    return [shard for shard in map(open_shard, paths) if shard is not None]


def finished_group(folder: Path) -> list[Shard] | None:
    """Return the shards of a group; None if one is missing."""
    try:
        rows = json.loads((folder / DONE).read_text(encoding="utf-8"))
        shards = [Shard(**{**row, "path": folder / row["path"]}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return shards if all(shard.path.exists() for shard in shards) else None
