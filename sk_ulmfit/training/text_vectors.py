"""The vectors of texts that the encoder of a language model computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.models.assembly import restore_language_model
from sk_ulmfit.models.state import ModelState
from sk_ulmfit.nn.features import pooled_features
from sk_ulmfit.text.vocabulary import TokenIds


def vector_width(config: Mapping[str, Any]) -> int:
    """Return the number of dimensions of the vectors of a language model; `config` as in `ModelState`."""
    return int(config.get("vector_dim", 3 * config["emb_dim"]))


def text_vectors(state: ModelState, corpus: TokenIds, device: str, precision: str) -> NDArray[np.float32]:
    """Return the vectors of documents, (n, vector_width), each independent of the other documents.

    They are those of the model's `TextVector`, or [last; max; mean] of the outputs of the top layer if it has none.
    The documents must be in the vocabulary and the reading order of `state`, a language model.
    """
    module = restore_language_model(state, device)
    vectors = pooled_features(
        module.encoder,
        corpus.ids,
        corpus.offsets,
        max_length=None,
        precision=precision,
        vector=module.vector,
        in_order=True,
    )
    return vectors.numpy()
