"""The loss of the next word and the distance to a teacher's vectors, learned together."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from sk_ulmfit.nn.losses import cosine_distance
from sk_ulmfit.nn.modules import LanguageModel

# Factors on the learning rate of the embedding and word weights, and of the map from pools to vectors.
WORDS_RATE, POOLING_RATE = 0.5, 0.1


def taught_parameters(module: LanguageModel) -> list[tuple[list[nn.Parameter], float]]:
    """Return the parameters with a learning rate of their own if there is a teacher, and the factor on the rate.

    They are those of the words and those of the map from pools to vectors; none if the model has no vector.
    """
    vector = module.vector
    if vector is None:
        return []
    embedding = cast(nn.Parameter, module.encoder.embedding.weight)
    return [([embedding, vector.word_weight], WORDS_RATE), ([vector.weight, vector.bias], POOLING_RATE)]


def joint_loss(
    module: LanguageModel,
    stream: tuple[Tensor, Tensor],
    passages: tuple[Tensor, Tensor, Tensor],
    precision: str,
    sampled_words: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the loss of the next word in a window and in passages together, and the passages' distance to a teacher.

    `stream` is the decoder's input of a window, (batch, time, emb_dim), and the words to be predicted, (batch, time).
    `passages` are their ids, (batch, time), longest first, their lengths, (batch,), on the CPU, and the vectors that
    they should get, (batch, dim).
    """
    dropped, targets = stream[0].flatten(0, 1), stream[1].flatten()  # (n, emb_dim), (n,)
    ids, lengths, wanted = passages
    read, _, vectors = module.read_texts(ids, lengths, precision)
    distance = cosine_distance(vectors, wanted)
    inner = (torch.arange(1, ids.shape[1]) < lengths[:, None]).to(ids.device)  # (batch, time - 1): not the first word
    dropped, targets = torch.cat([dropped, read[:, :-1][inner]]), torch.cat([targets, ids[:, 1:][inner]])
    return module.cross_entropy(dropped, targets, precision, sampled_words), distance
