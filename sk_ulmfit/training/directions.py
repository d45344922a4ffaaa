"""Two networks in one classifier: one reads texts forward, one from their end.

They share vocabulary, labels and the linear model of words; what they say is averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.models.state import ModelState, Weights, reads_backward
from sk_ulmfit.nn.precision import prediction_precision, widest_layer
from sk_ulmfit.text.tokenizer import TokenIds
from sk_ulmfit.training.linear import split_tfidf
from sk_ulmfit.training.net import MultiLabelNet
from sk_ulmfit.training.stages import predict_logits

Floats = NDArray[np.float64]

PREFIX = "backward."  # of the arrays of the second network in a file


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


def merge(states: Sequence[ModelState]) -> ModelState:
    """Make one classifier of one, or of two that read the same words in the two directions, the one forward first."""
    first, *others = states
    if not others:
        return first
    (second,) = others
    config = {name: value for name, value in second.config.items() if first.config.get(name) != value}
    more = {"direction": "both", "backward": {"config": config, "history": second.history}}
    weights = first.weights | of_second(split_tfidf(second.weights)[0])
    return ModelState("classifier", {**first.config, **more}, first.vocabulary, weights, first.history)


def split(state: ModelState) -> list[ModelState]:
    """Give the networks of a classifier, each as a classifier of its own with the linear model; undoes `merge`."""
    weights: list[Weights] = [{}, {}]
    for name, array in state.weights.items():
        weights[name.startswith(PREFIX)][name.removeprefix(PREFIX)] = array
    weights[1] |= split_tfidf(weights[0])[1]
    histories = [state.history, state.config.get("backward", {}).get("history", [])]
    return [
        ModelState(state.kind, config, state.vocabulary, *of_one)
        for config, *of_one in zip(configs(state.config), weights, histories, strict=False)
    ]


def configs(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the configuration of each network of a classifier, from that of the whole."""
    first = {name: value for name, value in config.items() if name != "backward"}
    if "backward" not in config:
        return [first]
    return [{**first, "direction": "forward"}, {**first, **config["backward"]["config"]}]


def of_second(weights: Weights) -> Weights:
    """Name the arrays of the second network as in a file."""
    return {PREFIX + name: array for name, array in weights.items()}
