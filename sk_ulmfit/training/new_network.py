"""The network of a classifier or regressor before its training, on the encoder of a language model."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from sk_ulmfit.models.assembly import build_classifier, load_weights, part_weights
from sk_ulmfit.models.schema import NAMES
from sk_ulmfit.models.state import ModelState
from sk_ulmfit.nn.device import without_contents
from sk_ulmfit.nn.modules import ConcatPoolingHead, LinearHead
from sk_ulmfit.nn.pooling import TextClassifier
from sk_ulmfit.training.data import TrainingTexts
from sk_ulmfit.training.settings import ClassifierSettings


def network_config(language_model: ModelState, data: TrainingTexts, settings: ClassifierSettings) -> dict[str, Any]:
    """Return the configuration of a network, without what is learned of its outputs."""
    return {
        **language_model.config,
        NAMES[data.kind]: list(data.names),
        "bptt": settings.bptt,
        "max_length": settings.max_length,
        "batch_size": settings.batch_size,
    }


def new_network(
    language_model: ModelState, config: dict[str, Any], bias: Tensor, settings: ClassifierSettings
) -> TextClassifier:
    """Build the network: encoder and vector of the language model, and a head that starts with `bias`, (K,)."""
    module = build_classifier(config, len(language_model.vocabulary), settings.dropout_multiplier)
    load_weights(module.encoder, part_weights(language_model.weights, "encoder"))
    if module.vector is not None:
        load_weights(module.vector, part_weights(language_model.weights, "vector"))
    cast("ConcatPoolingHead | LinearHead", module.head).start_at(bias)
    return module


def frozen_network(language_model: ModelState, config: dict[str, Any], bias: Tensor, copied: bool) -> TextClassifier:
    """Build the network for a linear head alone to be trained: no weight is drawn at random.

    Its arrays are those of the language model or, since a user may train the network later, copies of them.
    """
    parts = ("encoder.", "vector.")
    weights = {name: array for name, array in language_model.weights.items() if name.startswith(parts)}
    if copied:
        weights = {name: array.copy() for name, array in weights.items()}
    weights["head.weight"] = np.zeros((len(bias), config["vector_dim"]), np.float32)
    weights["head.bias"] = bias.numpy().astype(np.float32)
    with torch.inference_mode(False):
        with without_contents():
            module = build_classifier(config, len(language_model.vocabulary), 0.0)
        load_weights(module, weights, assign=True)
    return module
