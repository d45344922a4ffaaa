"""A corpus as token ids on disk: written once, then opened as memory-mapped arrays."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._files import atomic_write
from sk_ulmfit.text.corpora import Corpora, CorpusPart
from sk_ulmfit.text.counting import VocabularySettings, choose_vocabulary, n_buckets_of
from sk_ulmfit.text.documents import IDS, INFO, OFFSETS, VOCABULARY, CorpusError
from sk_ulmfit.text.encoding import TOKENS_AT_ONCE, Report, reversed_blocks
from sk_ulmfit.text.joining import write_ids, write_offsets
from sk_ulmfit.text.parts import group_files
from sk_ulmfit.text.sharding import N_BUCKETS_OF_STREAMS, group_tasks, shard_folder, tokenize_groups, tokenize_streams
from sk_ulmfit.text.shards import Shard
from sk_ulmfit.text.tokenizer import TOKENIZER_VERSION
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.text.workers import Workers, local_workers

BACKWARD_IDS = "ids-backward.npy"
CHECKSUM, CHECKSUMS = "checksum", "checksums"  # in corpus.json: of itself, and of the other files by name
_BYTES_AT_ONCE = 2**24
_MISMATCH = "its contents do not match its checksum"
_INFO = {
    **dict.fromkeys(("language", "source", "field", "digest"), str),
    **dict.fromkeys(("n_documents", "n_characters", "n_tokens", "n_unknown", "vocab_size", "min_frequency"), int),
}  # types in corpus.json


@dataclass(frozen=True)
class PackedCorpus:
    """One corpus or several as token ids on disk.

    `tokens` are memory-mapped, 16 bits wide where the vocabulary allows. `info` has ``language``, ``source``,
    ``n_documents``, ``n_tokens``, ``n_unknown``, ``digest``, the arguments of `pack_corpus`, the version of the
    ``tokenizer`` and, of several corpora, ``corpora`` and ``weights``.
    """

    tokens: TokenIds
    vocabulary: Vocabulary
    info: dict[str, Any]

    @property
    def corpora(self) -> Corpora:
        """The corpora, whose documents follow one another in `tokens`."""
        return Corpora.from_info(self.info)


def pack_corpus(
    documents: Iterable[str],
    folder: str | os.PathLike[str],
    *,
    language: str = "en",
    vocab_size: int = 30_000,
    min_frequency: int = 3,
    n_jobs: int | None = None,
    source: str = "",
    field: str = "",
    report: Report | None = None,
) -> None:
    """Tokenize the documents of one corpus, called `source`, as `pack_corpora` does."""
    pack_corpora(
        [(source, documents)],
        folder,
        language=language,
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        n_jobs=n_jobs,
        field=field,
        report=report,
    )


def pack_corpora(
    corpora: Sequence[tuple[str, Iterable[str]]],
    folder: str | os.PathLike[str],
    *,
    weights: Sequence[float] | None = None,
    language: str = "en",
    vocab_size: int = 30_000,
    min_frequency: int = 3,
    n_jobs: int | None = None,
    field: str = "",
    report: Report | None = None,
) -> None:
    """Tokenize corpora, given as source and documents, into a new folder of memory-mapped files or not at all.

    Memory stays bounded: documents are read in blocks. With `weights`, one for each corpus, the vocabulary has the most
    frequent words of a text in which each corpus has its share. Words that occur less often than `min_frequency` become
    ``xxunk``. Sources and `field`, where the texts come from, are kept in `PackedCorpus.info`. Raises CorpusError if
    the folder exists or cannot be written, or a corpus has no documents.
    """
    settings = VocabularySettings(language, vocab_size, min_frequency, None if weights is None else tuple(weights))
    with local_workers(n_jobs) as workers, _new_folder(Path(folder)) as part:
        with tempfile.TemporaryDirectory(dir=part) as work:
            sources = [source for source, _ in corpora]
            shards = tokenize_streams([texts for _, texts in corpora], Path(work), language, workers, report)
            info = _write_packed(shards, sources, N_BUCKETS_OF_STREAMS, part, settings, workers)
        _write_info(info, shards, sources, settings, field, part)


def pack_files(
    corpora: Sequence[tuple[str, Sequence[Path]]],
    folder: Path,
    work: Path,
    settings: VocabularySettings,
    field: str,
    workers: Workers,
    report: Report | None = None,
    resumed: Report | None = None,
) -> None:
    """Tokenize the files of corpora, given as source and files, into a new folder, as `pack_corpora` does.

    Shards are kept in the folder `work` until all is done: whoever starts again goes on with those that are missing,
    and `resumed` is told of those that are there. The result does not depend on the workers. Raises CorpusError also if
    the shards are those of something else.
    """
    sources = [source for source, _ in corpora]
    groups = group_files([files for _, files in corpora])
    n_buckets = n_buckets_of(sum(part.n_bytes for group in groups for part in group.parts))
    with _new_folder(folder) as part:
        made_from = {"language": settings.language, "field": field, "corpora": sources, "buckets": n_buckets}
        with shard_folder(work, made_from):
            tasks = group_tasks(groups, work, field, settings.language, n_buckets)
            shards = tokenize_groups(tasks, len(corpora), workers, report, resumed)
        info = _write_packed(shards, sources, n_buckets, part, settings, workers)
        _write_info(info, shards, sources, settings, field, part)
    shutil.rmtree(work, ignore_errors=True)


def _write_info(
    info: dict[str, Any],
    shards: Sequence[Sequence[Shard]],
    sources: Sequence[str],
    settings: VocabularySettings,
    field: str,
    folder: Path,
) -> None:
    """Write the file that says what is in a folder of token ids."""
    n_unknown = info.pop("n_unknown")
    parts = tuple(
        CorpusPart(source, _sum(of_corpus, "n_documents"), _sum(of_corpus, "n_tokens"), unknown)
        for source, of_corpus, unknown in zip(sources, shards, n_unknown, strict=True)
    )
    info = {
        "n_documents": sum(part.n_documents for part in parts),
        "n_characters": sum(_sum(of_corpus, "n_characters") for of_corpus in shards),
        "n_tokens": sum(part.n_tokens for part in parts),
        "n_unknown": sum(n_unknown),
        **info,
        "language": settings.language,
        "vocab_size": settings.max_size,
        "min_frequency": settings.min_frequency,
        "source": ", ".join(sources),
        "field": field,
        "tokenizer": TOKENIZER_VERSION,
        **Corpora(parts, settings.weights).to_info(),
    }
    info[CHECKSUM] = _checksum([_canonical(info)])
    (folder / INFO).write_text(json.dumps(info, indent=1), encoding="utf-8")


def _sum(shards: Sequence[Shard], name: str) -> int:
    return sum(getattr(shard, name) for shard in shards)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`, which gets its name when the block ends without an exception."""
    if folder.exists():
        raise CorpusError(f"{folder} exists and is left alone; choose another name.")
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        yield part
        for file in part.iterdir():
            with file.open("r+b") as opened:
                os.fsync(opened.fileno())
        os.replace(part, folder)
    except OSError as error:
        raise CorpusError(f"{folder} could not be written ({error}); choose another place.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_packed(
    shards: Sequence[Sequence[Shard]],
    sources: Sequence[str],
    n_buckets: int,
    folder: Path,
    settings: VocabularySettings,
    workers: Workers,
) -> dict[str, Any]:
    """Write ids, offsets and vocabulary; return the digest, the checksums and the unknown words of each corpus."""
    _check_not_empty(sources, shards)
    vocabulary = choose_vocabulary(shards, n_buckets, settings, workers)
    (folder / VOCABULARY).write_text(vocabulary.to_json(), encoding="utf-8")
    n_unknown = write_ids(shards, n_buckets, folder / IDS, folder / VOCABULARY, vocabulary, workers)
    write_offsets(shards, folder / OFFSETS)
    offsets = np.load(folder / OFFSETS, mmap_mode="r")
    work: dict[str, Callable[[], str]] = {
        "digest": lambda: digest(vocabulary, np.load(folder / IDS, mmap_mode="r")),
        **{name: functools.partial(_checksum_of, folder / name) for name in (IDS, OFFSETS, VOCABULARY)},
        BACKWARD_IDS: lambda: _checksum(_backward_parts(folder, offsets)),  # of the file that is written when asked for
    }
    with ThreadPoolExecutor(min(workers.n, 3)) as threads:  # each reads all the ids
        found = dict(zip(work, threads.map(lambda compute: compute(), work.values()), strict=True))
    return {"digest": found.pop("digest"), CHECKSUMS: found, "n_unknown": n_unknown}


