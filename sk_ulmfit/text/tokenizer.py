"""Raw text to tokens: the rules of spaCy's tokenizer and the marker tokens of ULMFiT.

`tokenize_corpus` serves training and prediction alike. It makes Python objects for distinct words only.
"""

from __future__ import annotations

import functools
import html
import itertools
import re
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from sk_ulmfit._dask_tasks import runs_in_task
from sk_ulmfit._locks import ForkSafeLock
from sk_ulmfit._messages import short
from sk_ulmfit.text.normalization import normalize
from sk_ulmfit.text.rules import RuleTokenizer, read_rules, rule_languages
from sk_ulmfit.text.streams import Advance
from sk_ulmfit.text.vocabulary import BOS, FLD, MAJ, REP, RESERVED, UP, WREP, TokenIds, concatenate

TOKENIZER_VERSION = 2  # rises when a text gets other tokens than before; 1 did not normalize quotes and dashes
FIELD_SEPARATOR = "␟"  # before each field of a joined text, as people see it
FIELD = "\x1f"  # the same as the tokenizer reads it, the ASCII "unit separator"; texts of earlier versions have it
_START = FIELD + "0"  # the chunk at the start of a document; FIELD + "k" precedes field k
_SHOWN_SEPARATOR = re.compile(f" ?{FIELD_SEPARATOR} ?")

