"""The vocabulary of a corpus from the word counts of its shards, exact whatever its size.

A word belongs to one of several buckets, by its checksum. The words of a bucket are counted in all shards together, and
the most frequent of each bucket are candidates for the vocabulary.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.text.corpora import shares
from sk_ulmfit.text.shards import Shard, words_of
from sk_ulmfit.text.tokenizer import numbering
from sk_ulmfit.text.unknown_words import WordCount, warn_of_training_texts
from sk_ulmfit.text.vocabulary import Vocabulary
from sk_ulmfit.text.workers import Workers

_BYTES_OF_A_BUCKET = 2**27  # of a corpus, if there is one bucket: some hundred thousand distinct words
_GROWTH = 0.65  # the number of distinct words grows about as this power of the size of a text (Heaps' law)


@dataclass(frozen=True)
class VocabularySettings:
    """What decides on the vocabulary; see `Vocabulary.from_counts`."""

    language: str
    max_size: int
    min_frequency: int
    weights: tuple[float, ...] | None


@dataclass(frozen=True)
class BucketTask:
    """The words of a bucket, to be counted in the shards of each corpus."""

    shards: tuple[tuple[Shard, ...], ...]
    bucket: int
    settings: VocabularySettings
    factors: tuple[float, ...] | None  # of the counts in each corpus, to order the words by; None: all 1


@dataclass(frozen=True)
class Candidates:
    """Words that may be in the vocabulary, and their counts in each corpus, (n_corpora, n).

    `n_words` is how many words were read, frequent or not; numbers, signs and markers are no words.
    """

    words: list[str]
    counts: NDArray[np.int64]
    n_words: int


def n_buckets_of(n_bytes: int) -> int:
    """Return into how many buckets to divide the words of a corpus, so that those of one fit into memory."""
    return max(1, round((n_bytes / _BYTES_OF_A_BUCKET) ** _GROWTH))


def choose_vocabulary(
    shards: Sequence[Sequence[Shard]], n_buckets: int, settings: VocabularySettings, workers: Workers
) -> Vocabulary:
    """Return the vocabulary of corpora that were tokenized into shards."""
    n_tokens = np.array([sum(shard.n_tokens for shard in of_corpus) for of_corpus in shards])
    factors = None
    if settings.weights is not None:
        factors = tuple((shares(settings.weights) * n_tokens.sum() / n_tokens).tolist())
    by_corpus = tuple(map(tuple, shards))
    tasks = (BucketTask(by_corpus, bucket, settings, factors) for bucket in range(n_buckets))
    found = Candidates([], np.zeros((len(shards), 0), np.int64), 0)
    for candidates in workers.run(count_bucket, tasks):
        words = [*found.words, *candidates.words]
        counts = np.concatenate([found.counts, candidates.counts], axis=1)
        n_words = found.n_words + candidates.n_words
        found = Candidates(*_most_frequent(words, counts, settings, factors), n_words)
    total = found.counts.sum(axis=0)
    vocabulary = Vocabulary.from_counts(
        found.words,
        total,
        max_size=settings.max_size,
        min_frequency=settings.min_frequency,
        weighted_counts=None if factors is None else _weighted(found.counts, factors),
    )
    word_count = WordCount()
    word_count.add(sum(shard.n_documents for part in shards for shard in part), found.words, total, vocabulary)
    n_others = found.n_words - word_count.n_words  # words that are no candidates are unknown
    word_count = replace(word_count, n_words=found.n_words, n_unknown=word_count.n_unknown + n_others)
    warn_of_training_texts(word_count, settings.language)
    return vocabulary


def count_bucket(task: BucketTask) -> Candidates:
    """Count the words of a bucket in all shards; return those that are frequent enough for the vocabulary."""
    index = numbering()
    counts = np.zeros((len(task.shards), 0), np.int64)
    for corpus, shards in enumerate(task.shards):
        for shard in shards:
            words, of_shard = words_of(shard.path, task.bucket)
            numbers = np.fromiter(map(index.__getitem__, words), np.int64, len(words))
            if len(index) > counts.shape[1]:
                room = np.zeros((len(task.shards), 2 * len(index) - counts.shape[1]), np.int64)
                counts = np.concatenate([counts, room], axis=1)
            counts[corpus, numbers] += of_shard
    words, counts = list(index), counts[:, : len(index)]
    of_all = WordCount()
    of_all.add(0, words, counts.sum(axis=0), Vocabulary([]))
    return Candidates(*_most_frequent(words, counts, task.settings, task.factors), of_all.n_words)


def _most_frequent(
    words: Sequence[str], counts: NDArray[np.int64], settings: VocabularySettings, factors: tuple[float, ...] | None
) -> tuple[list[str], NDArray[np.int64]]:
    """Return the words that may be in the vocabulary, in its order, and their counts in each corpus."""
    total = counts.sum(axis=0)
    order = (total if factors is None else _weighted(counts, factors)).tolist()
    enough = np.flatnonzero(total >= settings.min_frequency).tolist()
    best = heapq.nsmallest(settings.max_size, ((-order[number], words[number], number) for number in enough))
    kept = [number for *_, number in best]
    return [words[number] for number in kept], counts[:, kept]


def _weighted(counts: NDArray[np.int64], factors: Sequence[float]) -> NDArray[np.float64]:
    """Return how often each word occurs where each corpus has its share of the tokens, (n_words,)."""
    weighted = np.zeros(counts.shape[1])
    for factor, of_corpus in zip(factors, counts, strict=True):
        weighted += factor * of_corpus
    return weighted
