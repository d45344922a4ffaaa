"""Passages of corpora, from one sentence to 200 words: cut from their documents and drawn at random."""

from __future__ import annotations

import html
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sk_ulmfit.pretraining.log import Say
from sk_ulmfit.text.documents import read_documents

SHORTEST_SENTENCE, LONGEST_PASSAGE = 4, 200  # words; a shorter sentence belongs to the next one
SHARES = (0.3, 0.25, 0.25, 0.2)  # of passages of one sentence, two, four to six, and of 100 to 200 words
_NO_END = "".join(rf"(?<!\b{word})" for word in ("[A-Z]", "Mr", "Mrs", "Ms", "Dr", "St", "vs", "No", r"e\.g", r"i\.e"))
_SENTENCE_END = re.compile(rf"{_NO_END}[.!?…]+[\"'”’)\]]*\s+|\n\s*")


@dataclass(frozen=True)
class WeightedCorpus:
    """A corpus, and how much it counts beside others."""

    path: Path
    weight: float

    @property
    def name(self) -> str:
        """Name of the file or folder up to the first dot."""
        return self.path.name.split(".")[0]


@dataclass(frozen=True)
class PassageSettings:
    """What determines the passages: corpora, how many to draw from all together, shares of the four lengths, seed."""

    corpora: tuple[WeightedCorpus, ...]
    n_passages: int
    shares: tuple[float, ...] = SHARES
    seed: int = 0
    field: str = "text"
    exclude: Path | None = None  # see `corpus_files`

    def n_to_draw(self, corpus: WeightedCorpus) -> int:
        """Return how many passages of a corpus to draw."""
        return round(self.n_passages * corpus.weight / sum(corpus.weight for corpus in self.corpora))


@dataclass(frozen=True)
class Passage:
    """A passage, and the name of its corpus."""

    corpus: str
    text: str


def draw_passages(settings: PassageSettings, readable: Callable[[str], str], say: Say) -> list[Passage]:
    """Draw passages of each corpus by its weight and shuffle them; the first ones are a fair sample of all.

    `readable` returns the part of a text that the teacher reads. Equal passages of a corpus are kept once.
    """
    passages: list[Passage] = []
    for corpus in settings.corpora:
        n = settings.n_to_draw(corpus)
        say(f"drawing {n:,} passages of {corpus.name}")
        texts = dict.fromkeys(filter(None, map(readable, _draw(corpus, n, settings))))
        say(f"{len(texts):,} different passages of {corpus.name}")
        passages += [Passage(corpus.name, text) for text in texts]
    random.Random(settings.seed).shuffle(passages)
    return passages


def _draw(corpus: WeightedCorpus, n: int, settings: PassageSettings) -> list[str]:
    """Draw n of the passages of a corpus, each with the same chance; all of them if there are fewer."""
    rng = random.Random(f"{settings.seed} {corpus.path.name}")
    documents = read_documents(corpus.path, settings.field, settings.exclude)
    texts = (text for document in documents for text in cut(document, settings.shares, rng))
    drawn: list[str] = []
    for n_before, text in enumerate(texts):
        if n_before < n:
            drawn.append(text)
        elif (place := rng.randrange(n_before + 1)) < n:
            drawn[place] = text
    return drawn


def cut(document: str, shares: Sequence[float], rng: random.Random) -> Iterator[str]:
    """Cut a document into passages that follow one another and whose lengths are drawn.

    No word is lost, unless the last passage is shorter than a sentence.
    """
    passage: list[str] = []
    n_words, (most_sentences, most_words) = 0, _draw_length(shares, rng)
    for sentence in _sentences(html.unescape(document)):
        length = len(sentence.split())
        if passage and (len(passage) == most_sentences or n_words + length > most_words):
            yield "".join(passage).strip()
            passage, n_words, (most_sentences, most_words) = [], 0, _draw_length(shares, rng)
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
