"""Texts to token ids of a vocabulary: in memory, or in a temporary file for texts that are streamed."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.text.documents import CorpusError
from sk_ulmfit.text.streams import Advance, StreamedTexts
from sk_ulmfit.text.tokenizer import tokenize_corpus
from sk_ulmfit.text.unknown_words import WordCount
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary

ChooseVocabulary = Callable[[list[str], NDArray[np.int64]], Vocabulary]  # from distinct words and their counts
# From distinct words, their counts in each corpus, (n_corpora, n_words), and the tokens of each, (n_corpora,).
ChooseFromCorpora = Callable[[list[str], NDArray[np.int64], NDArray[np.int64]], Vocabulary]
Report = Callable[[int, int, int], None]  # documents, characters and tokens so far

TOKENS_AT_ONCE = 10_000_000
_CHARACTERS_AT_ONCE, _TEXTS_AT_ONCE = 16_000_000, 100_000
_MOST_WORDS = 3_000_000  # distinct words counted at the same time; beyond, the rarest are forgotten


def encode_texts(
    texts: Sequence[str] | StreamedTexts,
    vocabulary: Vocabulary,
    language: str,
    n_jobs: int | None = None,
    *,
    backward: bool = False,
    word_count: WordCount | None = None,
    advance: Advance | None = None,
) -> TokenIds:
    """Return the token ids of each text, at least one per text; words outside the vocabulary become ``xxunk``.

    With `backward`, each document is reversed, for a model that reads backward. The words are added to `word_count`.
    `advance` is called with the number of texts whenever some more are done.
    The ids of streamed texts are kept in a temporary file, deleted with the result; raises CorpusError if it cannot be
    written.
    """
    if not isinstance(texts, StreamedTexts):
        return _encode_list(texts, vocabulary, language, n_jobs, backward, word_count, advance)
    lengths: list[NDArray[np.int64]] = []

    def blocks() -> Iterator[NDArray[Any]]:
        for block in text_blocks(texts):
            corpus = _encode_list(block, vocabulary, language, n_jobs, backward, word_count, advance)
            lengths.append(corpus.lengths)
            yield corpus.ids.astype(narrowest_dtype(vocabulary))

    ids = _on_disk(blocks(), narrowest_dtype(vocabulary))
    return TokenIds(ids, offsets_of(np.concatenate(lengths)))


def _encode_list(
    texts: Sequence[str],
    vocabulary: Vocabulary,
    language: str,
    n_jobs: int | None,
    backward: bool,
    word_count: WordCount | None,
    advance: Advance | None,
) -> TokenIds:
    corpus, words = tokenize_corpus(texts, language, n_jobs, advance)
    if word_count is not None:
        word_count.add(len(texts), words, np.bincount(corpus.ids, minlength=len(words)), vocabulary)
    corpus = corpus.map_ids(vocabulary.lookup(words))
    return corpus.reversed() if backward else corpus


def tokenize_texts(
    texts: Sequence[str] | StreamedTexts,
    language: str,
    n_jobs: int | None,
    choose: ChooseVocabulary,
    *,
    backward: bool = False,
    advance: Advance | None = None,
) -> tuple[TokenIds, Vocabulary]:
    """Return the token ids of each text, and the vocabulary that `choose` makes from the counts of their words.

    Parameters as in `encode_texts`; raises CorpusError as it does.
    """
    if not isinstance(texts, StreamedTexts):
        corpus, words = tokenize_corpus(texts, language, n_jobs, advance)
        vocabulary = choose(words, np.bincount(corpus.ids, minlength=len(words)))
        corpus = corpus.map_ids(vocabulary.lookup(words))
        return corpus.reversed() if backward else corpus, vocabulary
    if advance is not None:
        texts = texts.with_progress(advance)
    with _temporary_file() as file:
        numbered = number_documents([texts], file, language, n_jobs, lambda words, counts, _: choose(words, counts[0]))
        ids = _on_disk(numbered.id_blocks(), numbered.ids_of_words.dtype)
    offsets = offsets_of(numbered.lengths)
    if backward:
        ids = _on_disk(reversed_blocks(ids, offsets), ids.dtype)
    return TokenIds(ids, offsets), numbered.vocabulary


@dataclass
class NumberedCorpus:
    """Documents of one or more corpora, in a file as int32 numbers of their words, numbered in order of appearance.

    `lengths`, shape (n_documents,), are tokens of each document; `ids_of_words`, shape (n_words,), is the id in
    `vocabulary` of each word number. `n_documents`, `n_tokens` and `n_unknown` are of each corpus, (n_corpora,).
    """

    file: IO[bytes]
    lengths: NDArray[np.int64]
    n_characters: int
    n_documents: NDArray[np.int64]
    n_tokens: NDArray[np.int64]
    n_unknown: NDArray[np.int64]
    vocabulary: Vocabulary
    ids_of_words: NDArray[Any]

    def id_blocks(self) -> Iterator[NDArray[Any]]:
        """Yield the ids in the vocabulary, `TOKENS_AT_ONCE` tokens at a time."""
        self.file.seek(0)
        while data := self.file.read(4 * TOKENS_AT_ONCE):
            yield self.ids_of_words[np.frombuffer(data, np.int32)]


def number_documents(
    corpora: Sequence[Iterable[str]],
    file: IO[bytes],
    language: str,
    n_jobs: int | None,
    choose: ChooseFromCorpora,
    report: Report | None = None,
) -> NumberedCorpus:
    """Tokenize corpora into a file of word numbers, then choose a vocabulary by the counts of the words."""
    words = _WordNumbers(len(corpora))
    lengths: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    n_characters = 0
    n_documents, n_tokens = np.zeros((2, len(corpora)), np.int64)
    for corpus, texts in _blocks_of_corpora(corpora):
        block, block_words = tokenize_corpus(texts, language, n_jobs)
        numbers = words.add(corpus, block_words, np.bincount(block.ids, minlength=len(block_words)))
        _write(file, numbers.astype(np.int32)[block.ids])
        lengths.append(block.lengths)
        n_characters += sum(map(len, texts))
        n_documents[corpus] += len(texts)
        n_tokens[corpus] += len(block.ids)
        if report is not None:
            report(int(n_documents.sum()), n_characters, int(n_tokens.sum()))
    vocabulary, ids_of_words = words.choose_vocabulary(choose, n_tokens)
    n_unknown = words.counts[:, : words.n_numbers][:, ids_of_words == vocabulary.unk].sum(axis=1)
    all_lengths = np.concatenate(lengths)
    return NumberedCorpus(file, all_lengths, n_characters, n_documents, n_tokens, n_unknown, vocabulary, ids_of_words)


class _WordNumbers:
    """The number of each word, and its count in each corpus; of more than `_MOST_WORDS` words, forget the rarest."""

    def __init__(self, n_corpora: int) -> None:
        self.index: dict[str, int] = {}
        self.counts = np.zeros((n_corpora, 0), np.int64)  # of each number, shape (n_corpora, at least n_numbers)
        self.n_numbers = 0

    def add(self, corpus: int, words: list[str], counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count distinct words of a corpus; return the number of each, the next free one for a new word."""
        new = itertools.count(self.n_numbers)
        numbers = np.array([self.index[word] if word in self.index else next(new) for word in words], np.int64)
        self.n_numbers = next(new)
        self.index.update(zip(words, numbers.tolist(), strict=True))
        n_corpora, n_places = self.counts.shape
        if self.n_numbers > n_places:
            room = np.zeros((n_corpora, 2 * self.n_numbers - n_places), np.int64)
            self.counts = np.concatenate([self.counts, room], axis=1)
        self.counts[corpus, numbers] += counts
        if len(self.index) > _MOST_WORDS:
            self._forget_rare()
        return numbers

    def _forget_rare(self) -> None:
        """Drop the words with no more than the median count."""
        counts = self.counts.sum(axis=0)
        median = np.sort(counts[list(self.index.values())])[len(self.index) // 2]
        self.index = {word: number for word, number in self.index.items() if counts[number] > median}

    def choose_vocabulary(
        self, choose: ChooseFromCorpora, n_tokens: NDArray[np.int64]
    ) -> tuple[Vocabulary, NDArray[Any]]:
        """Return the vocabulary, and the id of each word number in it."""
        words = list(self.index)
        numbers = np.fromiter(self.index.values(), np.int64, len(self.index))
        vocabulary = choose(words, self.counts[:, numbers], n_tokens)
        ids = np.full(self.n_numbers, vocabulary.unk, np.int64)
        ids[numbers] = vocabulary.lookup(words)
        return vocabulary, ids.astype(narrowest_dtype(vocabulary))


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each document begins and the last one ends, shape (n_documents + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def reversed_blocks(ids: NDArray[Any], offsets: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
    """Yield the ids of documents in reversed order of their tokens, about `TOKENS_AT_ONCE` at a time."""
    begin = 0
    while begin < len(offsets) - 1:
        end = int(np.searchsorted(offsets, offsets[begin] + TOKENS_AT_ONCE, side="right")) - 1
        end = max(end, begin + 1)
        block = ids[offsets[begin] : offsets[end]]
        yield TokenIds(block, offsets[begin : end + 1] - offsets[begin]).reversed().ids
        begin = end


def _blocks_of_corpora(corpora: Sequence[Iterable[str]]) -> Iterator[tuple[int, list[str]]]:
    for corpus, texts in enumerate(corpora):
        for block in text_blocks(texts):
            yield corpus, block


def text_blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield lists of consecutive texts of about `_CHARACTERS_AT_ONCE` characters."""
    block: list[str] = []
    size = 0
    for text in texts:
        block.append(text)
        size += len(text)
        if size >= _CHARACTERS_AT_ONCE or len(block) >= _TEXTS_AT_ONCE:
            yield block
            block, size = [], 0
    if block:
        yield block


def narrowest_dtype(vocabulary: Vocabulary) -> Any:
    """Return the type of the ids of a vocabulary on disk."""
    return np.uint16 if len(vocabulary) <= 2**16 else np.int32


class _DiskError(OSError):
    """A temporary file cannot be written."""


@contextmanager
def _temporary_file() -> Iterator[IO[bytes]]:
    folder = tempfile.gettempdir()
    try:
        try:
            opened = tempfile.TemporaryFile(prefix="sk_ulmfit-")  # noqa: SIM115
        except OSError as error:
            raise _DiskError(str(error)) from None
        with opened as file:
            yield file
    except _DiskError as error:
        raise CorpusError(
            f"Token ids cannot be written to {folder} ({error}); set TMPDIR to a folder with room."
        ) from None


def _write(file: IO[bytes], block: NDArray[Any]) -> None:
    try:
        file.write(block.tobytes())
        file.flush()
    except OSError as error:
        raise _DiskError(str(error)) from None


def _on_disk(blocks: Iterable[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    """Return an array mapped to a temporary file, which is deleted with the array."""
    with _temporary_file() as file:
        for block in blocks:
            _write(file, block)
        return np.asarray(np.memmap(file, dtype, "r"))
