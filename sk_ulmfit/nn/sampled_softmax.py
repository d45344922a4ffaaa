"""The candidates among which a language model predicts the next word while it is trained on a large vocabulary."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Candidates(NamedTuple):
    """Some words of the vocabulary, each standing for a number of words.

    Attributes
    ----------
    words : Tensor of int64, shape (n,)
        Ids of the words.
    log_weight : Tensor, shape (n,)
        Logarithm of the number of words that a candidate stands for, to be added to its logit.
    targets : Tensor of int64, shape (n_targets,)
        Place of each target among the candidates; -100 where the target was -100.
    """

    words: Tensor
    log_weight: Tensor
    targets: Tensor


def draw_candidates(
    targets: Tensor, vocab_size: int, n_candidates: int, n_frequent: int, of_batch: Tensor | None = None
) -> Candidates:
    """Draw the candidates for a batch, so that the expected sum of their exponentials is that over all words.

    The first `n_frequent` words, those with the smallest ids, and all targets are candidates and stand for themselves.
    The others are drawn from the remaining words, each with the same chance, and stand for all of them (sampled
    softmax; Jean et al. 2015, "On Using Very Large Target Vocabulary for Neural Machine Translation"). Their number is
    always the same, because oneDNN keeps kernels for each shape: `n_candidates`, or more if the batch has too many
    rare targets, in steps of an eighth.

    Parameters
    ----------
    targets : Tensor of int64, shape (n_targets,)
        Ids of the words to be predicted; -100 leaves a position out.
    vocab_size : int
        Number of words, in the order of their frequency.
    n_candidates, n_frequent : int
        Number of candidates, and of the frequent words that are always among them.
    of_batch : Tensor of int64, shape (n_all,), default=None
        Targets of the whole batch, all of which are candidates, if `targets` are a part of them.

    Returns
    -------
    Candidates
        On the device of the targets.
    """
    device = targets.device
    is_chosen = torch.zeros(vocab_size, dtype=torch.bool, device=device)  # (vocab_size,)
    is_chosen[: min(n_frequent, vocab_size)] = True
    wanted = targets if of_batch is None else of_batch
    is_chosen[wanted[wanted >= 0]] = True
    chosen = is_chosen.nonzero()[:, 0]  # (n_chosen,)
    step = max(1, n_candidates // 8)
    n = min(max(n_candidates, -(-(len(chosen) + step) // step) * step), vocab_size)
    rest = (~is_chosen).nonzero()[:, 0]  # (n_rest,)
    drawn = rest[torch.randperm(len(rest), device=device)[: n - len(chosen)]]  # (n - n_chosen,)
    log_weight = torch.zeros(n, device=device)  # (n,)
    if len(drawn):
        log_weight[len(chosen) :] = math.log(len(rest) / len(drawn))
    words = torch.cat([chosen, drawn])  # (n,)
    place = torch.empty(vocab_size, dtype=torch.int64, device=device)  # (vocab_size,)
    place[words] = torch.arange(n, device=device)
    return Candidates(words, log_weight, torch.where(targets >= 0, place[targets.clamp(min=0)], targets))