_REPEATED_OR_SPLIT = re.compile(r"([^\s\d])\1{2,}|[/#\\]")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_LINE_BREAK_TAG = re.compile(r"<br\s*/?>", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1e\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

_LONGEST_CHUNK = 1_000  # characters; longer runs without white space are cut before spaCy sees them
_CACHED_CHUNKS, _LONGEST_CACHED_CHUNK = 300_000, 32  # per language; 300,000 take about 70 MB
_CHARACTERS_AT_ONCE, _CHUNKS_AT_ONCE = 1_000_000, 5_000
_PARALLEL_FROM = 4_000_000  # characters; below, starting worker processes costs more than it gains


def join_fields(fields: Sequence[str]) -> str:
    """Join several text fields into one text.

    Each field follows the sign ``␟``, which no text should have otherwise. The tokenizer makes it the tokens
    ``xxfld k`` at the start of field k, as in the scripts of Howard & Ruder (2018).

    Parameters
    ----------
    fields : sequence of str
        Fields of one document, such as title and body.

    Examples
    --------
    >>> from sk_ulmfit.text import join_fields, tokenize
    >>> joined = join_fields(["Lamp", "It flickers"])
    >>> joined
    '␟ Lamp ␟ It flickers'
    >>> tokenize(joined)
    ['xxbos', 'xxfld', '1', 'xxmaj', 'lamp', 'xxfld', '2', 'xxmaj', 'it', 'flickers']
    """
    if isinstance(fields, str) or not all(isinstance(field, str) for field in fields):
        raise ValueError(
            f"fields must be a sequence of str, one per field; got {short(fields)}. Pass '' if one is missing."
        )
    plain = (field.replace(FIELD, " ").replace(FIELD_SEPARATOR, " ") for field in fields)
    return " ".join(f"{FIELD_SEPARATOR} {field}" for field in plain)


class Tokenizer:
    """Tokenizer of one language: spaCy's rules, then the marker tokens of ULMFiT.

    A *chunk* is a piece of text that can be tokenized by itself, such as a run of characters without white space. A
    *unit* is one spaCy token with its markers, joined by blanks: ``"xxmaj hello"``, ``"xxrep 4 !"``.

    Units of recent chunks are cached. Threads may share a tokenizer. `language` is any code of ``spacy.blank``; spaCy
    itself is imported for languages only that have no rules in this package.
    """

    def __init__(self, language: str = "en"):
        self.language = language
        self._rules = RuleTokenizer(read_rules(language)) if language in rule_languages() else None
        self._by_chunk = self._rules is not None or _has_spacy_rules(self._nlp)
        self._cache: dict[str, tuple[str, ...]] = {}
        # a thread that a fork has cut off leaves spaCy's memory zone open
        self._lock = ForkSafeLock(on_interruption=self._forget)

    @functools.cached_property
    def _nlp(self) -> Any:
        return _blank_model(self.language)

    def _forget(self) -> None:
        self.__dict__.pop("_nlp", None)

    def chunks(self, text: str) -> list[str]:
        """Cut a cleaned text into chunks; the start of a document or of a field is a chunk of its own."""
        chunks = []
        for number, field in enumerate(text.split(FIELD)):
            chunks.append(f"{FIELD}{number}")
            chunks += field.split() if self._by_chunk else [field]
        return chunks

    def units(self, chunks: list[str]) -> list[tuple[str, ...]]:
        """Return the units of each of several distinct chunks."""
        cached = list(map(self._cache.get, chunks))
        unknown = [chunk for chunk, units in zip(chunks, cached, strict=True) if units is None]
        new: dict[str, tuple[str, ...]] = {}
        for start in range(0, len(unknown), _CHUNKS_AT_ONCE):
            with self._spacy_alone():
                part = self._tokenize(unknown[start : start + _CHUNKS_AT_ONCE])
            with self._lock:
                self._remember(part)
            new |= part
        return [new[chunk] if units is None else units for chunk, units in zip(chunks, cached, strict=True)]

    @contextmanager
    def _spacy_alone(self) -> Iterator[None]:
        """Let spaCy work in a zone: outside, it never forgets a word, and zones of threads must not overlap.

        Rules need no zone, so a thread with a long text holds up no other one.
        """
        if self._rules is not None:
            yield
            return
        with self._lock, self._nlp.memory_zone():
            yield

    def _remember(self, new: dict[str, tuple[str, ...]]) -> None:
        short = {chunk: units for chunk, units in new.items() if len(chunk) <= _LONGEST_CACHED_CHUNK}
        if len(self._cache) + len(short) > _CACHED_CHUNKS:
            self._cache.clear()
        if len(short) <= _CACHED_CHUNKS:
            self._cache.update(short)

    def _tokenize(self, chunks: list[str]) -> dict[str, tuple[str, ...]]:
        units = self._plain_units(list(filter(_is_plain, chunks))) if self._by_chunk else {}
        return units | {chunk: tuple(self._chunk_units(chunk)) for chunk in chunks if chunk not in units}

    def _plain_units(self, chunks: list[str]) -> dict[str, tuple[str, ...]]:
        unit = functools.cache(_unit)
        if self._rules is not None:
            return {chunk: tuple(map(unit, self._rules.tokens(chunk))) for chunk in chunks}
        # in one call, one chunk a line: no rule of spaCy reaches across a line break
        units = map(unit, self._tokens("\n".join(chunks)))
        return {chunk: tuple(iter(units.__next__, "\n")) for chunk in chunks}

    def _chunk_units(self, chunk: str) -> list[str]:
        return [unit for _, unit in self._chunk_words(chunk)]

    def words(self, chunks: list[str]) -> list[list[tuple[str, str]]]:
        """Return the words of each chunk with their units; the start of a document or field is an empty word."""
        with self._spacy_alone():
            words = {chunk: self._chunk_words(chunk) for chunk in set(chunks)}
        return [words[chunk] for chunk in chunks]

    def _chunk_words(self, chunk: str) -> list[tuple[str, str]]:
        if chunk.startswith(FIELD):
            return [("", BOS if chunk == _START else f"{FLD} {chunk[1:]}")]
        words: list[tuple[str, str]] = []
        start = 0
        for match in _REPEATED_OR_SPLIT.finditer(chunk):
            words += self._piece_words(chunk[start : match.start()])
            run = match.group()
            words.append((run, f"{REP} {len(run)} {_unit(run[0])}" if len(run) > 1 else run))
            start = match.end()
        return words + self._piece_words(chunk[start:])

    def _piece_words(self, piece: str) -> list[tuple[str, str]]:
        step = _LONGEST_CHUNK if self._by_chunk else max(len(piece), 1)
        return [
            (token, _unit("▁".join(token.split())))
            for start in range(0, len(piece), step)
            for token in self._tokens(piece[start : start + step])
            if not token.isspace()
        ]

    def _tokens(self, piece: str) -> Sequence[str]:
        if self._rules is not None:
            return self._rules.tokens(piece)
        return [token.text for token in self._nlp.tokenizer(piece)]


def _is_plain(chunk: str) -> bool:
    return len(chunk) <= _LONGEST_CHUNK and chunk[0] != FIELD and not _REPEATED_OR_SPLIT.search(chunk)


def _has_spacy_rules(model: Any) -> bool:
    from spacy.tokenizer import Tokenizer as SpacyTokenizer

    return isinstance(model.tokenizer, SpacyTokenizer)


def _blank_model(language: str) -> Any:
    try:
        import spacy
    except ImportError:
        raise ValueError(
            f"language={short(language)} needs spaCy, which is not installed; install it with pip install spacy."
        ) from None
    try:
        model: Any = spacy.blank(language)
    except ImportError as error:
        reason = str(error).strip().splitlines()[0]
        reason = "spaCy knows no such code" if "E048" in reason else reason.rstrip(".")
        raise ValueError(
            f"language={short(language)} is not usable: {reason}. "
            "Pass a language code of spaCy, such as 'en', 'de' or 'xx' (any language with spaces)."
        ) from None
    model.vocab.lex_attr_getters = {}  # shape, norm and so on of every new word: a third of spaCy's time
    return model


@functools.lru_cache(maxsize=8)
def get_tokenizer(language: str = "en") -> Tokenizer:
    """Return the tokenizer of a language, made once."""
    return Tokenizer(language)


def clean(text: str) -> str:
    """Normalize characters, resolve HTML entities, and replace control characters and ``<br>`` by blanks."""
    if not text.isascii() and _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if FIELD_SEPARATOR in text:
        text = _SHOWN_SEPARATOR.sub(FIELD, text)
    text = normalize(text)
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match.group()).replace(FIELD, " "), text)
    if "<" in text:
        text = _LINE_BREAK_TAG.sub(" ", text)
    return _CONTROL.sub(" ", normalize(text))  # again, since entities may stand for any character


