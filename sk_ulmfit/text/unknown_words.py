"""A warning if most words of some texts are unknown: they are in another language, or no language at all."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.text.vocabulary import SPECIAL_TOKENS, Vocabulary

MIN_TEXTS = MIN_WORDS = 3  # fewer may be unusual by chance
MOST_COMMON = 20_000  # rarer words of a large vocabulary are also names, and words of other languages

_has_warned: ContextVar[list[bool] | None] = ContextVar("_has_warned", default=None)


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


def _is_word(token: str) -> bool:
    return token not in SPECIAL_TOKENS and any(map(str.isalpha, token))
