"""One LSTM layer in 16-bit arithmetic on the CPU, forwards and backwards.

Multiplications take bfloat16 numbers, sums and the cell are kept in float32. Documents of different length are packed
step by step, so that nothing is computed behind a document's end.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sk_ulmfit.nn.kernels import Weight16, linear, linear_add, pack

aten = torch.ops.aten


class Packing:
    """Where the tokens of some documents, longest first, stand when they are packed step by step.

    oneDNN keeps kernels and buffers for every shape that it has met. So the documents of a step are filled up to a
    multiple of `ROWS`, and all tokens to one of `TOKENS`: what fills up is computed and thrown away.

    Parameters
    ----------
    lengths : Tensor of int64, shape (batch,)
        Tokens of each document, falling, on the CPU.

    Attributes
    ----------
    sizes : list of int
        Rows of each step: documents that reach it, and what fills up.
    n_whole : int
        Documents as long as the longest.
    """

    ROWS, TOKENS = 8, 256

    def __init__(self, lengths: Tensor):
        self.time = int(lengths[0])
        self.n_rows = len(lengths)
        self.n_whole = int((lengths == self.time).sum())
        self.ragged = self.n_whole < self.n_rows
        self.sizes = [self.n_rows] * self.time
        if self.ragged:
            reached = (torch.arange(self.time)[:, None] < lengths).sum(1)
            filled = (-(-reached // self.ROWS) * self.ROWS).clamp(max=self.n_rows)
            self.sizes = filled.tolist()
            row = torch.arange(self.n_rows)
            self.steps, self.rows = (row < filled[:, None]).nonzero(as_tuple=True)
            self.real = self.rows < reached[self.steps]
            self.spare = -len(self.rows) % self.TOKENS

    def pack(self, x: Tensor) -> Tensor:
        """Bring (batch, time, width) to (n_tokens, width)."""
        if self.ragged:
            return F.pad(x[self.rows, self.steps], (0, 0, 0, self.spare))
        return x[:, : self.time].transpose(0, 1).reshape(-1, x.shape[2])

    def unpack(self, packed: Tensor) -> Tensor:
        """Bring (n_tokens, width) back to (batch, time, width), zero behind a document's end."""
        if self.ragged:
            x = packed.new_zeros(self.n_rows, self.time, packed.shape[1])
            place = (self.rows[self.real], self.steps[self.real])
            return x.index_put(place, packed[: len(self.rows)][self.real])
        return packed.view(self.time, self.n_rows, -1).transpose(0, 1)

    def scale(self, packed: Tensor, mask: Tensor) -> Tensor:
        """Multiply packed numbers by one factor per document and column, shape (batch, 1, width)."""
        if self.ragged:
            return packed * F.pad(mask[self.rows, 0], (0, 0, 0, self.spare))
        return (packed.view(self.time, self.n_rows, -1) * mask[:, 0]).view(packed.shape)

    def split(self, packed: Tensor) -> Sequence[Tensor]:
        """Give the rows of each step."""
        return packed[: sum(self.sizes)].split(self.sizes)


def draw_kept(shape: torch.Size, p: float) -> Tensor:
    """Draw 1 with probability 1 - p, else 0, in bfloat16; five times as fast as ``bernoulli_``.

    Each draw takes 16 random bits, so that p is met to 1 part in 65,536.
    """
    if p >= 1:
        return torch.zeros(shape, dtype=torch.bfloat16)
    n = math.prod(shape)
    bits = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:n].view(shape)
    return torch.ge(bits, round(p * 65536) - 32768, out=torch.empty(shape, dtype=torch.bfloat16))


