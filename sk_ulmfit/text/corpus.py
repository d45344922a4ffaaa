"""Large corpora: documents read one by one from files, and their token ids in memory-mapped files."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._files import atomic_write
from sk_ulmfit.text.documents import IDS, INFO, OFFSETS, VOCABULARY, CorpusError
from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.text.tokenizer import numericalize, tokenize_corpus
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary

Choose = Callable[[list[str], NDArray[np.int64]], Vocabulary]

BACKWARD_IDS = "ids-backward.npy"

_CHARACTERS_AT_ONCE, _TEXTS_AT_ONCE = 16_000_000, 100_000
_MOST_WORDS = 3_000_000  # distinct words counted side by side; beyond, the rarest are forgotten
_TOKENS_AT_ONCE = 10_000_000


@dataclass(frozen=True)
class PackedCorpus:
    """A corpus as token ids on disk.

    Parameters
    ----------
    tokens : TokenIds
        The documents; the ids are memory-mapped, and 16 bits wide where the vocabulary allows.
    vocabulary : Vocabulary
        Words of the ids.
    info : dict
        ``language``, ``source``, ``n_documents``, ``n_tokens``, ``n_unknown``, ``digest``, and what was asked for.
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
    report: Callable[[int, int, int], None] | None = None,
) -> None:
    """Tokenize documents into a folder of memory-mapped files, completely or not at all.

    Memory stays bounded, but for some bytes per distinct word: the text is read in blocks, and of more than three
    million distinct words the rarest are forgotten.

    Parameters
    ----------
    documents : iterable of str
        Raw texts.
    folder : path-like
        Folder to make; the one above it must exist.
    language : str, default="en"
        Language code of spaCy's tokenizer.
    vocab_size : int, default=30000
        Most words.
    min_frequency : int, default=3
        Rarer words become unknown.
    n_jobs : int or None, default=None
        Worker processes that tokenize.
    source, field : str, default=""
        Where the documents come from, and in which field they stood, to be kept with them.
    report : callable, default=None
        Called after every block with the numbers of documents, characters and tokens so far.

    Raises
    ------
    CorpusError
        If the folder exists or cannot be written, or there are no documents.
    """
    folder = Path(folder)
    if folder.exists():
        raise CorpusError(f"{folder} exists and is left alone; choose another name.")
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        info = _write(documents, part, language, vocab_size, min_frequency, n_jobs, report)
        info |= {"language": language, "vocab_size": vocab_size, "min_frequency": min_frequency}
        info |= {"source": source, "field": field}
        (part / INFO).write_text(json.dumps(info, indent=1), encoding="utf-8")
        for file in part.iterdir():
            _sync(file)
        os.replace(part, folder)
    except OSError as error:
        raise CorpusError(f"{folder} could not be written ({error}); choose another place.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(
    documents: Iterable[str],
    folder: Path,
    language: str,
    vocab_size: int,
    min_frequency: int,
    n_jobs: int | None,
    report: Callable[[int, int, int], None] | None,
) -> dict[str, Any]:
    def choose(words: list[str], counts: NDArray[np.int64]) -> Vocabulary:
        return Vocabulary.from_counts(words, counts, max_size=vocab_size, min_frequency=min_frequency)

    with tempfile.TemporaryFile(dir=folder) as file:
        numbered = _Numbered.of(documents, file, language, n_jobs, choose, report)
        if not len(numbered.lengths):
            raise CorpusError("The corpus holds no text; give files with at least one document that is not empty.")
        vocabulary = numbered.vocabulary
        n_unknown = 0

        def blocks() -> Iterator[NDArray[Any]]:
            nonlocal n_unknown
            for ids in numbered.blocks():
                n_unknown += int((ids == vocabulary.unk).sum())
                yield ids

        with (folder / IDS).open("wb") as out:
            _write_array(out, blocks(), numbered.lookup.dtype, numbered.n_tokens)
    np.save(folder / OFFSETS, _offsets(numbered.lengths))
    (folder / VOCABULARY).write_text(vocabulary.to_json(), encoding="utf-8")
    return {
        "n_documents": len(numbered.lengths),
        "n_characters": numbered.n_characters,
        "n_tokens": numbered.n_tokens,
        "n_unknown": n_unknown,
        "digest": digest(vocabulary, np.load(folder / IDS, mmap_mode="r")),
    }


