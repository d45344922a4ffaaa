"""Which layers a vector of a text is made of. This file does without torch, for those who only read models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def layer_widths(emb_dim: int, hidden_dim: int, n_layers: int) -> list[int]:
    """Return the width of the output of each LSTM layer."""
    return [*[hidden_dim] * (n_layers - 1), emb_dim]


def pooled_layers(layers: Sequence[T]) -> list[T]:
    """Choose from something of each LSTM layer that of the pooled ones: all but the last, or the only one."""
    return list(layers[:-1] or layers)


def n_pooled(emb_dim: int, hidden_dim: int, n_layers: int) -> int:
    """Return the number of features of a vector: the outputs of the pooled layers and the words, side by side."""
    return sum(pooled_layers(layer_widths(emb_dim, hidden_dim, n_layers))) + emb_dim
