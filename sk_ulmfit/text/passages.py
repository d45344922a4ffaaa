"""Texts cut into passages, at the ends of sentences."""

from __future__ import annotations

import html
import random
import re
from collections.abc import Callable, Iterator, Sequence

SHORTEST_SENTENCE, LONGEST_PASSAGE = 4, 200  # words; a shorter sentence belongs to the next one
_NO_END = "".join(rf"(?<!\b{word})" for word in ("[A-Z]", "Mr", "Mrs", "Ms", "Dr", "St", "vs", "No", r"e\.g", r"i\.e"))
_SENTENCE_END = re.compile(rf"{_NO_END}[.!?…]+[\"'”’)\]]*\s+|\n\s*")


def cut(document: str, shares: Sequence[float], rng: random.Random) -> Iterator[str]:
    """Cut a document into passages that follow one another and whose lengths are drawn.

    `shares` are those of passages of one sentence, two, four to six, and of 100 to 200 words. No word is lost, unless
    the last passage is shorter than a sentence.
    """
    yield from _passages(html.unescape(document), lambda: _draw_length(shares, rng))


def split_long(text: str) -> list[str]:
    """Return a text as one passage; cut into several, as long as possible, if it has more than 200 words."""
    if len(text.split()) <= LONGEST_PASSAGE:
        return [text] if text.strip() else []
    return list(_passages(text, lambda: (LONGEST_PASSAGE, LONGEST_PASSAGE)))


def _passages(text: str, next_length: Callable[[], tuple[int, int]]) -> Iterator[str]:
    """Yield passages; `next_length` returns the largest number of sentences and of words of the next one."""
    passage: list[str] = []
    n_words, (most_sentences, most_words) = 0, next_length()
    for sentence in _sentences(text):
        length = len(sentence.split())
        if passage and (len(passage) == most_sentences or n_words + length > most_words):
            yield "".join(passage).strip()
            passage, n_words, (most_sentences, most_words) = [], 0, next_length()
        passage.append(sentence)
        n_words += length
    if n_words >= SHORTEST_SENTENCE:
        yield "".join(passage).strip()


def _draw_length(shares: Sequence[float], rng: random.Random) -> tuple[int, int]:
    """Return the largest number of sentences and of words of a passage."""
    lengths = [
        (1, LONGEST_PASSAGE),
        (2, LONGEST_PASSAGE),
        (rng.randint(4, 6), LONGEST_PASSAGE),
        (LONGEST_PASSAGE, rng.randint(100, LONGEST_PASSAGE)),
    ]
    return rng.choices(lengths, shares)[0]


def _sentences(text: str) -> Iterator[str]:
    """Yield the sentences, each with the white space behind it; very long ones in pieces."""
    start = 0
    for end in [match.end() for match in _SENTENCE_END.finditer(text)] + [len(text)]:
        words = re.findall(r"\S+\s*", text[start:end])
        if len(words) < SHORTEST_SENTENCE and end < len(text):
            continue
        for first in range(0, len(words), LONGEST_PASSAGE):
            yield "".join(words[first : first + LONGEST_PASSAGE])
        start = end
