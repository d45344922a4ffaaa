"""One LSTM layer in 8-bit integers, for prediction on processors with instructions for them."""

from __future__ import annotations

import torch
from torch import Tensor

from sk_ulmfit.nn.kernels import linear_8bit, quantize, quantize_weight
from sk_ulmfit.nn.lstm import Packing

STEPS_AT_ONCE = 8  # whose input is multiplied in one product


class Layer8:
    """The weights of one layer in 8 bits; shapes as in `Layer16`.

    Inputs and hidden states are rounded with scales that follow from the model, not from the batch, and integer sums
    are exact: a text gets the same numbers whatever texts are beside it. Inputs and hidden states whose absolute value
    is above `largest_input` and `largest_hidden` are clipped.
    """

    def __init__(
        self, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, *, largest_input: float, largest_hidden: float
    ):
        self.w_ih, self.w_hh = quantize_weight(w_ih.detach(), 512), quantize_weight(w_hh.detach(), 64)
        self.bias = (b_ih + b_hh).detach()
        self.input_scale, self.hidden_scale = largest_input / 127, largest_hidden / 127


def evaluate_layer_8bit(
    layer: Layer8, x: Tensor, state: tuple[Tensor, Tensor], packing: Packing
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Run a layer without a graph; arguments and result as in `train_layer`, all in float32."""
    h, c = state  # (batch, width)
    width = h.shape[1]
    h8 = quantize(h, layer.hidden_scale)  # (batch, width)
    outputs = x.new_empty(len(x), width)  # (tokens, width)
    done = 0
    for first in range(0, packing.time, STEPS_AT_ONCE):
        sizes = packing.sizes[first : first + STEPS_AT_ONCE]
        inputs = x[done : done + sum(sizes)]  # (tokens of these steps, n_in)
        bias = layer.bias.expand(len(inputs), -1).contiguous()  # (tokens of these steps, 4 * width)
        inputs8 = quantize(inputs, layer.input_scale)  # (tokens of these steps, n_in)
        gates = linear_8bit(inputs8, layer.input_scale, layer.w_ih, bias)  # (tokens of these steps, 4 * width)
        for n, gate in zip(sizes, gates.split(sizes), strict=True):
            z = linear_8bit(h8[:n], layer.hidden_scale, layer.w_hh, gate)  # (n, 4 * width)
            i, f = z[:, : 2 * width].sigmoid_().chunk(2, 1)  # (n, width)
            g, o = z[:, 2 * width : 3 * width].tanh_(), z[:, 3 * width :].sigmoid_()  # (n, width)
            c = (c[:n] * f).addcmul_(i, g)  # (n, width)
            h = torch.mul(torch.tanh(c), o, out=outputs[done : done + n])  # (n, width)
            h8 = quantize(h, layer.hidden_scale)  # (n, width)
            done += n
    outputs[done:] = 0
    return outputs, (h[: packing.n_whole], c[: packing.n_whole])
