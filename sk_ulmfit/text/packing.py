"""A corpus as token ids on disk: written once, then opened as memory-mapped arrays."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._files import atomic_write
from sk_ulmfit.text.documents import IDS, INFO, OFFSETS, VOCABULARY, CorpusError
from sk_ulmfit.text.encoding import (
    TOKENS_AT_ONCE,
    NumberedCorpus,
    Report,
    number_documents,
    offsets_of,
    reversed_blocks,
)
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary

BACKWARD_IDS = "ids-backward.npy"


@dataclass(frozen=True)
class PackedCorpus:
    """A corpus as token ids on disk.

    `tokens` are memory-mapped, 16 bits wide where the vocabulary allows. `info` has ``language``, ``source``,
    ``n_documents``, ``n_tokens``, ``n_unknown``, ``digest`` and the arguments of `pack_corpus`.
    """

    tokens: TokenIds
    vocabulary: Vocabulary
    info: dict[str, Any]


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
    """Tokenize documents into a new folder of memory-mapped files, completely or not at all.

    Memory stays bounded: documents are read in blocks, and of more than three million distinct words the rarest are
    forgotten. Words that occur less often than `min_frequency` become ``xxunk``. `source` and `field`, where the texts
    come from, are kept in `PackedCorpus.info`. Raises CorpusError if the folder exists or cannot be written, or there
    are no documents.
    """

    def choose(words: list[str], counts: NDArray[np.int64]) -> Vocabulary:
        return Vocabulary.from_counts(words, counts, max_size=vocab_size, min_frequency=min_frequency)

    with _new_folder(Path(folder)) as part:
        with tempfile.TemporaryFile(dir=part) as file:
            numbered = number_documents(documents, file, language, n_jobs, choose, report)
            info = _write_numbered(numbered, part)
        info |= {"language": language, "vocab_size": vocab_size, "min_frequency": min_frequency}
        info |= {"source": source, "field": field}
        (part / INFO).write_text(json.dumps(info, indent=1), encoding="utf-8")


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
    if not len(numbered.lengths):
        raise CorpusError("The corpus holds no text; give files with at least one document that is not empty.")
    with (folder / IDS).open("wb") as file:
        _write_array(file, numbered.id_blocks(), numbered.ids_of_words.dtype, numbered.n_tokens)
    np.save(folder / OFFSETS, offsets_of(numbered.lengths))
    (folder / VOCABULARY).write_text(numbered.vocabulary.to_json(), encoding="utf-8")
    return {
        "n_documents": len(numbered.lengths),
        "n_characters": numbered.n_characters,
        "n_tokens": numbered.n_tokens,
        "n_unknown": numbered.n_unknown,
        "digest": digest(numbered.vocabulary, np.load(folder / IDS, mmap_mode="r")),
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


def packed_info(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return `PackedCorpus.info` without opening the ids; raise CorpusError if it cannot be read."""
    try:
        info: dict[str, Any] = json.loads((Path(folder) / INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(folder, error) from None
    return info


def open_packed(folder: str | os.PathLike[str], backward: bool = False) -> PackedCorpus:
    """Open what `pack_corpus` wrote, without loading the ids into memory.

    With `backward`, the documents are reversed; their ids are written to a second file when first asked for. Raises
    CorpusError if the folder holds no packed corpus or a damaged one.
    """
    folder = Path(folder)
    info = packed_info(folder)
    try:
        vocabulary = Vocabulary.from_json((folder / VOCABULARY).read_text(encoding="utf-8"))
        offsets = np.load(folder / OFFSETS)
        ids = np.load(folder / IDS, mmap_mode="r")
        is_whole = len(ids) == offsets[-1] == info["n_tokens"] and info["digest"] == digest(vocabulary, ids)
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise _unreadable(folder, error) from None
    if not is_whole:
        raise CorpusError(f"The token ids in {folder} are damaged; remove the folder and start again.")
    if backward:
        ids = _backward_ids(folder, ids, offsets)
    return PackedCorpus(TokenIds(ids, offsets), vocabulary, info)


def _unreadable(folder: str | os.PathLike[str], error: Exception) -> CorpusError:
    return CorpusError(f"The token ids in {folder} cannot be read ({error}); remove the folder and start again.")


def _backward_ids(folder: Path, ids: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[Any]:
    if not (folder / BACKWARD_IDS).is_file():
        try:
            with atomic_write(folder / BACKWARD_IDS) as file:
                _write_array(file, reversed_blocks(ids, offsets), ids.dtype, len(ids))
        except OSError as error:
            raise CorpusError(f"The ids for reading backward could not be written to {folder} ({error}).") from None
    return np.load(folder / BACKWARD_IDS, mmap_mode="r")
