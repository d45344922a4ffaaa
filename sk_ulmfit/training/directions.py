"""Two networks in one classifier: one reads texts forward, one from their end.

They share vocabulary, labels and the linear model of words; what they say is averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.models.state import ModelState, Weights
from sk_ulmfit.training.linear import split_tfidf

Floats = NDArray[np.float64]

PREFIX = "backward."  # of the arrays of the second network in a file


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
