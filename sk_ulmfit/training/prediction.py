"""Prediction: from a trained model to its skorch net, outputs, scores and probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sk_ulmfit.models.assembly import build_classifier, load_weights
from sk_ulmfit.models.state import ModelState, reads_backward
from sk_ulmfit.nn.device import without_contents
from sk_ulmfit.nn.kernels import has_packed_8bit, has_packed_16bit
from sk_ulmfit.nn.pooling import TextClassifier
from sk_ulmfit.nn.precision import NARROWEST_PREDICTED, prediction_precision, widest_layer
from sk_ulmfit.text.streams import Advance
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.averaging import average_with_linear_model, mean_log_odds
from sk_ulmfit.training.batching import WINDOWS_PER_DOCUMENT
from sk_ulmfit.training.bounds import bound_log_odds
from sk_ulmfit.training.linear import LinearModel
from sk_ulmfit.training.net import MultiLabelNet, net_arguments
from sk_ulmfit.training.recipe import classifier_rates
from sk_ulmfit.training.settings import TrainingSettings
from sk_ulmfit.training.task import Classification, Task, task_of

Floats = NDArray[np.float64]

# `measure_shifts` compares the predictions for the ends of so many training texts.
PROBE_TEXTS, PROBE_LENGTH = 64, 150


class Network(NamedTuple):
    """A trained network of a classifier.

    Attributes
    ----------
    net : MultiLabelNet
        The skorch net.
    config : dict
        Its configuration: sizes, direction, and how far reduced precision moves its probabilities.
    """

    net: MultiLabelNet
    config: Mapping[str, Any]

    @property
    def module(self) -> TextClassifier:
        """The torch module."""
        return self.net.module_

    def in_reading_order(self, corpus: TokenIds) -> TokenIds:
        """Turn documents round if the network reads backward."""
        return corpus.reversed() if reads_backward(self.config) else corpus

    def logits(self, corpus: TokenIds, precision: str) -> Floats:
        """Compute the outputs for each document, shape (n, K): log-odds of a classifier.

        `precision` is the parameter of the estimator; "auto" is resolved for this network and machine.
        """
        shifts = self.config.get("shifts", {})
        resolved = prediction_precision(precision, self.net.device, widest_layer(self.config), shifts)
        return network_logits(self.net, self.in_reading_order(corpus), resolved)


def predict_log_odds(
    networks: Sequence[Network], linear_model: LinearModel | None, corpus: TokenIds, precision: str = "float32"
) -> Floats:
    """Compute the log-odds of a classifier's labels.

    Parameters
    ----------
    networks : sequence of Network
        Networks, whose probabilities are averaged.
    linear_model : LinearModel or None
        Its log-odds are averaged with those of each network.
    corpus : TokenIds
        n documents, from left to right.
    precision : str, default="float32"
        The parameter `precision` of the classifier.

    Returns
    -------
    ndarray of float64, shape (n, L)
        Log-odds.
    """
    return mean_log_odds(predict_scores(networks, linear_model, corpus, Classification(), precision))


def predict_scores(
    networks: Sequence[Network], linear_model: LinearModel | None, corpus: TokenIds, task: Task, precision: str
) -> list[Floats]:
    """Compute the scores of each network, shape (n, K) each: averaged with the linear model, and bounded."""
    scores = [task.scores(network.logits(corpus, precision)) for network in networks]
    if linear_model is not None:
        linear, share = linear_model.logits(corpus), linear_model.share
        scores = [average_with_linear_model(of_network, linear, share) for of_network in scores]
    return [bound_log_odds(part, network.config) for part, network in zip(scores, networks, strict=True)]


def network_logits(
    net: MultiLabelNet, corpus: TokenIds, precision: str = "float32", advance: Advance | None = None
) -> Floats:
    """Compute the outputs of a network alone, shape (n, K), for documents in its reading order."""
    return net.logits(corpus, precision, advance).numpy().astype(np.float64)


def probabilities(log_odds: Floats) -> Floats:
    """Turn log-odds into probabilities strictly between 0 and 1."""
    return Classification().predictions(log_odds)


def sample_for_shifts(corpus: TokenIds, documents: NDArray[np.int64], seed: int) -> TokenIds:
    """Cut out the ends of documents drawn at random from those with the numbers `documents`."""
    chosen = documents[np.random.default_rng(seed).permutation(len(documents))[:PROBE_TEXTS]]
    ends = [corpus[index][-PROBE_LENGTH:] for index in chosen]
    return TokenIds(np.concatenate(ends).astype(np.int32), np.cumsum([0, *map(len, ends)]))


def measure_shifts(
    state: ModelState, sample: TokenIds, task: Task, settings: TrainingSettings, advance: Advance | None = None
) -> dict[str, float]:
    """Measure how far reduced precision moves what a network predicts for a sample of documents.

    These are probabilities of labels, and standardised values.

    Return the largest absolute difference to float32, at most 1, for "bfloat16" and "int8"; without those that are not
    faster for an encoder of this width, or that this machine has no kernels for. `advance` is called with the tokens
    read.
    """
    kernels = {"bfloat16": has_packed_16bit(), "int8": has_packed_8bit()}
    width = widest_layer(state.config)
    reduced = [name for name, narrowest in NARROWEST_PREDICTED.items() if width >= narrowest and kernels[name]]
    if not reduced:
        return {}
    net = restore_net(state, replace(settings, device="cpu"))
    exact, *moved = (task.values(network_logits(net, sample, name, advance)) for name in ("float32", *reduced))
    return {name: min(float(np.abs(values - exact).max()), 1.0) for name, values in zip(reduced, moved, strict=True)}


def new_net(
    module: TextClassifier, config: Mapping[str, Any], vocabulary: Vocabulary, **arguments: Any
) -> MultiLabelNet:
    """Wrap a classifier module in a skorch net, not initialised; `arguments` are those of `MultiLabelNet`."""
    max_tokens = config["batch_size"] * WINDOWS_PER_DOCUMENT * config["bptt"]
    return MultiLabelNet(
        module, batch_size=config["batch_size"], max_tokens=max_tokens, pad_id=vocabulary.pad, **arguments
    )


def arguments_of_task(task: Task) -> dict[str, Any]:
    """Return the arguments of a net by what it learns: its loss, and what it predicts."""
    nonlinearity, threshold = task.nonlinearity, task.threshold
    return {"criterion": task.criterion(), "predict_nonlinearity": nonlinearity, "threshold": threshold}


def restore_net(state: ModelState, settings: TrainingSettings) -> MultiLabelNet:
    """Make the net of a trained network, with its history, ready to predict, and to be trained further."""
    with torch.inference_mode(False):
        return _restore_net(state, settings)


def _restore_net(state: ModelState, settings: TrainingSettings) -> MultiLabelNet:
    with without_contents():
        module = build_classifier(state.config, len(state.vocabulary), 0.0)
    if settings.max_epochs is None:
        settings = replace(settings, max_epochs=len(state.history))
    if settings.lr is None:
        settings = replace(settings, lr=classifier_rates("vector_dim" in state.config)[0])
    load_weights(module, state.weights, assign=True)
    task = task_of(state.config)
    net = new_net(module, state.config, state.vocabulary, **net_arguments(settings), **arguments_of_task(task))
    net.initialize()
    for row in state.history:
        net.history.new_epoch()
        for key, value in row.items():
            if not isinstance(value, str):  # callbacks that log expect numbers
                net.history.record(key, value)
    module.eval()
    return net
