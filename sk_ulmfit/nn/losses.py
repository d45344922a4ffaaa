"""Loss terms: of labels, of values, cross-entropy over many words in bounded memory, AR and TAR."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sk_ulmfit.nn.kernels import softmax_

CHUNK_ROWS, GPU_CHUNK_BYTES = 512, 2**28
TINY = 1e-38
IGNORED = -100


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropies, with the gradient computed chunk by chunk in the forward pass.

    The bias is one more column of the weight, next to a column of ones. Rows that do not count are zero, so that they
    add nothing to the gradient.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        counted = targets != IGNORED  # (n,)
        rows = _with_column(hidden * counted[:, None], counted, dtype)  # (n, columns)
        words = _with_column(weight, bias, dtype)  # (n_words, columns)
        column = targets.clamp(min=0)  # (n,)
        n, n_words = len(rows), len(words)
        chunk_rows = CHUNK_ROWS
        if hidden.is_cuda:
            chunk_rows = max(CHUNK_ROWS, GPU_CHUNK_BYTES // (n_words * dtype.itemsize))
        buffer = hidden.new_empty(min(chunk_rows, n), n_words, dtype=dtype)  # (chunk_rows, n_words)
        d_rows = torch.empty_like(rows) if need_hidden else None  # (n, columns)
        d_words = words.new_zeros(rows.shape[1], n_words) if need_weight or need_bias else None  # (columns, n_words)
        loss = hidden.new_zeros((), dtype=torch.float64 if hidden.dtype == torch.float64 else torch.float32)
        for start in range(0, n, chunk_rows):
            chunk = slice(start, start + chunk_rows)
            logits = buffer[: len(rows[chunk])]  # (chunk, n_words); then probabilities, then its own gradient
            torch.mm(rows[chunk], words.T, out=logits)
            softmax_(logits)
            flat = logits.view(-1)  # (chunk * n_words,)
            place = torch.arange(0, len(flat), n_words, device=flat.device) + column[chunk]  # (chunk,)
            probability = flat[place].to(loss.dtype)  # (chunk,): that of the right word
            flat[place] = (probability - 1).to(dtype)
            loss -= (probability.clamp(min=TINY).log() * counted[chunk]).sum()  # ()
            if d_rows is not None:
                torch.mm(logits, words, out=d_rows[chunk])  # (chunk, columns)
            if d_words is not None:
                d_words.addmm_(rows[chunk].T.contiguous(), logits)  # (columns, n_words): faster than its transpose
        ctx.save_for_backward(d_rows, d_words, counted)
        ctx.width, ctx.dtype = hidden.shape[1], hidden.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor) -> Any:
        d_rows, d_words, counted = ctx.saved_tensors
        d_hidden = d_weight = d_bias = None
        if d_rows is not None:
            d_hidden = d_rows[:, : ctx.width].to(ctx.dtype) * (counted[:, None] * d_loss)  # (n, width)
        if d_words is not None:
            d_weight = d_words.new_empty(d_words.shape[1], ctx.width, dtype=ctx.dtype)  # (n_words, width)
            torch.mul(d_words[: ctx.width].T, d_loss, out=d_weight)
            d_bias = d_words[ctx.width].to(ctx.dtype) * d_loss  # (n_words,)
        return d_hidden, d_weight, d_bias, None, None


def _with_column(matrix: Tensor, column: Tensor, dtype: torch.dtype) -> Tensor:
    """Append a column to a matrix, (n, width), and zeros up to a multiple of 32 columns."""
    n, width = matrix.shape
    wider = matrix.new_zeros(n, -(-(width + 1) // 32) * 32, dtype=dtype)  # (n, columns)
    wider[:, :width], wider[:, width] = matrix, column
    return wider


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    precision: str = "float32",
    n_counted: Tensor | None = None,
) -> Tensor:
    """Return the mean cross-entropy of ``hidden @ weight.T + bias``, without the whole matrix of logits.

    `hidden` has the shape (n, width), `weight` (n_words, width), `bias` (n_words,) and `targets` (n,), where -100
    leaves a position out. The unit is nats per counted position; one position gives 87 at most, and the mean of none is
    0. In bfloat16 a single loss may be 0.05 nats off, the mean of many much less. `n_counted`, of shape (), divides the
    sum in place of the number of counted positions.

    Examples
    --------
    >>> import torch
    >>> from sk_ulmfit.nn.losses import linear_cross_entropy
    >>> zeros = torch.zeros(4, 3)
    >>> loss = linear_cross_entropy(zeros, torch.zeros(8, 3), torch.zeros(8), torch.tensor([0, 1, 2, -100]))
    >>> round(loss.item(), 4)  # log 8
    2.0794
    """
    n_counted = ((targets != IGNORED).sum() if n_counted is None else n_counted).clamp(min=1)  # ()
    dtype = torch.bfloat16 if precision == "bfloat16" else hidden.dtype
    return _LinearCrossEntropy.apply(hidden, weight, bias, targets, dtype) / n_counted


class MultiLabelLoss(nn.Module):
    """Mean binary cross-entropy of logits over documents and labels, of the known entries only.

    Targets are 0 and 1, or probabilities between them. `pos_weight`, shape (n_labels,), multiplies the loss of the
    entries that are 1.
    """

    def __init__(self, pos_weight: Tensor | None = None):
        super().__init__()
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, logits: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss of a batch: the sum over its known entries, divided by the number of all its entries.

        `logits` and `y` have the shape (batch, n_labels); y is NaN where unknown. `weight`, shape (batch,), multiplies
        the loss of each document; without it all entries must be known. As all entries are divided by, the expectation
        over batches is the loss of the whole set, whichever entries a batch has.
        """
        pos_weight: Any = self.pos_weight
        if weight is None:
            return F.binary_cross_entropy_with_logits(logits, y, pos_weight=pos_weight)
        known = ~y.isnan()  # (batch, n_labels)
        losses = F.binary_cross_entropy_with_logits(
            logits, y.where(known, 0.0), pos_weight=pos_weight, reduction="none"
        )  # (batch, n_labels)
        return (losses * known * weight[:, None]).mean()


