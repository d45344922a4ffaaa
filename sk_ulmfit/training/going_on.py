"""What a training takes over from an earlier one: its head, and all that was learned of outputs not trained now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sk_ulmfit.models.assembly import part_weights
from sk_ulmfit.models.state import ModelState
from sk_ulmfit.training.linear_training import LinearFit

Mask = NDArray[np.bool_]

BY_OUTPUT = ("base_rates", "target_mean", "target_scale")  # entries of a configuration, (K,) each


def load_head(head: nn.Module, earlier: ModelState) -> None:
    """Set a head to that of an earlier network; outputs beyond those of the earlier one stay as they are."""
    tensors = head.state_dict()
    with torch.no_grad():
        for name, array in part_weights(earlier.weights, "head").items():
            rows = slice(len(array)) if array.ndim else ...
            tensors[name][rows] = torch.from_numpy(np.array(array)).to(tensors[name].device)


def keep_untrained_rows(head: nn.Module, earlier: ModelState, untrained: Mask) -> None:
    """Set the rows of outputs that were not trained to those of an earlier network."""
    rows = np.flatnonzero(untrained)
    weights = list(part_weights(earlier.weights, "head").items())[-2:]  # weight and bias of the last layer
    tensors = head.state_dict()
    with torch.no_grad():
        for name, array in weights:
            tensors[name][torch.from_numpy(rows)] = torch.from_numpy(array[rows]).to(tensors[name].device)


def leave_to_network(fit: LinearFit, untrained: Mask) -> LinearFit:
    """Give the network the whole share of outputs that the linear model could not learn, since none was known."""
    return fit.with_share(np.where(untrained, 1, fit.model.network_share))


def keep_untrained_entries(config: dict[str, Any], earlier: Mapping[str, Any], untrained: Mask) -> None:
    """Set what a configuration says of outputs that were not trained to what an earlier one says of them.

    The range of scores comprises both ranges: texts of now may lack what would reach the ends of the earlier one.
    """
    outputs = np.flatnonzero(untrained).tolist()
    if config.get("threshold_metric") == earlier.get("threshold_metric"):
        _copy(config, earlier, "thresholds", outputs)
    for name in BY_OUTPUT:
        _copy(config, earlier, name, outputs)
    for name, choose in (("calibration", None), ("log_odds_range", (min, max))):
        if name in config and name in earlier:
            for which, (row, before) in enumerate(zip(config[name], cast(Any, earlier[name]), strict=True)):
                for output in outputs:
                    row[output] = choose[which](row[output], before[output]) if choose else before[output]


def _copy(config: dict[str, Any], earlier: Mapping[str, Any], name: str, outputs: list[int]) -> None:
    if name in config and name in earlier:
        for output in outputs:
            config[name][output] = earlier[name][output]
