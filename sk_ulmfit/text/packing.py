"""A corpus as token ids on disk: written once, then opened as memory-mapped arrays."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._files import atomic_write
from sk_ulmfit.text.corpora import Corpora, CorpusPart, shares
from sk_ulmfit.text.documents import IDS, INFO, OFFSETS, VOCABULARY, CorpusError
from sk_ulmfit.text.encoding import (
    TOKENS_AT_ONCE,
    NumberedCorpus,
    Report,
    number_documents,
    offsets_of,
    reversed_blocks,
)
from sk_ulmfit.text.tokenizer import TOKENIZER_VERSION
from sk_ulmfit.text.unknown_words import WordCount, warn_of_training_texts
from sk_ulmfit.text.vocabulary import BOS, TokenIds, Vocabulary

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

    Memory stays bounded: documents are read in blocks, and of more than three million distinct words the rarest are
    forgotten. With `weights`, one for each corpus, the vocabulary has the most frequent words of a text in which each
    corpus has its share. Words that occur less often than `min_frequency` become ``xxunk``. Sources and `field`, where
    the texts come from, are kept in `PackedCorpus.info`. Raises CorpusError if the folder exists or cannot be written,
    or a corpus has no documents.
    """
    sources = [source for source, _ in corpora]

    def choose(words: list[str], counts: NDArray[np.int64], n_tokens: NDArray[np.int64]) -> Vocabulary:
        _check_not_empty(sources, n_tokens)
        total = counts.sum(axis=0)
        vocabulary = Vocabulary.from_counts(
            words,
            total,
            max_size=vocab_size,
            min_frequency=min_frequency,
            weighted_counts=None if weights is None else _weighted_counts(counts, n_tokens, weights),
        )
        word_count = WordCount()
        word_count.add(int(total[words.index(BOS)]), words, total, vocabulary)
        warn_of_training_texts(word_count, language)
        return vocabulary

    with _new_folder(Path(folder)) as part:
        with tempfile.TemporaryFile(dir=part) as file:
            documents = [texts for _, texts in corpora]
            numbered = number_documents(documents, file, language, n_jobs, choose, report)
            info = _write_numbered(numbered, part)
        info |= {"language": language, "vocab_size": vocab_size, "min_frequency": min_frequency}
        info |= {"source": ", ".join(sources), "field": field, "tokenizer": TOKENIZER_VERSION}
        info |= _parts_of(numbered, sources, weights).to_info()
        info[CHECKSUM] = _checksum([_canonical(info)])
        (part / INFO).write_text(json.dumps(info, indent=1), encoding="utf-8")


def _check_not_empty(sources: Sequence[str], n_tokens: NDArray[np.int64]) -> None:
    """Raise CorpusError if one of the corpora has no tokens."""
    empty = np.flatnonzero(n_tokens == 0)
    if len(empty):
        name = f" {sources[empty[0]]}" if len(sources) > 1 else ""
        raise CorpusError(f"The corpus{name} holds no text; give files with at least one document that is not empty.")


def _weighted_counts(
    counts: NDArray[np.int64], n_tokens: NDArray[np.int64], weights: Sequence[float]
) -> NDArray[np.float64]:
    """Return how often each word occurs where each corpus has its share of the tokens, (n_words,)."""
    weighted = np.zeros(counts.shape[1])
    for factor, of_corpus in zip(shares(weights) * n_tokens.sum() / n_tokens, counts, strict=True):
        weighted += factor * of_corpus
    return weighted


def _parts_of(numbered: NumberedCorpus, sources: Sequence[str], weights: Sequence[float] | None) -> Corpora:
    numbers = zip(numbered.n_documents.tolist(), numbered.n_tokens.tolist(), numbered.n_unknown.tolist(), strict=True)
    parts = tuple(CorpusPart(source, *counts) for source, counts in zip(sources, numbers, strict=True))
    return Corpora(parts, None if weights is None else tuple(weights))


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


def _write_numbered(numbered: NumberedCorpus, folder: Path) -> dict[str, Any]:
    """Write ids, offsets and vocabulary; return the counts and the checksum for `PackedCorpus.info`."""
    n_tokens = int(numbered.n_tokens.sum())
    with (folder / IDS).open("wb") as file:
        _write_array(file, numbered.id_blocks(), numbered.ids_of_words.dtype, n_tokens)
    offsets = offsets_of(numbered.lengths)
    np.save(folder / OFFSETS, offsets)
    (folder / VOCABULARY).write_text(numbered.vocabulary.to_json(), encoding="utf-8")
    return {
        "n_documents": len(numbered.lengths),
        "n_characters": numbered.n_characters,
        "n_tokens": n_tokens,
        "n_unknown": int(numbered.n_unknown.sum()),
        "digest": digest(numbered.vocabulary, np.load(folder / IDS, mmap_mode="r")),
        CHECKSUMS: {
            **{name: _checksum(_parts(folder / name)) for name in (IDS, OFFSETS, VOCABULARY)},
            BACKWARD_IDS: _checksum(_backward_parts(folder, offsets)),  # of the file that is written when asked for
        },
    }


def _write_array(file: IO[bytes], blocks: Iterable[NDArray[Any]], dtype: np.dtype[Any], n: int) -> None:
    """Write n numbers in .npy format; unlike writing through a memory map, a full disk raises OSError."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n,)}
    np.lib.format.write_array_header_1_0(file, header)
    for block in blocks:
        file.write(block.tobytes())


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
