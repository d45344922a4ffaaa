"""Torch modules from the config of a model, and their weights as plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sk_ulmfit.models.schema import TEACHER, output_names
from sk_ulmfit.models.state import ModelState, Weights
from sk_ulmfit.nn.device import without_contents
from sk_ulmfit.nn.modules import (
    AWDLSTM,
    CLASSIFIER_DROPOUT,
    LANGUAGE_MODEL_DROPOUT,
    ConcatPoolingHead,
    LanguageModel,
    LinearHead,
)
from sk_ulmfit.nn.pooling import TextClassifier
from sk_ulmfit.nn.vector import TextVector


def _encoder(config: dict[str, Any], vocab_size: int, rates: dict[str, float], multiplier: float) -> AWDLSTM:
    dropout = {name: min(p * multiplier, 1.0) for name, p in rates.items() if name != "output_p"}
    return AWDLSTM(vocab_size, config["emb_dim"], config["hidden_dim"], config["n_layers"], **dropout)


def _vector(config: dict[str, Any], vocab_size: int) -> TextVector | None:
    if "vector_dim" not in config:
        return None
    return TextVector(vocab_size, config["emb_dim"], config["hidden_dim"], config["n_layers"], config["vector_dim"])


def build_language_model(config: dict[str, Any], vocab_size: int, dropout_multiplier: float) -> LanguageModel:
    """Return a language model with random weights; `config` as in `ModelState`."""
    encoder = _encoder(config, vocab_size, LANGUAGE_MODEL_DROPOUT, dropout_multiplier)
    output_p = min(LANGUAGE_MODEL_DROPOUT["output_p"] * dropout_multiplier, 1.0)
    return LanguageModel(encoder, output_p, _vector(config, vocab_size))


def restore_language_model(state: ModelState, device: str) -> LanguageModel:
    """Return a trained language model in evaluation mode; on the CPU its tensors are the arrays of `state`."""
    with torch.inference_mode(False):
        with without_contents():
            module = build_language_model(state.config, len(state.vocabulary), 0.0)
        load_weights(module, state.weights, assign=True)
        return module.to(device).eval()


def build_classifier(config: dict[str, Any], vocab_size: int, dropout_multiplier: float) -> TextClassifier:
    """Return a classifier with random weights; `config` as in `ModelState`."""
    encoder = _encoder(config, vocab_size, CLASSIFIER_DROPOUT, dropout_multiplier)
    output_p = min(CLASSIFIER_DROPOUT["output_p"] * dropout_multiplier, 1.0)
    n_outputs = len(output_names(config))
    vector = _vector(config, vocab_size)
    head: ConcatPoolingHead | LinearHead
    if vector is None:
        head = ConcatPoolingHead(3 * config["emb_dim"], n_outputs, output_p)
    else:
        head = LinearHead(config["vector_dim"], n_outputs, output_p)
    return TextClassifier(encoder, head, config["bptt"], config["max_length"], vector)


def part_weights(weights: Weights, part: str) -> Weights:
    """Return the weights of a part of a model, "encoder" or "vector", by their names in the part."""
    return {name.removeprefix(f"{part}."): array for name, array in weights.items() if name.startswith(f"{part}.")}


def load_weights(module: torch.nn.Module, weights: Weights, assign: bool = False) -> None:
    """Set the tensors of a module.

    With `assign`, as a module on the "meta" device needs, the arrays become its tensors, without a copy. The arrays of
    a teacher are left out: no network has them.
    """
    copied = None if assign else True
    tensors = {
        name: torch.from_numpy(np.array(array, copy=copied))
        for name, array in weights.items()
        if not name.startswith(TEACHER)
    }
    module.load_state_dict(tensors, assign=assign)


def plain_weights(module: torch.nn.Module) -> Weights:
    """Return copies of the tensors of a module as numpy arrays."""
    return {name: array.copy() for name, array in shared_weights(module).items()}


def shared_weights(module: torch.nn.Module) -> Weights:
    """Return the tensors of a module as numpy arrays; on the CPU they are its memory, so change neither."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in module.state_dict().items()}