def _check_not_empty(sources: Sequence[str], shards: Sequence[Sequence[Shard]]) -> None:
    """Raise CorpusError if one of the corpora has no tokens."""
    for source, of_corpus in zip(sources, shards, strict=True):
        if not of_corpus:
            name = f" {source}" if len(sources) > 1 else ""
            raise CorpusError(
                f"The corpus{name} holds no text; give files with at least one document that is not empty."
            )


def _checksum_of(path: Path) -> str:
    return _checksum(_parts(path))


def digest(vocabulary: Vocabulary, ids: NDArray[Any]) -> str:
    """Return a checksum of a vocabulary and the ids of a corpus."""
    result = hashlib.blake2b(vocabulary.to_json().encode(), digest_size=16)
    for start in range(0, len(ids), TOKENS_AT_ONCE):
        result.update(ids[start : start + TOKENS_AT_ONCE].tobytes())
    return result.hexdigest()


def _checksum(parts: Iterable[bytes]) -> str:
    result = hashlib.blake2b(digest_size=16)
    for part in parts:
        result.update(part)
    return result.hexdigest()


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(_BYTES_AT_ONCE):
            yield part


def _canonical(info: dict[str, Any]) -> bytes:
    """Return what `info` says, whatever the layout of its file, without its checksum."""
    return json.dumps({name: value for name, value in info.items() if name != CHECKSUM}, sort_keys=True).encode()