class SquaredLoss(nn.Module):
    """Mean of half the squared error over documents and targets, of the known entries only.

    `offset` and `gain`, shape (n_targets,), make ``offset + gain * sigmoid(x)`` of the network's outputs x.
    """

    def __init__(self, offset: Tensor | None = None, gain: Tensor | None = None):
        super().__init__()
        self.register_buffer("offset", offset)
        self.register_buffer("gain", gain)

    def forward(self, outputs: Tensor, z: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss of a batch, as `MultiLabelLoss.forward` does.

        `outputs` and `z`, the standardised targets, have the shape (batch, n_targets); z is NaN where unknown.
        """
        offset: Any = self.offset
        gain: Any = self.gain
        scores = outputs if gain is None else offset + gain * outputs.sigmoid()  # (batch, n_targets)
        if weight is None:
            return 0.5 * F.mse_loss(scores, z)
        known = ~z.isnan()  # (batch, n_targets)
        errors = scores - z.where(known, 0.0)
        return (0.5 * errors.square() * known * weight[:, None]).mean()


def squared_activations(
    dropped: Tensor, raw: Tensor, counted: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the sums behind activation regularisation (AR) and temporal activation regularisation (TAR).

    These are the sum of the squares of `dropped` and that of the squared differences of neighbouring positions of `raw`
    (Merity et al. 2017, section 4.6). Both have the shape (batch, time, width): outputs after and before dropout.
    Positions that are not `counted`, shape (batch, time), are left out; `weight`, shape (batch,), multiplies rows.
    """
    pairs = (counted[:, 1:] & counted[:, :-1])[:, :, None]  # (batch, time - 1, 1)
    if weight is not None:
        counted, pairs = counted * weight[:, None], pairs * weight[:, None, None]
    squares = (dropped.square() * counted[:, :, None]).sum()  # ()
    steps = ((raw[:, 1:] - raw[:, :-1]).square() * pairs).sum()  # ()
    return squares, steps


def cosine_distance(vectors: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of 1 - cosine similarity of vectors and their targets, shape (batch, dim) both.

    Examples
    --------
    >>> import torch
    >>> from sk_ulmfit.nn.losses import cosine_distance
    >>> cosine_distance(torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])).item()
    0.5
    """
    return 1 - F.cosine_similarity(vectors, targets, dim=1).mean()
