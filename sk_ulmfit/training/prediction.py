"""Prediction: from a trained model to a net, log-odds and probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from sk_ulmfit.models.assembly import (
    build_classifier,
    load_weights,
)
from sk_ulmfit.models.state import ModelState, Weights, reads_backward
from sk_ulmfit.nn.kernels import has_packed_8bit, has_packed_16bit
from sk_ulmfit.nn.pooling import TextClassifier
from sk_ulmfit.nn.precision import NARROWEST_PREDICTED, prediction_precision, widest_layer
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.batching import WINDOWS_PER_DOCUMENT
from sk_ulmfit.training.linear import blend, split_tfidf
from sk_ulmfit.training.net import MultiLabelNet
from sk_ulmfit.training.settings import TrainingSettings, _net_settings

Floats = NDArray[np.float64]

# `measure_shifts` compares the predictions for the ends of so many training texts.
PROBE_TEXTS, PROBE_LENGTH = 64, 150


def measure_shifts(
    state: ModelState, corpus: TokenIds, documents: NDArray[np.int64], settings: TrainingSettings
) -> dict[str, float]:
    """Measure how far reduced precision moves the probabilities by the network of a classifier.

    Parameters
    ----------
    state : ModelState
        A classifier.
    corpus : TokenIds
        Documents in its vocabulary.
    documents : ndarray of int64
        Indices of those of which some are taken.
    settings : TrainingSettings
        How it was trained.

    Returns
    -------
    dict
        Largest absolute difference to float32 for "bfloat16" and "int8"; without those that would not be faster on
        so narrow a body, and those for which this machine has no kernels.
    """
    kernels = {"bfloat16": has_packed_16bit(), "int8": has_packed_8bit()}
    width = widest_layer(state.config)
    reduced = [name for name, narrowest in NARROWEST_PREDICTED.items() if width >= narrowest and kernels[name]]
    if not reduced:
        return {}
    chosen = documents[np.random.default_rng(settings.seed).permutation(len(documents))[:PROBE_TEXTS]]
    ends = [corpus[index][-PROBE_LENGTH:] for index in chosen]
    sample = TokenIds(np.concatenate(ends).astype(np.int32), np.cumsum([0, *map(len, ends)]))
    net = restore_classifier_net(state, replace(settings, device="cpu"))
    exact = predict_proba(net, {}, sample)
    return {name: float(np.abs(predict_proba(net, {}, sample, name) - exact).max()) for name in reduced}


def classifier_net(
    module: TextClassifier, config: dict[str, Any], vocabulary: Vocabulary, **options: Any
) -> MultiLabelNet:
    """Wrap a classifier module in its skorch net.

    Parameters
    ----------
    module : TextClassifier
        The network.
    config : dict
        Configuration of the classifier.
    vocabulary : Vocabulary
        Its vocabulary.
    **options : dict
        What else `MultiLabelNet` takes.

    Returns
    -------
    MultiLabelNet
        The net, not initialised.
    """
    max_tokens = config["batch_size"] * WINDOWS_PER_DOCUMENT * config["bptt"]
    return MultiLabelNet(
        module, batch_size=config["batch_size"], max_tokens=max_tokens, pad_id=vocabulary.pad, **options
    )


def restore_classifier_net(state: ModelState, settings: TrainingSettings) -> MultiLabelNet:
    """Make the net of a trained classifier, ready to predict.

    Parameters
    ----------
    state : ModelState
        A classifier.
    settings : TrainingSettings
        Where it runs, and how it was trained.

    Returns
    -------
    MultiLabelNet
        The net, initialised, with its history.
    """
    with torch.device("meta"):
        module = build_classifier(state.config, len(state.vocabulary), 0.0)
    if settings.max_epochs is None:
        settings = replace(settings, max_epochs=len(state.history))
    load_weights(module, split_tfidf(state.weights)[0], assign=True)
    net = classifier_net(module, state.config, state.vocabulary, **_net_settings(settings))
    net.initialize()
    for row in state.history:
        net.history.new_epoch()
        for key, value in row.items():
            net.history.record(key, value)
    module.eval()
    return net


def predict_proba(
    net: MultiLabelNet, tfidf: Weights, corpus: TokenIds, precision: str = "float32"
) -> NDArray[np.float64]:
    """Give the probability of each label for each document.

    Parameters
    ----------
    net : MultiLabelNet
        A trained net.
    tfidf : dict of str to ndarray
        The linear model beside it, empty if there is none.
    corpus : TokenIds
        Documents in its vocabulary.
    precision : {"float32", "bfloat16", "int8"}, default="float32"
        Arithmetic of the LSTM layers.

    Returns
    -------
    ndarray of float64, shape (n, L)
        Probabilities strictly between 0 and 1.
    """
    return probabilities(predict_logits(net, tfidf, corpus, precision))


def probabilities(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn log-odds into probabilities strictly between 0 and 1."""
    return np.clip(expit(log_odds), np.finfo(np.float64).tiny, np.nextafter(1.0, 0.0))


def predict_logits(
    net: MultiLabelNet, tfidf: Weights, corpus: TokenIds, precision: str = "float32"
) -> NDArray[np.float64]:
    """Give the log-odds of each label for each document, shape (n, L); parameters as of `predict_proba`."""
    return blend(net.logits(corpus, precision).numpy().astype(np.float64), tfidf, corpus)


class Reader(NamedTuple):
    """A network of a classifier.

    Attributes
    ----------
    net : MultiLabelNet
        The trained net.
    config : dict
        Its configuration: sizes, direction, how far reduced precision moves its probabilities.
    """

    net: MultiLabelNet
    config: Mapping[str, Any]

    def order(self, corpus: TokenIds) -> TokenIds:
        """Turn documents that stand from left to right as the network reads them."""
        return corpus.reversed() if reads_backward(self.config) else corpus

    def logits(self, tfidf: Weights, corpus: TokenIds, precision: str) -> Floats:
        """Give its log-odds for such documents, with those of the linear model, shape (n, L)."""
        shifts = self.config.get("shifts", {})
        arithmetic = prediction_precision(precision, self.net.device, widest_layer(self.config), shifts)
        return predict_logits(self.net, tfidf, self.order(corpus), arithmetic)


def read(readers: Sequence[Reader], tfidf: Weights, corpus: TokenIds, precision: str = "float32") -> Floats:
    """Give the log-odds of a classifier's labels.

    Parameters
    ----------
    readers : sequence of Reader
        Its networks.
    tfidf : dict of str to ndarray
        The linear model beside each, empty if there is none.
    corpus : TokenIds
        n documents, from left to right.
    precision : str, default="float32"
        The parameter `precision` of the classifier.

    Returns
    -------
    ndarray of float64, shape (n, L)
        Log-odds of the mean of the probabilities.
    """
    return mean_log_odds([reader.logits(tfidf, corpus, precision) for reader in readers])


def mean_log_odds(log_odds: Sequence[Floats]) -> Floats:
    """Give the log-odds of the mean of probabilities that are given as log-odds too (Howard & Ruder 2018, section 3.3).

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.special import expit, logit
    >>> from sk_ulmfit.training.directions import mean_log_odds
    >>> float(expit(mean_log_odds([logit(np.array([0.5])), logit(np.array([0.9]))]))[0].round(3))
    0.7
    """
    if len(log_odds) == 1:
        return log_odds[0]
    stacked = np.stack(log_odds)
    absent = np.logaddexp.reduce(-np.logaddexp(0, stacked))
    present = np.logaddexp.reduce(-np.logaddexp(0, -stacked))
    return np.asarray(present - absent)
