"""The loss of the next word and the distance to a teacher's vectors, learned together."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from sk_ulmfit.nn.losses import cosine_distance
from sk_ulmfit.nn.modules import LanguageModel
from sk_ulmfit.nn.processes import ALONE, Processes

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
    processes: Processes = ALONE,
) -> tuple[Tensor, Tensor]:
    """Return the loss of the next word in a window and in passages together, and the passages' distance to a teacher.

    `stream` is the decoder's input of a window, (batch, time, emb_dim), and the words to be predicted, (batch, time).
    `passages` are their ids, (batch, time), longest first, their lengths, (batch,), on the CPU, and the vectors that
    they should get, (batch, dim).

    If `processes` share the batch, the decoder's input is that of the rows of this process, all else is of the whole
    batch, and both results are this process's share of them.
    """
    ids, lengths, wanted = passages
    window, part = processes.part(len(stream[1])), processes.part(len(ids))
    own_ids, own_lengths = part.of(ids), part.of(lengths)  # (own rows, time), (own rows,)
    read, _, vectors = module.read_texts(own_ids, own_lengths, precision, part)
    distance = cosine_distance(vectors, part.of(wanted)) * part.share
    inner = _inner(own_ids, own_lengths)
    following = part.targets(ids)[:, 1:][inner]  # (n_inner,)
    dropped = torch.cat([stream[0].flatten(0, 1), read[:, :-1][inner]])  # (n, emb_dim)
    targets = torch.cat([window.targets(stream[1]).flatten(), following])  # (n,)
    of_batch = targets
    if processes.size > 1:
        of_batch = torch.cat([stream[1].flatten(), ids[:, 1:][_inner(ids, lengths)]])  # (n_all,)
    return module.cross_entropy(dropped, targets, precision, sampled_words, of_batch), distance


def _inner(ids: Tensor, lengths: Tensor) -> Tensor:
    """Return which positions from the second on are words of a passage, (batch, time - 1)."""
    return (torch.arange(1, ids.shape[1]) < lengths[:, None]).to(ids.device)