def _unit(word: str) -> str:
    lower = word.lower()
    if lower.startswith("xx") and RESERVED.fullmatch(lower):
        lower = "\\" + lower  # "xxpad" written in a text is a word, not a marker
    if word.islower():
        return lower
    n_upper = sum(char.isupper() or char.istitle() for char in word)
    if not n_upper:
        return lower
    n_lower = sum(map(str.islower, word))
    return f"{UP if n_upper > 1 and not n_lower else MAJ} {lower}"


def tokenize(text: str, language: str = "en") -> list[str]:
    """Return the tokens of one text, as training and prediction see them.

    Parameters
    ----------
    text : str
        Raw text.
    language : str, default="en"
        Language code known to spaCy.

    Returns
    -------
    list of str
        Tokens, the first of which is ``xxbos``.

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
    texts: Sequence[str],
    language: str = "en",
    n_jobs: int | None = None,
    advance: Advance | None = None,
) -> tuple[TokenIds, list[str]]:
    """Return the documents as ids of their distinct words, in order of appearance, and these words.

    Every document begins with ``xxbos``. Worker processes are used for corpora large enough to repay starting them.
    `advance` is called with the number of documents whenever some more are done.
    """
    n_workers = _n_workers(n_jobs, texts)
    if n_workers == 1:
        return _tokenize_block(texts, language, advance)
    from joblib import Parallel, delayed

    ends = np.cumsum([len(text) for text in texts])
    borders = np.searchsorted(ends, np.linspace(0, ends[-1], 2 * n_workers + 1)[1:-1])
    edges = [0, *borders.tolist(), len(texts)]
    blocks = Parallel(n_jobs=n_workers, return_as="generator")(
        delayed(_tokenize_block)(texts[a:b], language) for a, b in itertools.pairwise(edges) if a < b
    )
    index: dict[str, int] = {}
    parts = []
    for block, words in blocks:
        table = np.array([index.setdefault(word, len(index)) for word in words], np.int32)
        parts.append(block.map_ids(table))
        if advance is not None:
            advance(len(block))
    return concatenate(parts), list(index)


def _n_workers(n_jobs: int | None, texts: Sequence[str]) -> int:
    if n_jobs is None or n_jobs == 1 or sum(map(len, texts)) < _PARALLEL_FROM or runs_in_task():
        return 1
    from joblib import effective_n_jobs

    return int(effective_n_jobs(n_jobs))


def _tokenize_block(texts: Sequence[str], language: str, advance: Advance | None = None) -> tuple[TokenIds, list[str]]:
    tokenizer = get_tokenizer(language)
    units = numbering()
    units[BOS]  # number 0, even if there are no texts
    parts = [TokenIds(np.empty(0, np.int32), np.zeros(1, np.int64))]
    for batch in _batches(texts):
        chunks = numbering()
        flat, ends = array("i"), array("q", [0])
        for text in batch:
            flat.extend(map(chunks.__getitem__, tokenizer.chunks(clean(text))))
            ends.append(len(flat))
        corpus = TokenIds(np.array(flat, np.int32), np.array(ends, np.int64))
        chunk_units = tokenizer.units(list(chunks))
        parts.append(_expand(corpus, map(len, chunk_units), itertools.chain.from_iterable(chunk_units), units))
        if advance is not None:
            advance(len(batch))
    names = list(units)
    corpus = mark_repeated_words(concatenate(parts), names)
    index = numbering()
    lengths = (unit.count(" ") + 1 for unit in names)
    return _expand(corpus, lengths, " ".join(names).split(" "), index), list(index)


def numbering() -> defaultdict[str, int]:
    """Return a dict that assigns the next number to each new key."""
    return defaultdict(itertools.count().__next__)


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield consecutive texts in batches of about equally many characters."""
    run = np.cumsum([len(text) for text in texts]) // _CHARACTERS_AT_ONCE
    edges = [0, *(np.flatnonzero(np.diff(run)) + 1).tolist(), len(texts)]
    return (texts[start:end] for start, end in itertools.pairwise(edges))


