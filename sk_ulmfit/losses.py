"""Loss terms: cross-entropy over a large vocabulary in bounded memory, and the AR and TAR penalties."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_ROWS = 512
IGNORED = -100


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropies, with the gradient computed chunk by chunk in the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        needs = ctx.needs_input_grad[:3]
        d_hidden, d_weight, d_bias = (
            torch.zeros_like(tensor) if need else None
            for tensor, need in zip((hidden, weight, bias), needs, strict=True)
        )
        loss = hidden.new_zeros((), dtype=torch.float64 if hidden.dtype == torch.float64 else torch.float32)
        for start in range(0, len(hidden), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            logits = torch.addmm(bias, hidden[rows], weight.T)
            # from here on `logits` holds log-probabilities, then probabilities, then its own gradient
            logits -= logits.logsumexp(1, keepdim=True)
            target = targets[rows]
            counted = target != IGNORED
            column = target.clamp(min=0)[:, None]
            loss -= (logits.gather(1, column)[:, 0] * counted).sum()
            if any(needs):
                logits.exp_()
                logits.scatter_add_(1, column, logits.new_full((), -1.0).expand_as(column))
                logits *= counted[:, None]
                if d_hidden is not None:
                    torch.mm(logits, weight, out=d_hidden[rows])
                if d_weight is not None:
                    d_weight.addmm_(logits.T, hidden[rows])
                if d_bias is not None:
                    d_bias += logits.sum(0)
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        return loss

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor) -> Any:
        return *(None if d is None else d * d_loss for d in ctx.saved_tensors), None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of ``hidden @ weight.T + bias``, without the whole matrix of logits.

    Parameters
    ----------
    hidden : Tensor, shape (n, width)
        One row per position.
    weight : Tensor, shape (n_words, width)
        Decoder matrix.
    bias : Tensor, shape (n_words,)
        Decoder bias.
    targets : Tensor of int64, shape (n,)
        Right word of each position; -100 leaves a position out.

    Returns
    -------
    Tensor, shape ()
        Nats per counted position; 0 if none counts.

    Examples
    --------
    >>> import torch
    >>> from sk_ulmfit.losses import linear_cross_entropy
    >>> zeros = torch.zeros(4, 3)
    >>> loss = linear_cross_entropy(zeros, torch.zeros(8, 3), torch.zeros(8), torch.tensor([0, 1, 2, -100]))
    >>> round(loss.item(), 4)  # log 8
    2.0794
    """
    n_counted = (targets != IGNORED).sum().clamp(min=1)
    return _LinearCrossEntropy.apply(hidden, weight, bias, targets) / n_counted


def squared_activations(dropped: Tensor, raw: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Give the sums behind activation regularisation (AR) and temporal activation regularisation (TAR).

    Merity et al. 2017, section 4.6. Divide by the number of positions, or of neighbouring pairs, times width
    for the means.

    Parameters
    ----------
    dropped : Tensor, shape (batch, time, width)
        Outputs after dropout (AR).
    raw : Tensor, shape (batch, time, width)
        Outputs before dropout (TAR).
    counted : Tensor of bool, shape (batch, time)
        Real positions; all others are left out.

    Returns
    -------
    squares : Tensor, shape ()
        Sum of the squares of `dropped`.
    steps : Tensor, shape ()
        Sum of squared differences of neighbouring positions of `raw`.
    """
    squares = (dropped.square() * counted[:, :, None]).sum()
    pairs = (counted[:, 1:] & counted[:, :-1])[:, :, None]
    steps = ((raw[:, 1:] - raw[:, :-1]).square() * pairs).sum()
    return squares, steps