@dataclass
class _Numbered:
    """Documents as numbers of their words in a file, and what has become of each number."""

    file: IO[bytes]
    lengths: NDArray[np.int64]
    n_characters: int
    vocabulary: Vocabulary
    lookup: NDArray[Any]

    @classmethod
    def of(
        cls,
        documents: Iterable[str],
        file: IO[bytes],
        language: str,
        n_jobs: int | None,
        choose: Choose,
        report: Callable[[int, int, int], None] | None = None,
    ) -> _Numbered:
        """Give each word the next number, and in the end choose a vocabulary by the counts."""
        index: dict[str, int] = {}
        counts = np.zeros(0, np.int64)
        n_numbers = n_characters = n_documents = n_tokens = 0
        lengths: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        for texts in _blocks(documents):
            block, words = tokenize_corpus(texts, language, n_jobs)
            new = itertools.count(n_numbers)
            table = np.array([index[word] if word in index else next(new) for word in words], np.int64)
            n_numbers = next(new)
            index.update(zip(words, table.tolist(), strict=True))
            if n_numbers > len(counts):
                counts = np.concatenate([counts, np.zeros(2 * n_numbers - len(counts), np.int64)])
            counts[table] += np.bincount(block.ids, minlength=len(words))
            _put(file, table.astype(np.int32)[block.ids])
            lengths.append(block.lengths)
            n_characters += sum(map(len, texts))
            n_documents += len(texts)
            n_tokens += len(block.ids)
            if len(index) > _MOST_WORDS:
                fewest = np.sort(counts[list(index.values())])[len(index) // 2]
                index = {word: number for word, number in index.items() if counts[number] > fewest}
            if report is not None:
                report(n_documents, n_characters, n_tokens)
        words = list(index)
        numbers = np.fromiter(index.values(), np.int64, len(index))
        vocabulary = choose(words, counts[numbers])
        lookup = np.full(n_numbers, vocabulary.unk, np.int64)
        lookup[numbers] = vocabulary.lookup(words)
        return cls(file, np.concatenate(lengths), n_characters, vocabulary, lookup.astype(_narrowest(vocabulary)))

    @property
    def n_tokens(self) -> int:
        """Tokens of all documents."""
        return int(self.lengths.sum())

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Give the ids of the vocabulary, some tokens at a time."""
        self.file.seek(0)
        while data := self.file.read(4 * _TOKENS_AT_ONCE):
            yield self.lookup[np.frombuffer(data, np.int32)]


def _narrowest(vocabulary: Vocabulary) -> Any:
    return np.uint16 if len(vocabulary) <= 2**16 else np.int32


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def tokenize_texts(
    texts: Sequence[str] | StreamedTexts,
    language: str,
    n_jobs: int | None,
    choose: Choose,
    *,
    backward: bool = False,
) -> tuple[TokenIds, Vocabulary]:
    """Turn texts into ids of a vocabulary that is chosen by the counts of their words.

    Parameters
    ----------
    texts : sequence of str or StreamedTexts
        Raw texts. The ids of streamed ones are kept in a temporary file.
    language : str
        Language code of spaCy's tokenizer.
    n_jobs : int or None
        Worker processes that tokenize.
    choose : callable
        Takes distinct words and the count of each, and gives a `Vocabulary`.
    backward : bool, default=False
        Whether every document is to be read from its end.

    Returns
    -------
    corpus : TokenIds
        The documents.
    vocabulary : Vocabulary
        What the ids mean.

    Raises
    ------
    CorpusError
        If no temporary file can be written.
    """
    if not isinstance(texts, StreamedTexts):
        corpus, words = tokenize_corpus(texts, language, n_jobs)
        vocabulary = choose(words, np.bincount(corpus.ids, minlength=len(words)))
        corpus = corpus.map_ids(vocabulary.lookup(words))
        return corpus.reversed() if backward else corpus, vocabulary
    with _temporary_file() as file:
        numbered = _Numbered.of(texts, file, language, n_jobs, choose)
        ids = _on_disk(numbered.blocks(), numbered.lookup.dtype)
    offsets = _offsets(numbered.lengths)
    if backward:
        ids = _on_disk(_reversed_blocks(ids, offsets), ids.dtype)
    return TokenIds(ids, offsets), numbered.vocabulary


def encode_texts(
    texts: Sequence[str] | StreamedTexts,
    vocabulary: Vocabulary,
    language: str,
    n_jobs: int | None = None,
    *,
    backward: bool = False,
) -> TokenIds:
    """Turn texts into ids of a vocabulary.

    Parameters
    ----------
    texts : sequence of str or StreamedTexts
        Raw texts. The ids of streamed ones are kept in a temporary file.
    vocabulary : Vocabulary
        Words that are not in it become ``xxunk``.
    language : str
        Language code of spaCy's tokenizer.
    n_jobs : int or None, default=None
        Worker processes that tokenize.
    backward : bool, default=False
        Whether every document is to be read from its end.

    Returns
    -------
    TokenIds
        One document per text, at least one token long.

    Raises
    ------
    CorpusError
        If no temporary file can be written.
    """
    if not isinstance(texts, StreamedTexts):
        corpus = numericalize(texts, vocabulary, language, n_jobs)
        return corpus.reversed() if backward else corpus
    lengths: list[NDArray[np.int64]] = []

    def blocks() -> Iterator[NDArray[Any]]:
        for block in _blocks(texts):
            corpus = numericalize(block, vocabulary, language, n_jobs)
            lengths.append(corpus.lengths)
            yield (corpus.reversed() if backward else corpus).ids.astype(_narrowest(vocabulary))

    ids = _on_disk(blocks(), _narrowest(vocabulary))
    return TokenIds(ids, _offsets(np.concatenate(lengths)))


class _NoRoomError(OSError):
    """Token ids cannot be written."""


@contextmanager
def _temporary_file() -> Iterator[IO[bytes]]:
    where = tempfile.gettempdir()
    try:
        try:
            opened = tempfile.TemporaryFile(prefix="sk_ulmfit-")  # noqa: SIM115
        except OSError as error:
            raise _NoRoomError(str(error)) from None
        with opened as file:
            yield file
    except _NoRoomError as error:
        raise CorpusError(f"Token ids cannot be kept in {where} ({error}); set TMPDIR to a folder with room.") from None


def _put(file: IO[bytes], block: NDArray[Any]) -> None:
    try:
        file.write(block.tobytes())
        file.flush()
    except OSError as error:
        raise _NoRoomError(str(error)) from None


def _on_disk(blocks: Iterable[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    """Give an array of which only those parts are in memory that are looked at; its file is gone when it is."""
    with _temporary_file() as file:
        for block in blocks:
            _put(file, block)
        return np.asarray(np.memmap(file, dtype, "r"))


def _write_array(file: IO[bytes], blocks: Iterable[NDArray[Any]], dtype: np.dtype[Any], n: int) -> None:
    """Write an array to a .npy file block by block; a full disk is then an error, and no crash as through a map."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n,)}
    np.lib.format.write_array_header_1_0(file, header)
    for block in blocks:
        file.write(block.tobytes())


def _sync(file: Path) -> None:
    with file.open("r+b") as opened:
        os.fsync(opened.fileno())


def digest(vocabulary: Vocabulary, ids: NDArray[Any]) -> str:
    """Give a checksum of a vocabulary and the ids of a corpus."""
    result = hashlib.blake2b(vocabulary.to_json().encode(), digest_size=16)
    for start in range(0, len(ids), _TOKENS_AT_ONCE):
        result.update(ids[start : start + _TOKENS_AT_ONCE].tobytes())
    return result.hexdigest()


def _blocks(documents: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    size = 0
    for text in documents:
        block.append(text)
        size += len(text)
        if size >= _CHARACTERS_AT_ONCE or len(block) >= _TEXTS_AT_ONCE:
            yield block
            block, size = [], 0
    if block:
        yield block


def packed_info(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Give `PackedCorpus.info` of a folder without opening its ids.

    Parameters
    ----------
    folder : path-like
        What `pack_corpus` wrote.

    Returns
    -------
    dict
        As `PackedCorpus.info`.

    Raises
    ------
    CorpusError
        If it cannot be read.
    """
    try:
        info: dict[str, Any] = json.loads((Path(folder) / INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"{folder} holds no token ids that can be read ({error}); remove it and begin anew."
        ) from None
    return info


def open_packed(folder: str | os.PathLike[str], backward: bool = False) -> PackedCorpus:
    """Open what `pack_corpus` wrote; the ids stay on disk.

    Parameters
    ----------
    folder : path-like
        The folder.
    backward : bool, default=False
        Whether every document is to be read from its end; a second file of ids is then made beside the first.

    Returns
    -------
    PackedCorpus
        The corpus.

    Raises
    ------
    CorpusError
        If the folder holds no such thing, or only a part of it.
    """
    folder = Path(folder)
    info = packed_info(folder)
    try:
        vocabulary = Vocabulary.from_json((folder / VOCABULARY).read_text(encoding="utf-8"))
        offsets = np.load(folder / OFFSETS)
        ids = np.load(folder / IDS, mmap_mode="r")
        whole = len(ids) == offsets[-1] == info["n_tokens"] and info["digest"] == digest(vocabulary, ids)
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise CorpusError(
            f"{folder} holds no token ids that can be read ({error}); remove it and begin anew."
        ) from None
    if not whole:
        raise CorpusError(f"The token ids in {folder} are damaged; remove the folder and begin anew.")
    return PackedCorpus(TokenIds(_backward(folder, ids, offsets) if backward else ids, offsets), vocabulary, info)


def _backward(folder: Path, ids: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[Any]:
    if not (folder / BACKWARD_IDS).is_file():
        try:
            with atomic_write(folder / BACKWARD_IDS) as file:
                _write_array(file, _reversed_blocks(ids, offsets), ids.dtype, len(ids))
        except OSError as error:
            raise CorpusError(f"The ids for reading backwards could not be written to {folder} ({error}).") from None
    return np.load(folder / BACKWARD_IDS, mmap_mode="r")


def _reversed_blocks(ids: NDArray[Any], offsets: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
    """Give the documents turned round, some at a time."""
    begin = 0
    while begin < len(offsets) - 1:
        end = int(np.searchsorted(offsets, offsets[begin] + _TOKENS_AT_ONCE, side="right")) - 1
        end = max(end, begin + 1)
        block = ids[offsets[begin] : offsets[end]]
        yield TokenIds(block, offsets[begin : end + 1] - offsets[begin]).reversed().ids
        begin = end
