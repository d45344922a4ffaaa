"""One LSTM layer in 16-bit arithmetic on the CPU, forward and backward.

Products take bfloat16 numbers; sums and the cell are kept in float32. Documents of different length are packed step by
step, so that nothing is computed behind a document's end.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sk_ulmfit.nn.kernels import Weight16, linear, linear_add, pack, sigmoid_backward, tanh_backward


class Packing:
    """Where the tokens of a batch are when they are packed step by step: first tokens, second tokens, and so on.

    oneDNN keeps kernels and buffers for every shape it has met. So each step has a multiple of `ROWS` rows and the
    whole a multiple of `TOKENS`; the filler is computed and thrown away. `lengths`, shape (batch,), must fall and be on
    the CPU. `sizes` has the rows of each step, filler included; `n_whole` documents are as long as the longest.
    """

    ROWS, TOKENS = 8, 256

    def __init__(self, lengths: Tensor):
        self.time = int(lengths[0])
        self.n_rows = len(lengths)
        self.n_whole = int((lengths == self.time).sum())
        self.ragged = self.n_whole < self.n_rows
        self.sizes = [self.n_rows] * self.time
        if self.ragged:
            reached = (torch.arange(self.time)[:, None] < lengths).sum(1)  # (time,)
            filled = (-(-reached // self.ROWS) * self.ROWS).clamp(max=self.n_rows)  # (time,)
            self.sizes = filled.tolist()
            row = torch.arange(self.n_rows)  # (batch,)
            self.steps, self.rows = (row < filled[:, None]).nonzero(as_tuple=True)  # (sum of sizes,) each
            self.real = self.rows < reached[self.steps]  # (sum of sizes,): not filler
            self.spare = -len(self.rows) % self.TOKENS

    def pack(self, x: Tensor) -> Tensor:
        """Bring (batch, time, width) to (tokens, width)."""
        if self.ragged:
            return F.pad(x[self.rows, self.steps], (0, 0, 0, self.spare))
        return x[:, : self.time].transpose(0, 1).reshape(-1, x.shape[2])

    def unpack(self, packed: Tensor) -> Tensor:
        """Bring (tokens, width) back to (batch, time, width), zero behind a document's end."""
        if self.ragged:
            x = packed.new_zeros(self.n_rows, self.time, packed.shape[1])  # (batch, time, width)
            place = (self.rows[self.real], self.steps[self.real])
            return x.index_put(place, packed[: len(self.rows)][self.real])
        return packed.view(self.time, self.n_rows, -1).transpose(0, 1)

    def scale(self, packed: Tensor, mask: Tensor) -> Tensor:
        """Multiply (tokens, width) by one factor per document and column, shape (batch, 1, width)."""
        if self.ragged:
            return packed * F.pad(mask[self.rows, 0], (0, 0, 0, self.spare))
        return (packed.view(self.time, self.n_rows, -1) * mask[:, 0]).view(packed.shape)

    def split(self, packed: Tensor) -> Sequence[Tensor]:
        """Return the rows of each step, (rows, width) each."""
        return packed[: sum(self.sizes)].split(self.sizes)


def draw_kept(shape: torch.Size, p: float) -> Tensor:
    """Draw 1 with probability 1 - p, else 0, in bfloat16; p is met to 1 part in 65,536.

    Random bits, 16 a draw, are five times as fast as ``bernoulli_``.
    """
    if p >= 1:
        return torch.zeros(shape, dtype=torch.bfloat16)
    n = math.prod(shape)
    bits = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(2**63), None)  # four draws each
    draws = bits.view(torch.int16)[:n].view(shape)
    return torch.ge(draws, round(p * 65536) - 32768, out=torch.empty(shape, dtype=torch.bfloat16))


