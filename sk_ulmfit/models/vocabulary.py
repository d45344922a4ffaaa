"""The weights of a language model for another vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.models.state import Weights
from sk_ulmfit.text.vocabulary import Vocabulary

# Arrays with a row for each word, and the row of a new word.
_NEW_ROWS: dict[str, Callable[[NDArray[Any]], Any]] = {
    "encoder.embedding.weight": lambda array: array.mean(0),
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
    rows = np.array([old.index(word) if word in old else -1 for word in new.words])
    known = rows >= 0
    result = dict(weights)
    for name, new_row in _NEW_ROWS.items():
        if name in weights:
            array = weights[name]
            result[name] = array[rows]
            result[name][~known] = new_row(array)
    return result
