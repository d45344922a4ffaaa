"""Torch modules from the config of a model, and their weights as plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sk_ulmfit.models.state import Weights
from sk_ulmfit.nn.modules import (
    AWDLSTM,
    CLASSIFIER_DROPOUT,
    LANGUAGE_MODEL_DROPOUT,
    ConcatPoolingHead,
    LanguageModel,
)
from sk_ulmfit.nn.pooling import TextClassifier


def _encoder(config: dict[str, Any], vocab_size: int, rates: dict[str, float], multiplier: float) -> AWDLSTM:
    dropout = {name: min(p * multiplier, 1.0) for name, p in rates.items() if name != "output_p"}
    return AWDLSTM(vocab_size, config["emb_dim"], config["hidden_dim"], config["n_layers"], **dropout)


def build_language_model(config: dict[str, Any], vocab_size: int, dropout_multiplier: float) -> LanguageModel:
    """Return a language model with random weights; `config` as in `ModelState`."""
    encoder = _encoder(config, vocab_size, LANGUAGE_MODEL_DROPOUT, dropout_multiplier)
    return LanguageModel(encoder, min(LANGUAGE_MODEL_DROPOUT["output_p"] * dropout_multiplier, 1.0))


def build_classifier(config: dict[str, Any], vocab_size: int, dropout_multiplier: float) -> TextClassifier:
    """Return a classifier with random weights; `config` as in `ModelState`."""
    encoder = _encoder(config, vocab_size, CLASSIFIER_DROPOUT, dropout_multiplier)
    output_p = min(CLASSIFIER_DROPOUT["output_p"] * dropout_multiplier, 1.0)
    head = ConcatPoolingHead(3 * config["emb_dim"], len(config["label_names"]), output_p)
    return TextClassifier(encoder, head, config["bptt"], config["max_length"])


def encoder_weights(weights: Weights) -> Weights:
    """Return the weights of a model's encoder, by their names in the encoder."""
    return {name.removeprefix("encoder."): array for name, array in weights.items() if name.startswith("encoder.")}


def load_weights(module: torch.nn.Module, weights: Weights, assign: bool = False) -> None:
    """Set the tensors of a module.

    With `assign`, as a module on the "meta" device needs, the arrays become its tensors, without a copy.
    """
    copied = None if assign else True
    tensors = {name: torch.from_numpy(np.array(array, copy=copied)) for name, array in weights.items()}
    module.load_state_dict(tensors, assign=assign)


def plain_weights(module: torch.nn.Module) -> Weights:
    """Return copies of the tensors of a module as numpy arrays."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}