class Layer16:
    """The weights of one layer in bfloat16, gates in torch's order: input, forget, cell, output.

    `w_ih` has the shape (4 * width, n_in), `w_hh` (4 * width, width), both biases (4 * width,). Entries of `w_hh` are
    dropped with probability `weight_p` and the others multiplied by `kept_scale`; `kept` is 1 where one is kept, or
    None if all are.
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
    def forward_weights(self) -> tuple[Weight16, Weight16]:
        """Both matrices, packed for the forward pass."""
        return pack(self.w_ih, 1024), pack(self.w_hh, 64)

    @functools.cached_property
    def backward_weights(self) -> tuple[Weight16, Weight16]:
        """Both matrices transposed, packed for the backward pass."""
        return pack(self.w_ih.T, 1024), pack(self.w_hh.T, 64)


def evaluate_layer(layer: Layer16, x: Tensor, state: tuple[Tensor, Tensor], packing: Packing) -> tuple[Tensor, Any]:
    """Run a layer without a graph; arguments and result as in `train_layer`, all in bfloat16."""
    x = x.bfloat16()  # (tokens, n_in)
    inputs = packing.unpack(x) if packing.ragged else x.view(packing.time, packing.n_rows, -1)
    h, c = (part.bfloat16()[None] for part in state)  # (1, batch, width)
    if packing.n_rows == 1:  # oneDNN sums a single row in another order: run two, for the same numbers as among many
        inputs, h, c = inputs.expand(-1, 2, -1), h.expand(-1, 2, -1), c.expand(-1, 2, -1)
    weights = [layer.w_ih, layer.w_hh, layer.bias, torch.zeros_like(layer.bias)]
    outputs, h, c = torch.lstm(
        inputs.contiguous(), (h.contiguous(), c.contiguous()), weights, True, 1, 0.0, False, False, packing.ragged
    )  # outputs (batch, time, width) if ragged, else (time, batch, width); h and c (1, batch, width)
    packed = packing.pack(outputs) if packing.ragged else outputs[:, : packing.n_rows].reshape(len(x), -1)
    return packed, (h[0, : packing.n_whole], c[0, : packing.n_whole])


def train_layer(
    layer: Layer16, x: Tensor, state: tuple[Tensor, Tensor], packing: Packing, parameters: list[Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Run a layer with a graph through its input and its parameters, but not through its state.

    `x` is packed, (tokens, n_in); `state` before the first step is h and c, (batch, width) each. `parameters` are the
    float32 ``w_ih, w_hh, b_ih, b_hh`` that `layer` was made of; they receive the gradient. Returns packed outputs,
    (tokens, width) in bfloat16, and h and c after the last step of the documents that reach it, (n_whole, width) each.
    """
    outputs, h, c = _Layer.apply(x, layer, state, packing, *parameters)
    return outputs, (h, c)


