"""The weights of a language model for another vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.models.room import Room
from sk_ulmfit.models.state import Weights
from sk_ulmfit.text.vocabulary import Vocabulary, n_first_equal

EMBEDDING = "encoder.embedding.weight"
# Arrays with a row for each word, and the row of a new word.
_NEW_ROWS: dict[str, Callable[[NDArray[Any]], Any]] = {
    EMBEDDING: lambda array: array.mean(0),
    "decoder_bias": lambda array: array.mean(0),
    "vector.word_weight": lambda array: 0.0,
}


def fit_vocabulary(weights: Weights, old: Vocabulary, new: Vocabulary) -> Weights:
    """Return the weights of a language model for another vocabulary.

    Words of both vocabularies keep their row of the embedding, their bias, and their weight in the vector of a text if
    there is one. New words get the mean row and the mean bias, as in Howard & Ruder (2018), and the weight 0. All other
    arrays are the same objects.
    """
    if old == new:
        return weights
    return _with_rows(weights, old, new, Room())[0]


def grow_vocabulary(weights: Weights, old: Vocabulary, new: Vocabulary, room: Room) -> tuple[Weights, Room]:
    """Do the same with an embedding that may lie in a memory with room; return the memory of the result too."""
    return (weights, room) if old == new else _with_rows(weights, old, new, room)


def _with_rows(weights: Weights, old: Vocabulary, new: Vocabulary, room: Room) -> tuple[Weights, Room]:
    n_same = n_first_equal(old.words, new.words)
    rows = np.array([old.index(word) if word in old else -1 for word in new.words[n_same:]], np.int64)
    known = rows >= 0
    result = dict(weights)
    for name, new_row in _NEW_ROWS.items():
        if name in weights:
            array = weights[name]
            others = array[rows]
            others[~known] = new_row(array)
            if name == EMBEDDING and n_same == len(array):
                result[name], room = room.append(array, others)
            else:
                result[name] = np.concatenate([array[:n_same], others])
    return result, room