class Layer16:
    """The weights of one layer in bfloat16, laid out when first needed.

    Parameters
    ----------
    w_ih : Tensor, shape (4 * width, n_in)
        Input to gates, in the order of torch: input, forget, cell, output.
    w_hh : Tensor, shape (4 * width, width)
        Hidden to gates.
    b_ih, b_hh : Tensor, shape (4 * width,)
        Biases.
    weight_p : float, default=0
        Share of the entries of `w_hh` that are dropped, drawn here.

    Attributes
    ----------
    kept : Tensor of bfloat16 or None
        1 where an entry of `w_hh` is kept, 0 where it is dropped.
    kept_scale : float
        What the kept entries are multiplied by.
    """

    def __init__(self, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, *, weight_p: float = 0.0):
        self.w_ih, self.w_hh = w_ih.detach().bfloat16(), w_hh.detach()
        self.bias = (b_ih + b_hh).detach().bfloat16()
        self.kept = draw_kept(self.w_hh.shape, weight_p) if weight_p else None
        self.kept_scale = 1 / max(1 - weight_p, 1e-6) if weight_p else 1.0
        self.w_hh = torch.mul(self.w_hh, self.kept_scale, out=torch.empty(w_hh.shape, dtype=torch.bfloat16))
        if self.kept is not None:
            self.w_hh *= self.kept

    @functools.cached_property
    def forwards(self) -> tuple[Weight16, Weight16]:
        """Both matrices laid out for the way up."""
        return pack(self.w_ih, 1024), pack(self.w_hh, 64)

    @functools.cached_property
    def backwards(self) -> tuple[Weight16, Weight16]:
        """Both matrices transposed, laid out for the way down."""
        return pack(self.w_ih.T, 1024), pack(self.w_hh.T, 64)


def evaluate_layer(layer: Layer16, x: Tensor, state: tuple[Tensor, Tensor], packing: Packing) -> tuple[Tensor, Any]:
    """Run a layer without a graph; see `train_layer`."""
    inputs = packing.unpack(x.bfloat16()) if packing.ragged else x.bfloat16().view(packing.time, packing.n_rows, -1)
    h, c = (part.bfloat16()[None] for part in state)
    alone = packing.n_rows == 1
    if alone:  # oneDNN sums a single row in another order: two rows give a text the same numbers as many do
        inputs, h, c = inputs.expand(-1, 2, -1), h.expand(-1, 2, -1), c.expand(-1, 2, -1)
    weights = [layer.w_ih, layer.w_hh, layer.bias, torch.zeros_like(layer.bias)]
    outputs, h, c = torch.lstm(
        inputs.contiguous(), (h.contiguous(), c.contiguous()), weights, True, 1, 0.0, False, False, packing.ragged
    )
    n = packing.n_whole
    packed = packing.pack(outputs) if packing.ragged else outputs[:, : packing.n_rows].reshape(len(x), -1)
    return packed, (h[0, :n], c[0, :n])


