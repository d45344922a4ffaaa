"""The vector of a text: a linear map of the pooled outputs of the LSTM layers and of the mean of its words.

What is pooled stands here alone: in `layer_widths`, `join_layers` and `join_pools`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Pools(NamedTuple):
    """Pooled outputs of a batch, (batch, width) each, over the pooled positions of each text."""

    last: Tensor
    largest: Tensor
    mean: Tensor


def layer_widths(emb_dim: int, hidden_dim: int, n_layers: int) -> list[int]:
    """Return the widths of the LSTM layers whose outputs are pooled, from the first layer up."""
    return [*[hidden_dim] * (n_layers - 1), emb_dim]


def join_layers(outputs: Sequence[Tensor]) -> Tensor:
    """Put the outputs of all LSTM layers, (..., width) each, side by side, from the first layer up."""
    return torch.cat(list(outputs), -1)


def join_pools(pools: Pools, words: Tensor) -> Tensor:
    """Put the pools of the layers, (batch, width) each, and the mean of the words, (batch, emb_dim), side by side."""
    return torch.cat([*pools, words], 1)  # (batch, n_pooled)


def pool_texts(outputs: Tensor, real: Tensor) -> Pools:
    """Pool the outputs, (batch, time, width), of whole texts.

    `real`, (batch, time), is True where a text has a token: at its first positions.
    """
    n = real.sum(1)  # (batch,)
    last = outputs[torch.arange(len(n), device=n.device), n - 1]  # (batch, width)
    largest = outputs.masked_fill(~real[:, :, None], -math.inf).amax(1)  # (batch, width)
    return Pools(last, largest, (outputs * real[:, :, None]).sum(1) / n[:, None])


def n_pooled(emb_dim: int, hidden_dim: int, n_layers: int) -> int:
    """Return the number of features that `join_pools` puts side by side."""
    return len(Pools._fields) * sum(layer_widths(emb_dim, hidden_dim, n_layers)) + emb_dim


class TextVector(nn.Module):
    """Linear map from pooled features to the vector of a text, with a weight for each word in the mean of the words.

    The features are [last; max; mean] of the outputs of all LSTM layers side by side, and the weighted mean of the
    embedded words: the sum over pooled positions of ``word_weight[id] * embedding[id]``, divided by their number.
    Sizes are those of `AWDLSTM`; `dim` is the length of the vector.
    """

    def __init__(self, vocab_size: int, emb_dim: int, hidden_dim: int, n_layers: int, dim: int):
        super().__init__()
        width = n_pooled(emb_dim, hidden_dim, n_layers)
        self.word_weight = nn.Parameter(torch.ones(vocab_size, 1))
        self.weight = nn.Parameter(torch.empty(dim, width).uniform_(-1 / math.sqrt(width), 1 / math.sqrt(width)))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the vectors, (batch, dim), of pooled features, (batch, n_pooled)."""
        return F.linear(pooled, self.weight, self.bias)

    def of_texts(
        self, pools: Pools, ids: Tensor, pooled: Tensor, embedding: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """Return the vectors, (batch, dim), of texts with pooled outputs; the other arguments as in `word_mean`."""
        return self(join_pools(pools, self.word_mean(ids, pooled, embedding, kept)))

    def word_mean(self, ids: Tensor, pooled: Tensor, embedding: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return the weighted mean of the embedded words of each text, (batch, emb_dim).

        `ids` and `pooled` (bool) have the shape (batch, time); at least one position of each text is pooled.
        `embedding` is (vocab_size, emb_dim), and `kept`, (vocab_size, 1), its word dropout. Gradients are sparse.
        """
        words, place = ids[pooled].unique(return_inverse=True)  # (n_words,), (n_positions,)
        rows = F.embedding(words, embedding, sparse=True)  # (n_words, emb_dim)
        if kept is not None:
            rows = rows * F.embedding(words, kept)
        rows = rows * F.embedding(words, self.word_weight, sparse=True)  # (n_words, emb_dim)
        n = pooled.sum(1)  # (batch,)
        total = F.embedding_bag(place, rows, n.cumsum(0) - n, mode="sum")  # (batch, emb_dim)
        return total / n[:, None]

    def window_words(self, ids: Tensor, pooled: Tensor, embedded: Tensor) -> Tensor:
        """Return the weighted sum of the embedded words of a window, (batch, emb_dim), at the pooled positions.

        `ids` and `pooled` (bool) have the shape (batch, time), `embedded` (batch, time, emb_dim).
        """
        weight = F.embedding(ids, self.word_weight).squeeze(2) * pooled  # (batch, time)
        return torch.bmm(weight[:, None], embedded).squeeze(1)
