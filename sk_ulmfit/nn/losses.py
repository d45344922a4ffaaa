"""Loss terms: multi-label cross-entropy with weights, cross-entropy over many words in bounded memory, AR and TAR."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK_ROWS, GPU_CHUNK_BYTES = 512, 2**28
TINY = 1e-38
IGNORED = -100


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropies, with the gradient computed chunk by chunk in the forward pass.

    The bias rides along as one more column of the weight, against a column of ones. Rows that do not count are
    zero, so that they add nothing to the gradient.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        need_weight = need_weight or need_bias
        (n, width), n_words = hidden.shape, len(weight)
        columns = -(-(width + 1) // 32) * 32
        counted = targets != IGNORED
        rows = hidden.new_zeros(n, columns, dtype=dtype)
        rows[:, :width] = hidden * counted[:, None]
        rows[:, width] = counted
        words = hidden.new_zeros(n_words, columns, dtype=dtype)
        words[:, :width], words[:, width] = weight, bias
        column = targets.clamp(min=0)
        chunk_rows = CHUNK_ROWS
        if hidden.is_cuda:
            chunk_rows = max(CHUNK_ROWS, GPU_CHUNK_BYTES // (n_words * dtype.itemsize))
        buffer = hidden.new_empty(min(chunk_rows, n), n_words, dtype=dtype)
        d_rows = torch.empty_like(rows) if need_hidden else None
        d_words = words.new_zeros(columns, n_words) if need_weight else None  # transposed: its products run faster
        loss = hidden.new_zeros((), dtype=torch.float64 if hidden.dtype == torch.float64 else torch.float32)
        for start in range(0, n, chunk_rows):
            chunk = slice(start, start + chunk_rows)
            logits = buffer[: len(rows[chunk])]
            torch.mm(rows[chunk], words.T, out=logits)
            flat = logits.view(-1)
            place = torch.arange(0, len(flat), n_words, device=flat.device) + column[chunk]
            # from here on `logits` holds probabilities, then the gradient of its former self
            torch.ops.aten._softmax.out(logits, 1, False, out=logits)
            probability = flat[place].to(loss.dtype)
            flat[place] = (probability - 1).to(dtype)
            loss -= (probability.clamp(min=TINY).log() * counted[chunk]).sum()
            if d_rows is not None:
                torch.mm(logits, words, out=d_rows[chunk])
            if d_words is not None:
                d_words.addmm_(rows[chunk].T.contiguous(), logits)
        ctx.save_for_backward(d_rows, d_words, counted)
        ctx.width, ctx.dtype = width, hidden.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor) -> Any:
        d_rows, d_words, counted = ctx.saved_tensors
        d_hidden = d_weight = d_bias = None
        if d_rows is not None:
            d_hidden = d_rows[:, : ctx.width].to(ctx.dtype) * (counted[:, None] * d_loss)
        if d_words is not None:
            d_weight = d_words[: ctx.width].new_empty(d_words.shape[1], ctx.width, dtype=ctx.dtype)
            torch.mul(d_words[: ctx.width].T, d_loss, out=d_weight)
            d_bias = d_words[ctx.width].to(ctx.dtype) * d_loss
        return d_hidden, d_weight, d_bias, None, None


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, precision: str = "float32"
) -> Tensor:
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
    precision : {"float32", "bfloat16"}, default="float32"
        Arithmetic of the products. In 16 bits a single loss may be 0.05 nats off, the mean of many much less.

    Returns
    -------
    Tensor, shape ()
        Nats per counted position, of which one position gives 87 at most; 0 if none counts.

    Examples
    --------
    >>> import torch
    >>> from sk_ulmfit.nn.losses import linear_cross_entropy
    >>> zeros = torch.zeros(4, 3)
    >>> loss = linear_cross_entropy(zeros, torch.zeros(8, 3), torch.zeros(8), torch.tensor([0, 1, 2, -100]))
    >>> round(loss.item(), 4)  # log 8
    2.0794
    """
    n_counted = (targets != IGNORED).sum().clamp(min=1)
    dtype = torch.bfloat16 if precision == "bfloat16" else hidden.dtype
    return _LinearCrossEntropy.apply(hidden, weight, bias, targets, dtype) / n_counted


class MultiLabelLoss(nn.Module):
    """Mean binary cross-entropy of logits over documents and labels, of the known entries only.

    Parameters
    ----------
    pos_weight : Tensor of shape (n_labels,), default=None
        Factor on the loss of the entries that are 1.
    """

    def __init__(self, pos_weight: Tensor | None = None):
        super().__init__()
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, logits: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Give the loss of a batch.

        Parameters
        ----------
        logits : Tensor, shape (batch, n_labels)
            Log-odds.
        y : Tensor, shape (batch, n_labels)
            0 and 1, NaN where unknown.
        weight : Tensor of shape (batch,), default=None
            Factor on the loss of each document. With None every entry must be known.

        Returns
        -------
        Tensor, shape ()
            Sum over the known entries, divided by the number of all: in expectation over batches that of the whole
            set, whichever entries a batch has.
        """
        pos_weight: Any = self.pos_weight
        if weight is None:
            return F.binary_cross_entropy_with_logits(logits, y, pos_weight=pos_weight)
        known = ~y.isnan()
        losses = F.binary_cross_entropy_with_logits(
            logits, y.where(known, 0.0), pos_weight=pos_weight, reduction="none"
        )
        return (losses * known * weight[:, None]).mean()


def squared_activations(
    dropped: Tensor, raw: Tensor, counted: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
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
    weight : Tensor of shape (batch,), default=None
        Factor on the terms of each row.

    Returns
    -------
    squares : Tensor, shape ()
        Sum of the squares of `dropped`.
    steps : Tensor, shape ()
        Sum of squared differences of neighbouring positions of `raw`.
    """
    pairs = (counted[:, 1:] & counted[:, :-1])[:, :, None]
    if weight is not None:
        counted, pairs = counted * weight[:, None], pairs * weight[:, None, None]
    squares = (dropped.square() * counted[:, :, None]).sum()
    steps = ((raw[:, 1:] - raw[:, :-1]).square() * pairs).sum()
    return squares, steps