class _Layer(torch.autograd.Function):
    """Backpropagation through time by hand: one product per step, all others over all steps at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Layer16, state: Any, packing: Packing, *parameters: Tensor) -> Any:
        input_weight, hidden_weight = layer.forward_weights
        x = x.bfloat16()  # (tokens, n_in)
        h, c = state[0].bfloat16(), state[1].float()  # (batch, width)
        first, width = (h, c.bfloat16()), h.shape[1]
        gates = linear(x, input_weight, layer.bias)  # (tokens, 4 * width): before, then after the activation
        outputs, cells, squashed = (x.new_empty(len(x), width) for _ in range(3))  # (tokens, width)
        outputs[sum(packing.sizes) :] = 0
        for gate, output, cell, tanh_c in zip(*map(packing.split, (gates, outputs, cells, squashed)), strict=True):
            n = len(gate)  # documents of this step; the longest come first, so that they are the first rows
            z = linear_add(h[:n], hidden_weight, gate)  # (n, 4 * width)
            torch.sigmoid(z, out=gate)
            torch.tanh(z[:, 2 * width : 3 * width].float(), out=gate[:, 2 * width : 3 * width])
            i, f, g, o = gate.chunk(4, 1)  # (n, width)
            c = (c[:n] * f).addcmul_(i, g)  # (n, width)
            cell.copy_(c)
            torch.tanh(c, out=tanh_c)
            h = torch.mul(tanh_c, o, out=output)  # (n, width)
        # `outputs` itself would hold its own graph for ever
        ctx.saved = (x, layer, first, packing, gates, outputs.detach(), cells, squashed)
        last, c = h[: packing.n_whole].clone(), c[: packing.n_whole]  # (n_whole, width)
        ctx.mark_non_differentiable(last, c)
        return outputs, last, c

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor, *_: Any) -> Any:
        if ctx.saved is None:
            raise RuntimeError("The graph of a 16-bit LSTM layer can be run through only once; run the layer again.")
        x, layer, (h0, c0), packing, gates, outputs, cells, squashed = ctx.saved
        ctx.saved = None  # the gates are overwritten by their gradient
        input_weight, hidden_weight = layer.backward_weights
        d_gates = _gate_gradients(d_outputs.bfloat16(), gates, cells, squashed, c0, hidden_weight, packing)
        need_x, *_, need_ih, need_hh, need_b_ih, need_b_hh = ctx.needs_input_grad
        d_x = linear(d_gates, input_weight) if need_x else None  # (tokens, n_in)
        d_ih = _product(x, d_gates) if need_ih else None  # (4 * width, n_in)
        d_hh = None
        if need_hh:
            h_before = torch.cat(list(_shifted(outputs, h0, packing)))  # (tokens, width)
            d_hh = _product(h_before * layer.kept_scale, d_gates, layer.kept)  # (4 * width, width)
        d_bias = None
        if need_b_ih or need_b_hh:
            d_bias = torch.mm(d_gates.new_ones(1, len(d_gates)), d_gates)[0].float()  # (4 * width,)
        return d_x, None, None, None, d_ih, d_hh, d_bias, d_bias


def _gate_gradients(
    d_outputs: Tensor,
    gates: Tensor,
    cells: Tensor,
    squashed: Tensor,
    c0: Tensor,
    hidden_weight: Weight16,
    packing: Packing,
) -> Tensor:
    """Overwrite the gates, (tokens, 4 * width), by the gradient of their pre-activations, from the last step down."""
    width = c0.shape[1]
    d_c = torch.zeros(packing.sizes[0], width)  # (rows of the first step, width)
    d_gate: Tensor | None = None
    c_before_all = [c0, *packing.split(cells)[:-1]]
    steps = zip(*map(packing.split, (d_outputs, gates, squashed)), c_before_all, strict=True)
    for d_h, gate, tanh_c, c_before in reversed(list(steps)):
        n = len(gate)
        if d_gate is not None:  # add what flows back through the hidden state from the step after
            below = linear_add(d_gate, hidden_weight, d_h[: len(d_gate)].contiguous())  # (rows after, width)
            d_h = below if len(d_gate) == n else torch.cat([below, d_h[len(d_gate) :]])  # (n, width)
        i, f, g, o = gate.chunk(4, 1)  # (n, width)
        d_tanh_c = d_h * o  # (n, width)
        running = d_c[:n]  # (n, width), float32, a view: the gradient of the cell, step after step
        running += tanh_backward(d_tanh_c, tanh_c, out=d_tanh_c)
        d_cell = running.bfloat16()  # (n, width)
        running *= f
        d_i, d_g = d_cell * g, d_cell * i  # (n, width)
        sigmoid_backward(d_h * tanh_c, o, out=o)
        sigmoid_backward(d_cell.mul_(c_before[:n]), f, out=f)
        sigmoid_backward(d_i, i, out=i)
        tanh_backward(d_g, g, out=g)
        d_gate = gate  # (n, 4 * width): i, f, g and o are views of it
    gates[sum(packing.sizes) :] = 0
    return gates


def _shifted(outputs: Tensor, h0: Tensor, packing: Packing) -> Iterator[Tensor]:
    """Yield the hidden state before each step, (rows, width), and zeros for the rows behind the last step."""
    yield h0
    for h, n in zip(packing.split(outputs)[:-1], packing.sizes[1:], strict=True):
        yield h[:n]
    yield outputs.new_zeros(len(outputs) - sum(packing.sizes), outputs.shape[1])


def _product(inputs: Tensor, d_gates: Tensor, kept: Tensor | None = None) -> Tensor:
    """Return ``d_gates.T @ inputs`` in float32, (4 * width, n_in), times `kept`; this order of factors is fastest."""
    product = torch.mm(inputs.T.contiguous(), d_gates).T  # (4 * width, n_in)
    gradient = torch.empty(product.shape)  # (4 * width, n_in)
    return gradient.copy_(product) if kept is None else torch.mul(product, kept, out=gradient)