def _backward_parts(folder: Path, offsets: NDArray[np.int64]) -> Iterator[bytes]:
    """Yield the bytes of the file of the documents reversed: its header is that of the ids."""
    ids = np.load(folder / IDS, mmap_mode="r")
    with (folder / IDS).open("rb") as file:
        yield file.read(ids.offset)
    for block in reversed_blocks(ids, offsets):
        yield block.tobytes()


def packed_info(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return `PackedCorpus.info` without opening the ids; raise CorpusError if it cannot be read or is damaged."""
    path = Path(folder) / INFO
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, " ".join(str(error).split())[:100]) from None
    if isinstance(info, dict) and info.keys() == _INFO.keys():
        raise CorpusError(
            f"The token ids in {folder} were written by an earlier version of sk_ulmfit, without checksums; remove the "
            "folder and start again, which tokenizes the corpus anew."
        )
    if not isinstance(info, dict) or info.get(CHECKSUM) != _checksum([_canonical(info)]):
        raise _damaged(path, _MISMATCH)
    names = {IDS, OFFSETS, VOCABULARY, BACKWARD_IDS}
    checksums = info.get(CHECKSUMS)
    is_whole = isinstance(checksums, dict) and names <= checksums.keys()
    if not is_whole or any(type(info.get(name)) is not expected for name, expected in _INFO.items()):
        raise _damaged(path, "an entry is missing or of another type")
    try:
        Corpora.from_info(info)
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    return info


def open_packed(folder: str | os.PathLike[str], backward: bool = False) -> PackedCorpus:
    """Open what `pack_corpus` wrote, without loading the ids into memory.

    The checksum of every file is compared first, which reads each once. With `backward`, the documents are reversed;
    their ids are written to a second file when first asked for. Raises CorpusError if the folder holds no packed corpus
    or a damaged one.
    """
    folder = Path(folder)
    info = packed_info(folder)
    for name in (VOCABULARY, OFFSETS, IDS):
        _check_file(folder / name, info)
    try:
        vocabulary = Vocabulary.from_json((folder / VOCABULARY).read_text(encoding="utf-8"))
        offsets = np.load(folder / OFFSETS)
        ids = np.load(folder / IDS, mmap_mode="r")
    except (OSError, EOFError, ValueError) as error:
        raise _damaged(folder, " ".join(str(error).split())[:100]) from None
    _check_together(folder, vocabulary, ids, offsets, info)
    if backward:
        ids = _backward_ids(folder, offsets, info)
    return PackedCorpus(TokenIds(ids, offsets), vocabulary, info)


def _check_file(path: Path, info: dict[str, Any]) -> None:
    """Raise CorpusError unless a file is byte for byte what was written."""
    try:
        actual = _checksum(_parts(path))
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from None
    if actual != info[CHECKSUMS][path.name]:
        raise _damaged(path, _MISMATCH)


def _check_together(
    folder: Path, vocabulary: Vocabulary, ids: NDArray[Any], offsets: NDArray[Any], info: dict[str, Any]
) -> None:
    """Raise CorpusError unless the offsets are those of documents in the ids, and the ids those of words."""
    if ids.ndim != 1 or ids.dtype not in (np.uint16, np.int32) or len(ids) != info["n_tokens"]:
        raise _damaged(folder / IDS, f"dtype {ids.dtype}, shape {ids.shape}")
    is_counted = offsets.shape == (info["n_documents"] + 1,) and offsets.dtype == np.int64
    if not is_counted or offsets[0] != 0 or offsets[-1] != len(ids) or (np.diff(offsets) < 1).any():
        raise _damaged(folder / OFFSETS, "these are not the begins of documents")
    for start in range(0, len(ids), TOKENS_AT_ONCE):
        block = ids[start : start + TOKENS_AT_ONCE]
        if block.min() < 0 or block.max() >= len(vocabulary):
            raise _damaged(folder / IDS, f"ids beyond the {len(vocabulary)} words of the vocabulary")


def _damaged(path: Path, reason: str) -> CorpusError:
    what = "the file" if path.name == BACKWARD_IDS else "the folder"  # which is written again from the ids
    return CorpusError(f"The token ids are damaged: {path} ({reason}). Remove {what} and start again.")


def _backward_ids(folder: Path, offsets: NDArray[np.int64], info: dict[str, Any]) -> NDArray[Any]:
    path = folder / BACKWARD_IDS
    if not path.exists():
        try:
            with atomic_write(path) as file:
                file.writelines(_backward_parts(folder, offsets))
        except OSError as error:
            raise CorpusError(f"The ids for reading backward could not be written to {folder} ({error}).") from None
    _check_file(path, info)
    return np.load(path, mmap_mode="r")
