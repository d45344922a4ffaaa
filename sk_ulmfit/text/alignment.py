"""The words of a text, and the tokens that the tokenizer makes of each."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.text.tokenizer import FIELD, clean, get_tokenizer, mark_repeated_words, numbering
from sk_ulmfit.text.vocabulary import BOS, FLD, WREP, TokenIds


@dataclass(frozen=True)
class Alignment:
    """The words of one text and the tokens of each.

    A unit is a word with its markers, such as ``xxmaj hello`` or ``xxrep 4 !``; a run of equal words, ``xxwrep 3 no``;
    or ``xxbos`` or ``xxfld 2``, which has no word. Unit i has the tokens ``token_offsets[i]:token_offsets[i + 1]`` and
    the words ``word_offsets[i]:word_offsets[i + 1]``. Only white space lies between words.
    """

    text: str  # as the tokenizer reads it: entities and control characters resolved, letters composed, fields as lines
    words: list[str]
    spans: NDArray[np.int64]  # (n_words, 2), start and end of each word in `text`
    tokens: list[str]  # what `tokenize` returns
    token_offsets: NDArray[np.int64]  # (n_units + 1,)
    word_offsets: NDArray[np.int64]  # (n_units + 1,)


def align(text: str, language: str = "en") -> Alignment:
    """Align the words of a text with its tokens.

    A word has an empty span where a tokenizer that is not spaCy's own writes it differently from the text.

    Examples
    --------
    >>> from sk_ulmfit.text.alignment import align
    >>> aligned = align("Sooo GOOD: no no no!")
    >>> aligned.words
    ['S', 'ooo', 'GOOD', ':', 'no', 'no', 'no', '!']
    >>> begin, end = aligned.token_offsets[-3:-1]
    >>> aligned.tokens[begin:end], aligned.spans[2].tolist()
    (['xxwrep', '3', 'no'], [5, 9])
    """
    text = clean(text)
    words, spans, units = _words_and_units(text, language)
    tokens = [unit.split(" ") for unit in units]
    return Alignment(
        text.replace(FIELD, "\n"),
        words,
        np.array(spans, np.int64).reshape(-1, 2),
        [token for unit in tokens for token in unit],
        np.cumsum([0, *map(len, tokens)]),
        np.cumsum([0, *map(_n_words, tokens)]),
    )


def _words_and_units(text: str, language: str) -> tuple[list[str], list[tuple[int, int]], list[str]]:
    """Return the words of a cleaned text, their spans, and its units with runs of equal words marked."""
    tokenizer = get_tokenizer(language)
    chunks = tokenizer.chunks(text)
    words: list[str] = []
    spans: list[tuple[int, int]] = []
    index = numbering()
    ids = array("i")
    at = chunk_end = 0
    for chunk, chunk_words in zip(chunks, tokenizer.words(chunks), strict=True):
        if not chunk.startswith(FIELD):
            at = text.index(chunk, chunk_end)
            chunk_end = at + len(chunk)
        for word, unit in chunk_words:
            ids.append(index[unit])
            if word:
                begin = text.find(word, at, chunk_end)
                begin, at = (begin, begin + len(word)) if begin >= 0 else (at, at)
                words.append(word)
                spans.append((begin, at))
    names = list(index)
    corpus = mark_repeated_words(TokenIds(np.array(ids, np.int32), np.array([0, len(ids)])), names)
    return words, spans, [names[i] for i in corpus.ids]


def _n_words(unit: list[str]) -> int:
    """Count the words that a unit, given as its tokens, stands for."""
    if unit[0] in (BOS, FLD):
        return 0
    return int(unit[1]) if unit[0] == WREP else 1
