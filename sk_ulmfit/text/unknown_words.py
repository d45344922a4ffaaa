"""Warnings of texts that a model cannot read: most of their words are unknown, or they have no known word at all."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._messages import count, short
from sk_ulmfit.text.tokenizer import FIELD_SEPARATOR
from sk_ulmfit.text.vocabulary import SPECIAL_TOKENS, Vocabulary

MIN_TEXTS = MIN_WORDS = 3  # fewer may be unusual by chance
MOST_COMMON = 20_000  # rarer words of a large vocabulary are also names, and words of other languages

BASE_RATES, MEANS = "the base rate of each label", "the mean of each target"  # what texts without words get

_has_warned: ContextVar[list[bool] | None] = ContextVar("_has_warned", default=None)
_gathered: ContextVar[TextsWithoutWords | None] = ContextVar("_gathered", default=None)


@dataclass
class WordCount:
    """How many words were read, and how many of these are rare or unknown; numbers, signs and markers are no words."""

    n_texts: int = 0
    n_words: int = 0
    n_unknown: int = 0

    def add(self, n_texts: int, words: Sequence[str], counts: NDArray[np.integer[Any]], known: Vocabulary) -> None:
        """Count distinct words, of which ``counts``, shape (len(words),), says how often each occurs.

        Of `known`, which has its words in the order of their frequency, the first `MOST_COMMON` count as known.
        """
        is_word = np.fromiter(map(_is_word, words), bool, len(words))
        ids = known.lookup(words)
        is_known = (ids != known.unk) & (ids < MOST_COMMON)
        self.n_texts += n_texts
        self.n_words += int(counts[is_word].sum())
        self.n_unknown += int(counts[is_word & ~is_known].sum())

    def warn_if_mostly_unknown(self, of_what: str, remedy: str) -> None:
        """Warn if more than half of the words are unknown, once within `one_warning`.

        The text has no numbers, so that Python shows it once in a loop.
        """
        if self.n_texts < MIN_TEXTS or self.n_words < MIN_WORDS or 2 * self.n_unknown <= self.n_words:
            return
        warned = _has_warned.get()
        if warned:
            return
        if warned is not None:
            warned.append(True)
        warnings.warn(f"More than half of the words in {of_what}. {remedy}", UserWarning, stacklevel=3)


@contextmanager
def one_warning() -> Iterator[None]:
    """Warn at most once in this block, however many networks read the texts."""
    if _has_warned.get() is not None:
        yield
        return
    token = _has_warned.set([])
    try:
        yield
    finally:
        _has_warned.reset(token)


@dataclass
class TextsWithoutWords:
    """How many texts were predicted, and how many of them have no word that the model knows."""

    has_rows: bool = True  # whether the texts are the rows of one table
    n_texts: int = 0
    n_without: int = 0
    example: str = ""
    prediction: str = BASE_RATES

    def add(self, texts: Iterable[str], has_words: NDArray[np.bool_]) -> None:
        """Count texts; ``has_words``, shape (n,), says which have a known word."""
        without = np.flatnonzero(~has_words)
        if len(without) and not self.n_without:
            text = next(islice(texts, int(without[0]), None))
            place = f" in row {self.n_texts + without[0] + 1:,}" if self.has_rows else ""
            self.example = f"{'the empty text' if _is_empty(text) else short(text)}{place}"
        self.n_texts += len(has_words)
        self.n_without += len(without)

    def warn(self) -> None:
        """Warn if a text has no known word."""
        if not self.n_without:
            return
        is_one = self.n_without == 1
        if self.n_texts == 1:
            which = "The text has"
        else:
            which = f"{self.n_without:,} of {count(self.n_texts, 'text')} {'has' if is_one else 'have'}"
        example = "" if self.n_texts == 1 else f", {'' if is_one else 'such as '}{self.example}"
        end = f"{'it gets' if is_one else 'they get'} {self.prediction}."
        warnings.warn(f"{which} no word that the model knows{example}; {end}", UserWarning, stacklevel=4)


def warn_of_texts_without_words(texts: Iterable[str], has_words: NDArray[np.bool_], prediction: str) -> None:
    """Warn of texts without a known word, now or at the end of `as_one_call`; `prediction` is what they get."""
    gathered = _gathered.get()
    report = TextsWithoutWords() if gathered is None else gathered
    report.prediction = prediction
    report.add(texts, has_words)
    if gathered is None:
        report.warn()


@contextmanager
def as_one_call(has_rows: bool = True) -> Iterator[None]:
    """Warn once, at the end of this block, of all texts without a known word that it predicts."""
    report = TextsWithoutWords(has_rows)
    token = _gathered.set(report)
    try:
        yield
    finally:
        _gathered.reset(token)
    report.warn()


def warn_of_empty_texts(texts: Iterable[str]) -> None:
    """Warn if some texts of a training are empty."""
    n_texts = n_empty = first = 0
    for n_texts, text in enumerate(texts, 1):
        if _is_empty(text):
            n_empty, first = n_empty + 1, first or n_texts
    if n_empty:
        which = "is empty, the one" if n_empty == 1 else "are empty, the first"
        warnings.warn(
            f"{n_empty:,} of {count(n_texts, 'training text')} {which} in row {first:,}; leave out such rows.",
            UserWarning,
            stacklevel=4,
        )


def warn_of_training_texts(count: WordCount, language: str) -> None:
    """Warn if the texts of a training are mostly unknown words."""
    count.warn_if_mostly_unknown(
        f"the training texts are unknown to the language model, whose language is {language!r}",
        "For texts in another language, pass language= and a language model of that language, or train one from "
        "scratch (pretrained=None).",
    )


def warn_of_texts(count: WordCount, language: str) -> None:
    """Warn if texts to predict are mostly unknown words."""
    count.warn_if_mostly_unknown(
        f"these texts are unknown to the model, whose language is {language!r}, so its predictions mean little",
        "For texts in another language, train a model with language= and a language model of that language.",
    )


def _is_empty(text: str) -> bool:
    return not text.replace(FIELD_SEPARATOR, "").strip()


def _is_word(token: str) -> bool:
    return token not in SPECIAL_TOKENS and any(map(str.isalpha, token))
