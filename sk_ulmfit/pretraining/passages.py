"""Passages of corpora, from one sentence to 200 words, drawn at random."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sk_ulmfit.pretraining.log import Say
from sk_ulmfit.text.documents import read_documents
from sk_ulmfit.text.passages import cut

SHARES = (0.3, 0.25, 0.25, 0.2)  # of passages of one sentence, two, four to six, and of 100 to 200 words


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
