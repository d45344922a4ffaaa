"""The vector of a text: a linear map of the mean outputs of LSTM layers and of the mean of the words.

What is pooled is decided by `pooled_layers` and `join_means` alone.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sk_ulmfit.nn.pooled_layers import n_pooled


def join_means(layers: Tensor, words: Tensor) -> Tensor:
    """Put the mean outputs of the pooled layers, (..., width), and of the words, (..., emb_dim), side by side."""
    return torch.cat([layers, words], -1)  # (..., n_pooled)


class TextVector(nn.Module):
    """Linear map from pooled features to the vector of a text, of length 1, with a weight for each word in the mean.

    The features are the mean outputs of the LSTM layers below the last one (of the only layer if there is one), side by
    side, and the weighted mean of the embedded words: the sum over pooled positions of ``word_weight[id] *
    embedding[id]``, divided by their number. Sizes are those of `AWDLSTM`; `dim` is the number of dimensions.

    A teacher says the direction of a vector, not its length. Scaled to length 1, vectors are better features too.
    """

    def __init__(self, vocab_size: int, emb_dim: int, hidden_dim: int, n_layers: int, dim: int):
        super().__init__()
        width = n_pooled(emb_dim, hidden_dim, n_layers)
        self.word_weight = nn.Parameter(torch.ones(vocab_size, 1))
        self.weight = nn.Parameter(torch.empty(dim, width).uniform_(-1 / math.sqrt(width), 1 / math.sqrt(width)))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the vectors, (batch, dim), of pooled features, (batch, n_pooled)."""
        return F.normalize(F.linear(pooled, self.weight, self.bias), dim=1)

    def of_texts(
        self, means: Tensor, ids: Tensor, pooled: Tensor, embedding: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """Return the vectors, (batch, dim), given the mean outputs of the layers; the rest as in `word_mean`."""
        return self(join_means(means, self.word_mean(ids, pooled, embedding, kept)))

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
