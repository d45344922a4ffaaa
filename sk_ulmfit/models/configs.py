"""The configuration of each network, from that of a model with one or two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def network_configs(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the configuration of each network of a classifier."""
    first = {name: value for name, value in config.items() if name != "backward"}
    if "backward" not in config:
        return [first]
    second = {**first, **config["backward"]["config"]}
    if second.get("vector_dim", 0) is None:
        del second["vector_dim"]
    return [{**first, "direction": "forward"}, second]