def _expand(corpus: TokenIds, lengths: Iterable[int], words: Iterable[str], index: dict[str, int]) -> TokenIds:
    """Replace each id i by the ids of the next ``lengths[i]`` words; add new words to `index`."""
    ids = np.fromiter(map(index.__getitem__, words), np.int32)
    table = TokenIds(ids, np.cumsum([0, *lengths]))
    expanded = table.take(corpus.ids)
    return TokenIds(expanded.ids, expanded.offsets[corpus.offsets])


def mark_repeated_words(corpus: TokenIds, units: list[str]) -> TokenIds:
    """Replace three or more equal words in a row by ``xxwrep n word``; append such units to `units`."""
    n = len(corpus.ids)
    same = np.zeros(n, bool)  # same[i]: unit i equals the unit before it
    same[1:] = corpus.ids[1:] == corpus.ids[:-1]
    same[corpus.offsets[:-1][corpus.lengths > 0]] = False
    if not np.any(same[1:] & same[:-1]):
        return corpus
    starts = np.flatnonzero(~same)
    run_lengths = np.diff(np.append(starts, n))
    ids, keep = corpus.ids.copy(), np.ones(n, bool)
    new: dict[str, int] = {}
    for start, length in zip(starts[run_lengths > 2], run_lengths[run_lengths > 2], strict=True):
        unit = units[ids[start]]
        if unit[0].isalpha() and not unit.startswith((REP, FLD, BOS)):
            ids[start] = new.setdefault(f"{WREP} {length} {unit}", len(units) + len(new))
            keep[start + 1 : start + length] = False
    units += new
    return TokenIds(ids[keep], np.concatenate([[0], np.cumsum(keep)])[corpus.offsets])