def train_layer(
    layer: Layer16, x: Tensor, state: tuple[Tensor, Tensor], packing: Packing, parameters: list[Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Run a layer with a graph through its input and its parameters, but not through its state.

    Parameters
    ----------
    layer : Layer16
        The weights in 16 bits.
    x : Tensor, shape (n_tokens, n_in)
        Packed input.
    state : (h, c), each of shape (batch, width)
        State before the first step.
    packing : Packing
        How the documents are packed.
    parameters : list of Tensor
        ``w_ih, w_hh, b_ih, b_hh`` in float32, as they were when `layer` was made; they receive the gradient.

    Returns
    -------
    outputs : Tensor of bfloat16, shape (n_tokens, width)
        Packed outputs.
    state : (h, c), each of shape (packing.n_whole, width)
        State after the last step, of the documents that reach it.
    """
    outputs, h, c = _Layer.apply(x, layer, state, packing, *parameters)
    return outputs, (h, c)


class _Layer(torch.autograd.Function):
    """Back-propagation through time by hand: one product per step, all others over all steps at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Layer16, state: Any, packing: Packing, *parameters: Tensor) -> Any:
        input_weight, hidden_weight = layer.forwards
        x = x.bfloat16()
        h, c = state[0].bfloat16(), state[1].float()
        first, width = (h, c.bfloat16()), h.shape[1]
        gates = linear(x, input_weight, layer.bias)  # pre-activations; then, step by step, activations
        outputs, cells, squashed = (x.new_empty(len(x), width) for _ in range(3))
        outputs[sum(packing.sizes) :] = 0
        for gate, output, cell, tanh_c in zip(*map(packing.split, (gates, outputs, cells, squashed)), strict=True):
            n = len(gate)
            z = linear_add(h[:n], hidden_weight, gate)
            torch.sigmoid(z, out=gate)
            torch.tanh(z[:, 2 * width : 3 * width].float(), out=gate[:, 2 * width : 3 * width])
            i, f, g, o = gate.chunk(4, 1)
            c = (c[:n] * f).addcmul_(i, g)
            cell.copy_(c)
            torch.tanh(c, out=tanh_c)
            h = torch.mul(tanh_c, o, out=output)
        # `outputs` itself would hold its own graph for ever
        ctx.saved = (x, layer, first, packing, gates, outputs.detach(), cells, squashed)
        last, c = h[: packing.n_whole].clone(), c[: packing.n_whole]
        ctx.mark_non_differentiable(last, c)
        return outputs, last, c

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor, *_: Any) -> Any:
        if ctx.saved is None:
            raise RuntimeError("The graph of a 16-bit LSTM layer can be run through once; run the layer again.")
        x, layer, (h0, c0), packing, gates, outputs, cells, squashed = ctx.saved
        ctx.saved = None  # the gates are overwritten by their gradient
        width = h0.shape[1]
        input_weight, hidden_weight = layer.backwards
        sizes = packing.sizes
        before = [c0, *packing.split(cells)[:-1]]
        d_c = torch.zeros(sizes[0], width)
        d_gate: Tensor | None = None
        steps = zip(*map(packing.split, (d_outputs.bfloat16(), gates, squashed)), before, strict=True)
        for d_h, gate, tanh_c, c_before in reversed(list(steps)):
            n = len(gate)
            if d_gate is not None:
                below = linear_add(d_gate, hidden_weight, d_h[: len(d_gate)].contiguous())
                d_h = below if len(d_gate) == n else torch.cat([below, d_h[len(d_gate) :]])
            i, f, g, o = gate.chunk(4, 1)
            running = d_c[:n]
            running += aten.tanh_backward(d_h * o, tanh_c)
            d_cell = running.bfloat16()
            running *= f
            d_i, d_g = d_cell * g, d_cell * i
            aten.sigmoid_backward(d_h * tanh_c, o, grad_input=o)
            aten.sigmoid_backward(d_cell.mul_(c_before[:n]), f, grad_input=f)
            aten.sigmoid_backward(d_i, i, grad_input=i)
            aten.tanh_backward(d_g, g, grad_input=g)
            d_gate = gate
        d_gates = gates
        d_gates[sum(sizes) :] = 0
        need_x, *_, need_ih, need_hh, need_b_ih, need_b_hh = ctx.needs_input_grad
        d_x = linear(d_gates, input_weight) if need_x else None
        d_ih = _product(x, d_gates) if need_ih else None
        d_hh = None
        if need_hh:
            after = zip(packing.split(outputs)[:-1], sizes[1:], strict=True)
            spare = x.new_zeros(len(x) - sum(sizes), width)
            hidden_before = torch.cat([h0, *(h[:n] for h, n in after), spare])
            d_hh = _product(hidden_before * layer.kept_scale, d_gates, layer.kept)
        d_bias = None
        if need_b_ih or need_b_hh:
            d_bias = torch.mm(d_gates.new_ones(1, len(d_gates)), d_gates)[0].float()
        return d_x, None, None, None, d_ih, d_hh, d_bias, d_bias


def _product(inputs: Tensor, d_gates: Tensor, kept: Tensor | None = None) -> Tensor:
    """Give ``d_gates.T @ inputs`` in float32, times `kept`; the product is fastest the other way round."""
    product = torch.mm(inputs.T.contiguous(), d_gates).T
    gradient = torch.empty(product.shape)
    return gradient.copy_(product) if kept is None else torch.mul(product, kept, out=gradient)
