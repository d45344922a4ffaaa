"""Raw text to token ids: spaCy's tokenizer, the ULMFiT marker rules, and the vocabulary.

One function, `tokenize_corpus`, serves training and prediction alike. A corpus is held as one flat
array of ids plus offsets (`TokenIds`); Python objects exist only for distinct words.
"""

from __future__ import annotations

import functools
import html
import itertools
import json
import re
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNK, PAD, BOS, FLD, REP, WREP, UP, MAJ = (
    "xxunk",
    "xxpad",
    "xxbos",
    "xxfld",
    "xxrep",
    "xxwrep",
    "xxup",
    "xxmaj",
)
SPECIAL_TOKENS = (UNK, PAD, BOS, FLD, REP, WREP, UP, MAJ)

FIELD_SEPARATOR = "\x1f"  # ASCII "unit separator": stands before each field of a joined text

_RESERVED = re.compile(rf"(?:{'|'.join(SPECIAL_TOKENS)}|xxfake\d+)")
_REPEATED_OR_SPLIT = re.compile(r"([^\s\d])\1{2,}|[/#\\]")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_LINE_BREAK_TAG = re.compile(r"<br\s*/?>", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1e\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

_LONGEST_CHUNK = 1_000  # characters; longer runs without white space are cut before spaCy sees them
_CACHED_CHUNKS, _LONGEST_CACHED_CHUNK = 500_000, 64
_DOCUMENTS_AT_ONCE = 50_000
_PARALLEL_FROM = 4_000_000  # characters; below, starting worker processes costs more than it gains


def join_fields(fields: Sequence[str]) -> str:
    """Join several text fields into one text that keeps their borders.

    The tokenizer turns the border before field k into the tokens ``xxfld k``
    (Howard & Ruder 2018 mark fields this way in their scripts).

    Parameters
    ----------
    fields : sequence of str
        The fields of one document, such as title and body.

    Returns
    -------
    str
        One text, to be used wherever a text is expected.

    Raises
    ------
    ValueError
        If a field is not a str.

    Examples
    --------
    >>> from sk_ulmfit.text import join_fields, tokenize
    >>> tokenize(join_fields(["Lamp", "It flickers"]))
    ['xxbos', 'xxfld', '1', 'xxmaj', 'lamp', 'xxfld', '2', 'xxmaj', 'it', 'flickers']
    """
    if isinstance(fields, str) or not all(isinstance(field, str) for field in fields):
        raise ValueError(f"fields must be a sequence of str, one per field, got {fields!r}; give '' for a missing one.")
    return "".join(FIELD_SEPARATOR + field.replace(FIELD_SEPARATOR, " ") for field in fields)


@dataclass(frozen=True)
class TokenIds:
    """Token ids of many documents in one flat array.

    Parameters
    ----------
    ids : ndarray of int32, shape (n_tokens,)
        All documents, one behind the other.
    offsets : ndarray of int64, shape (n_documents + 1,)
        Document i is ``ids[offsets[i]:offsets[i + 1]]``.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.text import TokenIds
    >>> corpus = TokenIds(np.array([2, 9, 2], np.int32), np.array([0, 2, 3]))
    >>> len(corpus), corpus.lengths.tolist(), corpus[0].tolist()
    (2, [2, 1], [2, 9])
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"document {index} of a corpus of {len(self)}")
        index %= len(self)
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per document, shape (n_documents,)."""
        return np.diff(self.offsets)

    def lengths_of(self, indices: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Tokens of the documents at `indices`."""
        return self.offsets[indices + 1] - self.offsets[indices]

    def take(self, indices: NDArray[np.integer[Any]]) -> TokenIds:
        """Copy the documents at `indices`, in that order."""
        lengths = self.lengths_of(indices)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = np.empty(offsets[-1], np.int32)
        for start in range(0, len(indices), _DOCUMENTS_AT_ONCE):  # index arrays of bounded size
            part = slice(start, start + _DOCUMENTS_AT_ONCE)
            begin, end = offsets[start], offsets[min(start + _DOCUMENTS_AT_ONCE, len(indices))]
            shifts = self.offsets[indices[part]] - offsets[:-1][part]
            ids[begin:end] = self.ids[np.arange(begin, end) + np.repeat(shifts, lengths[part])]
        return TokenIds(ids, offsets)

    def map_ids(self, table: NDArray[np.integer[Any]]) -> TokenIds:
        """Replace every id i by ``table[i]``."""
        return TokenIds(table.astype(np.int32)[self.ids], self.offsets)


class Vocabulary:
    """The words a model knows, with their ids.

    The special tokens are always present and are looked up by name, never by position, so that
    vocabularies published with other tools work as they are. The size is a multiple of 8
    (faster matrix kernels), filled up with distinct names.

    Parameters
    ----------
    words : iterable of str
        Words in id order. Missing special tokens are appended; a repeated name, such as the equal
        'xxfake' entries in vocabularies of fastai, is replaced by a distinct filler.

    Attributes
    ----------
    words : list of str
        Word of each id.

    Examples
    --------
    >>> from sk_ulmfit.text import Vocabulary
    >>> vocabulary = Vocabulary(["lamp", "hub"])
    >>> len(vocabulary), vocabulary.index("lamp"), vocabulary.index("never seen") == vocabulary.unk
    (16, 0, True)
    >>> Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    True
    """

    def __init__(self, words: Iterable[str]):
        names: list[str | None] = list(words)
        for word in names:
            if not isinstance(word, str):
                raise ValueError(f"A vocabulary is made of str, got {word!r} of type {type(word).__name__}.")
        taken = set(names)
        names += [token for token in SPECIAL_TOKENS if token not in taken]
        names += [None] * (-len(names) % 8)
        fillers = (name for i in itertools.count() if (name := f"xxfake{i}") not in taken)
        self._index: dict[str, int] = {}
        for position, word in enumerate(names):
            self._index[next(fillers) if word is None or word in self._index else word] = position
        self.words = list(self._index)

    @classmethod
    def from_counts(
        cls,
        words: Sequence[str],
        counts: NDArray[np.integer[Any]],
        *,
        max_size: int = 30_000,
        min_frequency: int = 2,
        known: Sequence[str] = (),
    ) -> Vocabulary:
        """Choose the words of a corpus by frequency.

        Parameters
        ----------
        words : sequence of str
            Distinct words.
        counts : ndarray of int, shape (len(words),)
            How often each occurs.
        max_size : int, default=30000
            Largest size, special tokens included; at least 16.
        min_frequency : int, default=2
            Words that occur less often become ``xxunk``.
        known : sequence of str, default=()
            Words of a pre-trained model. They count as frequent enough, and fill the places that the
            corpus leaves free, so that a word which occurs only at prediction time is still known.

        Returns
        -------
        Vocabulary
            Special tokens first, then words by falling count, ties in alphabetical order.
        """
        if max_size < 16:
            raise ValueError(f"max_size must be at least 16, got {max_size}.")
        if min_frequency < 1:
            raise ValueError(f"min_frequency must be at least 1, got {min_frequency}.")
        is_known = set(known)
        reserved = {word for word in words if _RESERVED.fullmatch(word)}
        chosen = [
            word
            for _, word in sorted(
                (-int(count), word)
                for word, count in zip(words, counts, strict=True)
                if word not in reserved and count > 0 and (count >= min_frequency or word in is_known)
            )
        ]
        seen = set(chosen)
        chosen += [word for word in known if word not in seen and not _RESERVED.fullmatch(word)]
        room = max_size // 8 * 8 - len(SPECIAL_TOKENS)
        return cls([*SPECIAL_TOKENS, *chosen[:room]])

    def __len__(self) -> int:
        return len(self.words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.words == other.words

    def __repr__(self) -> str:
        return f"Vocabulary of {len(self)} words"

    __hash__ = None  # type: ignore[assignment]

    @property
    def unk(self) -> int:
        """Id of ``xxunk``, which stands for every unknown word."""
        return self._index[UNK]

    @property
    def pad(self) -> int:
        """Id of ``xxpad``; no text ever contains it."""
        return self._index[PAD]

    def __contains__(self, word: object) -> bool:
        return word in self._index

    def index(self, word: str) -> int:
        """Id of a word, that of ``xxunk`` if it is unknown."""
        return self._index.get(word, self._index[UNK])

    def lookup(self, words: Sequence[str]) -> NDArray[np.int32]:
        """Ids of many words, shape (len(words),)."""
        return np.fromiter(map(self.index, words), np.int32, len(words))

    def to_json(self) -> str:
        """Give the words as a JSON list."""
        return json.dumps(self.words)

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """Read what `to_json` wrote."""
        words = json.loads(text)
        if not isinstance(words, list):
            raise ValueError(f"A vocabulary is a JSON list of words, got a {type(words).__name__}.")
        return cls(words)


class Tokenizer:
    """Tokenizer of one language: spaCy's rules, then the ULMFiT marker rules.

    A *unit* is one spaCy token with its markers, written as tokens joined by a blank:
    ``"xxmaj hello"``, ``"xxrep 4 !"``. White space only separates.

    Parameters
    ----------
    language : str, default="en"
        Any language code that ``spacy.blank`` knows.
    """

    def __init__(self, language: str = "en"):
        self.language = language
        self._tokenize, self._by_chunk = _spacy_tokenizer(language)

    def chunks(self, text: str) -> list[str]:
        """Cut a text into pieces whose units do not depend on what stands around them."""
        return text.split() if self._by_chunk else [text]

    def chunk_units(self, chunk: str) -> list[str]:
        """Give the units of one chunk."""
        units: list[str] = []
        start = 0
        for match in _REPEATED_OR_SPLIT.finditer(chunk):
            units += self._plain_units(chunk[start : match.start()])
            found = match.group()
            units.append(f"{REP} {len(found)} {_unit(found[0])}" if len(found) > 1 else found)
            start = match.end()
        return units + self._plain_units(chunk[start:])

    def _plain_units(self, piece: str) -> list[str]:
        step = _LONGEST_CHUNK if self._by_chunk else max(len(piece), 1)
        return [
            _unit("▁".join(token.split()))
            for start in range(0, len(piece), step)
            for token in self._tokenize(piece[start : start + step])
            if not token.isspace()
        ]


def _spacy_tokenizer(language: str) -> tuple[Any, bool]:
    """Give a function from str to list of str, and whether it treats white-space chunks one by one."""
    import spacy
    from spacy.tokenizer import Tokenizer as SpacyTokenizer

    try:
        tokenizer = spacy.blank(language).tokenizer
    except ImportError as error:
        reason = str(error).strip().splitlines()[0]
        reason = "spaCy knows no such code" if "E048" in reason else reason.rstrip(".")
        raise ValueError(
            f"language={language!r} is not usable: {reason}. "
            "Pass a language code of spaCy, such as 'en', 'de' or 'xx' (any language with spaces)."
        ) from None

    def tokenize_piece(piece: str) -> list[str]:
        return [token.text for token in tokenizer(piece)]

    return tokenize_piece, isinstance(tokenizer, SpacyTokenizer)


@functools.lru_cache(maxsize=8)
def get_tokenizer(language: str = "en") -> Tokenizer:
    """Give the tokenizer of a language, made once."""
    return Tokenizer(language)


def _clean(text: str) -> str:
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match.group()).replace(FIELD_SEPARATOR, " "), text)
    if "<" in text:
        text = _LINE_BREAK_TAG.sub(" ", text)
    return _CONTROL.sub(" ", unicodedata.normalize("NFC", text))


def _unit(word: str) -> str:
    lower = word.lower()
    if _RESERVED.fullmatch(lower):
        lower = "\\" + lower  # a user's literal "xxpad" is a word like any other
    n_upper = sum(char.isupper() or char.istitle() for char in word)
    if not n_upper:
        return lower
    n_lower = sum(map(str.islower, word))
    return f"{UP if n_upper > 1 and not n_lower else MAJ} {lower}"


def tokenize(text: str, language: str = "en") -> list[str]:
    """Give the tokens of one text, exactly as training and prediction see them.

    Parameters
    ----------
    text : str
        Raw text.
    language : str, default="en"
        Language code known to spaCy.

    Returns
    -------
    list of str
        Tokens; the first is ``xxbos``.

    Examples
    --------
    >>> from sk_ulmfit.text import tokenize
    >>> tokenize("Sooo GOOD, Ève: no no no 1,000 times!!!")  # doctest: +NORMALIZE_WHITESPACE
    ['xxbos', 'xxmaj', 's', 'xxrep', '3', 'o', 'xxup', 'good', ',', 'xxmaj', 'ève', ':',
     'xxwrep', '3', 'no', '1,000', 'times', 'xxrep', '3', '!']
    """
    corpus, words = tokenize_corpus([text], language)
    return [words[i] for i in corpus.ids]


def tokenize_corpus(
    texts: Sequence[str], language: str = "en", n_jobs: int | None = None
) -> tuple[TokenIds, list[str]]:
    """Tokenize texts and number their distinct words in order of appearance.

    Parameters
    ----------
    texts : sequence of str
        Raw texts.
    language : str, default="en"
        Language code known to spaCy.
    n_jobs : int or None, default=None
        Worker processes, as in joblib; used only for corpora large enough to repay starting them.

    Returns
    -------
    corpus : TokenIds
        Documents as ids into `words`; every document begins with ``xxbos``.
    words : list of str
        The distinct words.
    """
    n_workers = _n_workers(n_jobs, texts)
    if n_workers == 1:
        return _tokenize_block(texts, language)
    from joblib import Parallel, delayed

    ends = np.cumsum([len(text) for text in texts])
    borders = np.searchsorted(ends, np.linspace(0, ends[-1], 2 * n_workers + 1)[1:-1])
    edges = [0, *borders.tolist(), len(texts)]
    blocks = Parallel(n_jobs=n_workers)(
        delayed(_tokenize_block)(texts[a:b], language) for a, b in itertools.pairwise(edges) if a < b
    )
    index: dict[str, int] = {}
    parts = []
    for block, words in blocks:
        table = np.array([index.setdefault(word, len(index)) for word in words], np.int32)
        parts.append(block.map_ids(table))
    return concatenate(parts), list(index)


def concatenate(parts: Sequence[TokenIds]) -> TokenIds:
    """Put corpora that share one numbering behind each other."""
    lengths = np.concatenate([part.lengths for part in parts])
    ids = np.concatenate([part.ids for part in parts])
    return TokenIds(ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def numericalize(
    texts: Sequence[str], vocabulary: Vocabulary, language: str = "en", n_jobs: int | None = None
) -> TokenIds:
    """Turn texts into ids of a vocabulary.

    Parameters
    ----------
    texts : sequence of str
        Raw texts.
    vocabulary : Vocabulary
        Words that are not in it become ``xxunk``.
    language : str, default="en"
        Language code known to spaCy.
    n_jobs : int or None, default=None
        Worker processes, as in joblib.

    Returns
    -------
    TokenIds
        One document per text, at least one token long.
    """
    corpus, words = tokenize_corpus(texts, language, n_jobs)
    return corpus.map_ids(vocabulary.lookup(words))


def _n_workers(n_jobs: int | None, texts: Sequence[str]) -> int:
    if n_jobs is None or n_jobs == 1 or sum(map(len, texts)) < _PARALLEL_FROM:
        return 1
    from joblib import effective_n_jobs

    return int(effective_n_jobs(n_jobs))


def _tokenize_block(texts: Sequence[str], language: str) -> tuple[TokenIds, list[str]]:
    tokenizer = get_tokenizer(language)
    units: dict[str, int] = {BOS: 0}
    seen: dict[str, tuple[int, ...]] = {}
    flat, ends = array("i"), array("q", [0])
    for text in texts:
        flat.append(0)
        for number, field in enumerate(_clean(text).split(FIELD_SEPARATOR)):
            if number:
                flat.append(units.setdefault(f"{FLD} {number}", len(units)))
            for chunk in tokenizer.chunks(field):
                ids = seen.get(chunk)
                if ids is None:
                    ids = tuple(units.setdefault(unit, len(units)) for unit in tokenizer.chunk_units(chunk))
                    if len(seen) >= _CACHED_CHUNKS:
                        seen.clear()
                    if len(chunk) <= _LONGEST_CACHED_CHUNK:
                        seen[chunk] = ids
                flat.extend(ids)
        ends.append(len(flat))
    corpus = TokenIds(np.array(flat, np.int32), np.array(ends, np.int64))
    names = list(units)
    return _split_units(_mark_repeated_words(corpus, names), names)


def _mark_repeated_words(corpus: TokenIds, units: list[str]) -> TokenIds:
    """Replace three or more equal words in a row by ``xxwrep n word``; appends to `units`."""
    n = len(corpus.ids)
    is_word = np.array([unit[0].isalpha() and not unit.startswith((REP, FLD, BOS)) for unit in units])
    same = np.zeros(n, bool)  # same[i]: the unit at i repeats the one before it
    same[1:] = (corpus.ids[1:] == corpus.ids[:-1]) & is_word[corpus.ids[1:]]
    same[corpus.offsets[:-1][corpus.lengths > 0]] = False
    if not np.any(same[1:] & same[:-1]):
        return corpus
    starts = np.flatnonzero(~same)
    run_lengths = np.diff(np.append(starts, n))
    ids, keep = corpus.ids.copy(), np.ones(n, bool)
    new: dict[str, int] = {}
    for start, length in zip(starts[run_lengths > 2], run_lengths[run_lengths > 2], strict=True):
        unit = f"{WREP} {length} {units[ids[start]]}"
        ids[start] = new.setdefault(unit, len(units) + len(new))
        keep[start + 1 : start + length] = False
    units += new
    return TokenIds(ids[keep], np.concatenate([[0], np.cumsum(keep)])[corpus.offsets])


def _split_units(corpus: TokenIds, units: list[str]) -> tuple[TokenIds, list[str]]:
    """Turn ids of units into ids of their tokens."""
    index: dict[str, int] = {}
    tokens = array("i")
    ends = array("q", [0])
    for unit in units:
        tokens.extend(index.setdefault(token, len(index)) for token in unit.split(" "))
        ends.append(len(tokens))
    table = TokenIds(np.array(tokens, np.int32), np.array(ends, np.int64))
    expanded = table.take(corpus.ids)
    return TokenIds(expanded.ids, expanded.offsets[corpus.offsets]), list(index)
