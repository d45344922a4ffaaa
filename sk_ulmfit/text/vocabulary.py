"""The vocabulary of a model, and documents as ids of its words."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._messages import short

SPECIAL_TOKENS = ("xxunk", "xxpad", "xxbos", "xxfld", "xxrep", "xxwrep", "xxup", "xxmaj")
UNK, PAD, BOS, FLD, REP, WREP, UP, MAJ = SPECIAL_TOKENS
RESERVED = re.compile(rf"(?:{'|'.join(SPECIAL_TOKENS)}|xxfake\d+)")
_DOCUMENTS_AT_ONCE = 50_000


@dataclass(frozen=True, repr=False)
class TokenIds:
    """Token ids of documents in one flat array: document i is ``ids[offsets[i]:offsets[i + 1]]``.

    `ids` has shape (n_tokens,), `offsets` has shape (n_documents + 1,).
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"TokenIds of {len(self):,} documents with {len(self.ids):,} tokens"

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

    def first(self, n: int) -> TokenIds:
        """Return the first `n` documents, without a copy."""
        return TokenIds(self.ids[: self.offsets[n]], self.offsets[: n + 1])

    def reversed(self) -> TokenIds:
        """Reverse each document, for a model that reads backward; its first token, ``xxbos``, stays first."""
        ids = np.empty_like(self.ids)
        for start in range(0, len(self), _DOCUMENTS_AT_ONCE):  # index arrays of bounded size
            offsets = self.offsets[start : start + _DOCUMENTS_AT_ONCE + 1]
            lengths, begin, end = np.diff(offsets), offsets[0], offsets[-1]
            first = offsets[:-1][lengths > 0]
            place = np.repeat(offsets[:-1] + offsets[1:], lengths) - np.arange(begin, end)
            place[first - begin] = first
            ids[begin:end] = self.ids[place]
        return TokenIds(ids, self.offsets)

    def map_ids(self, table: NDArray[np.integer[Any]]) -> TokenIds:
        """Replace each id i by ``table[i]``."""
        return TokenIds(table.astype(np.int32)[self.ids], self.offsets)


class Vocabulary:
    """The words of a model and their ids.

    Special tokens are looked up by name, not by position, so published vocabularies keep their ids. The size is
    rounded up to a multiple of 8 with fillers, for faster matrix kernels.

    Parameters
    ----------
    words : iterable of str
        Words in id order. Missing special tokens are appended. Repeated words, such as the ``xxfake`` entries of
        fastai, are replaced by distinct fillers.

    Attributes
    ----------
    words : list of str
        Word of each id.

    Examples
    --------
    >>> from sk_ulmfit.text import Vocabulary
    >>> vocabulary = Vocabulary(["lamp", "hub"])
    >>> len(vocabulary), vocabulary.index("lamp")
    (16, 0)
    >>> vocabulary.index("never seen") == vocabulary.unk
    True
    >>> Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    True
    """

    def __init__(self, words: Iterable[str]):
        names: list[str | None] = list(words)
        for word in names:
            if not isinstance(word, str):
                raise ValueError(
                    f"The words of a vocabulary must be str; got {short(word)} of type {type(word).__name__}."
                )
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
        weighted_counts: NDArray[np.float64] | None = None,
    ) -> Vocabulary:
        """Return the vocabulary of a corpus: special tokens, then words by decreasing count, ties by alphabet.

        Words that occur less often than `min_frequency` are left out. The words `known` to a pre-trained model are kept
        whatever their count, and fill the places that the corpus leaves free. `counts` has shape (len(words),);
        `max_size`, at least 16, includes the special tokens. Words are ordered by `weighted_counts`, (len(words),), if
        given; `min_frequency` refers to `counts`.
        """
        if max_size < 16:
            raise ValueError(f"max_size must be at least 16, got {max_size}.")
        if min_frequency < 1:
            raise ValueError(f"min_frequency must be at least 1, got {min_frequency}.")
        is_known = set(known)
        order = (counts if weighted_counts is None else weighted_counts).tolist()
        reserved = {word for word in words if RESERVED.fullmatch(word)}
        chosen = [
            word
            for _, word in sorted(
                (-place, word)
                for word, count, place in zip(words, counts, order, strict=True)
                if word not in reserved and count > 0 and (count >= min_frequency or word in is_known)
            )
        ]
        seen = set(chosen)
        chosen += [word for word in known if word not in seen and not RESERVED.fullmatch(word)]
        room = max_size // 8 * 8 - len(SPECIAL_TOKENS)
        return cls([*SPECIAL_TOKENS, *chosen[:room]])

    def grown(
        self, words: Sequence[str], counts: NDArray[np.integer[Any]], *, max_size: int, min_frequency: int
    ) -> Vocabulary:
        """Return this vocabulary with the new words of a corpus after its own, by decreasing count, ties by alphabet.

        Parameters as of `from_counts`. All ids stay, those of fillers too. If there is no room for all new words, the
        result is that of `from_counts`: words that the corpus lacks give way. Without new words it is this vocabulary.
        """
        new = sorted(
            (-count, word)
            for word, count in zip(words, counts.tolist(), strict=True)
            if count >= min_frequency and word not in self._index and not RESERVED.fullmatch(word)
        )
        if not new:
            return self
        index = dict(self._index)
        if len(index) + len(new) > max_size // 8 * 8:
            return Vocabulary.from_counts(
                words, counts, max_size=max_size, min_frequency=min_frequency, known=self.words
            )
        for _, word in new:
            index[word] = len(index)
        fillers = (name for i in itertools.count() if (name := f"xxfake{i}") not in index)
        while len(index) % 8:
            index[next(fillers)] = len(index)
        grown = Vocabulary.__new__(Vocabulary)  # without a check of each word
        grown._index, grown.words = index, list(index)
        return grown

    def __len__(self) -> int:
        return len(self.words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.words == other.words

    def __repr__(self) -> str:
        return f"Vocabulary of {len(self)} words"

    __hash__ = None  # type: ignore[assignment]

    @property
    def unk(self) -> int:
        """Id of ``xxunk``, the token of every unknown word."""
        return self._index[UNK]

    @property
    def pad(self) -> int:
        """Id of ``xxpad``, which no text contains."""
        return self._index[PAD]

    def __contains__(self, word: object) -> bool:
        return word in self._index

    def index(self, word: str) -> int:
        """Return the id of a word; the id of ``xxunk`` if it is unknown."""
        return self._index.get(word, self._index[UNK])

    def lookup(self, words: Sequence[str]) -> NDArray[np.int32]:
        """Return the ids of words, shape (len(words),)."""
        return np.fromiter(map(self.index, words), np.int32, len(words))

    def to_json(self) -> str:
        """Return the words as a JSON list."""
        return json.dumps(self.words)

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """Read what `to_json` wrote."""
        words = json.loads(text)
        if not isinstance(words, list):
            raise ValueError(f"A vocabulary must be a JSON list of words; got a {type(words).__name__}.")
        return cls(words)


def concatenate(parts: Sequence[TokenIds]) -> TokenIds:
    """Concatenate corpora with the same vocabulary."""
    lengths = np.concatenate([part.lengths for part in parts])
    ids = np.concatenate([part.ids for part in parts])
    return TokenIds(ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def n_first_equal(words: Sequence[str], others: Sequence[str]) -> int:
    """Count the words at the beginning that have the same ids in both."""
    pairs = enumerate(zip(words, others, strict=False))
    return next((place for place, (word, other) in pairs if word != other), min(len(words), len(others)))
