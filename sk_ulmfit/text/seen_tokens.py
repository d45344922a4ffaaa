"""Tokens of texts, kept in memory so that a fit that goes on tokenizes only new texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sk_ulmfit.text.streams import Advance
from sk_ulmfit.text.tokenizer import tokenize_corpus
from sk_ulmfit.text.vocabulary import TokenIds, concatenate

MOST_TOKENS = 2_000_000  # that are kept


class SeenTokens(NamedTuple):
    """Texts and their tokens.

    Attributes
    ----------
    rows : dict of str to int
        Number of the document of each text.
    corpus : TokenIds
        Documents, as numbers of `words`.
    words : list of str
        All words, those that no vocabulary knows included.
    language : str
        Language of the tokenizer.
    """

    rows: dict[str, int]
    corpus: TokenIds
    words: list[str]
    language: str


class TokenStore:
    """Tokens that an earlier fit has kept, or None; and those that this fit keeps, None if it read none."""

    def __init__(self, earlier: SeenTokens | None = None):
        self.earlier = earlier
        self.kept: SeenTokens | None = None

    def tokenize(
        self, texts: Sequence[str], language: str, n_jobs: int | None = None, advance: Advance | None = None
    ) -> tuple[TokenIds, list[str]]:
        """Return what `tokenize_corpus` returns, the words in another order; texts that were seen are looked up."""
        seen = self.earlier
        if seen is None or seen.language != language:
            corpus, words = tokenize_corpus(texts, language, n_jobs, advance)
        else:
            corpus, words = _with_new(seen, texts, n_jobs, advance)
        n_kept = int(np.searchsorted(corpus.offsets, MOST_TOKENS, side="right")) - 1
        rows = {text: row for row, text in enumerate(texts[:n_kept])}
        offsets = corpus.offsets[: n_kept + 1]
        self.kept = self.earlier = SeenTokens(rows, TokenIds(corpus.ids[: offsets[-1]], offsets), words, language)
        return corpus, words


def _with_new(
    seen: SeenTokens, texts: Sequence[str], n_jobs: int | None, advance: Advance | None
) -> tuple[TokenIds, list[str]]:
    """Return the tokens of texts, of which only those that were not seen are tokenized."""
    rows = np.array([seen.rows.get(text, -1) for text in texts])
    is_new = rows < 0
    if advance is not None:
        advance(int(len(rows) - is_new.sum()))
    words, corpus = seen.words, seen.corpus
    if is_new.any():
        new, new_words = tokenize_corpus(
            [texts[row] for row in np.flatnonzero(is_new).tolist()], seen.language, n_jobs, advance
        )
        index = {word: number for number, word in enumerate(words)}
        table = np.array([index.setdefault(word, len(index)) for word in new_words], np.int32)
        words = list(index)
        rows[is_new] = len(corpus) + np.arange(is_new.sum())
        corpus = concatenate([corpus, new.map_ids(table)])
    return _without_other_words(corpus.take(rows), words)


def _without_other_words(corpus: TokenIds, words: list[str]) -> tuple[TokenIds, list[str]]:
    """Leave out the words that no document has."""
    used = np.unique(corpus.ids)
    if len(used) == len(words):
        return corpus, words
    table = np.full(len(words), -1)
    table[used] = np.arange(len(used))
    return corpus.map_ids(table), [words[number] for number in used]
