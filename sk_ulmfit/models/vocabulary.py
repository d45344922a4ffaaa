"""The weights of a language model for another vocabulary."""

from __future__ import annotations

import numpy as np

from sk_ulmfit.models.state import Weights
from sk_ulmfit.text.vocabulary import Vocabulary


def fit_vocabulary(weights: Weights, old: Vocabulary, new: Vocabulary) -> Weights:
    """Return the weights of a language model for another vocabulary.

    Words of both vocabularies keep their row of the embedding and their bias; new words get the mean row and the mean
    bias, as in Howard & Ruder (2018). All other arrays are the same objects.
    """
    if old == new:
        return weights
    rows = np.array([old.index(word) if word in old else -1 for word in new.words])
    known = rows >= 0
    result = dict(weights)
    for name in ("encoder.embedding.weight", "decoder_bias"):
        array = weights[name]
        chosen = array[rows]
        chosen[~known] = array.mean(0)
        result[name] = chosen
    return result
