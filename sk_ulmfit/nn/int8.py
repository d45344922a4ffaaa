"""One LSTM layer in 8-bit integers, for prediction on processors that are fast at them."""

from __future__ import annotations

import torch
from torch import Tensor

from sk_ulmfit.nn.kernels import linear_8bit, quantize, quantize_weight
from sk_ulmfit.nn.lstm import Packing

STEPS_AT_ONCE = 8  # whose input is multiplied in one product


class Layer8:
    """The weights of one layer in 8 bits.

    Inputs and hidden states are rounded with scales that are fixed when the model is, never by what stands in a
    batch, and sums of integers are exact: a text gets the same numbers whatever stands beside it.

    Parameters
    ----------
    w_ih : Tensor, shape (4 * width, n_in)
        Input to gates, in the order of torch: input, forget, cell, output.
    w_hh : Tensor, shape (4 * width, width)
        Hidden to gates.
    b_ih, b_hh : Tensor, shape (4 * width,)
        Biases.
    largest_input : float
        Largest absolute number among the inputs; larger ones are cut off.
    largest_hidden : float
        The same for the hidden state.
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
    """Run a layer without a graph.

    Parameters
    ----------
    layer : Layer8
        The weights in 8 bits.
    x : Tensor of float32, shape (n_tokens, n_in)
        Packed input.
    state : (h, c), each of shape (batch, width)
        State before the first step.
    packing : Packing
        How the documents are packed.

    Returns
    -------
    outputs : Tensor of float32, shape (n_tokens, width)
        Packed outputs.
    state : (h, c), each of shape (packing.n_whole, width)
        State after the last step, of the documents that reach it.
    """
    h, c = state
    width = h.shape[1]
    h8 = quantize(h, layer.hidden_scale)
    outputs = x.new_empty(len(x), width)
    done = 0
    for first in range(0, packing.time, STEPS_AT_ONCE):
        sizes = packing.sizes[first : first + STEPS_AT_ONCE]
        inputs = x[done : done + sum(sizes)]
        bias = layer.bias.expand(len(inputs), -1).contiguous()
        gates = linear_8bit(quantize(inputs, layer.input_scale), layer.input_scale, layer.w_ih, bias)
        for n, gate in zip(sizes, gates.split(sizes), strict=True):
            z = linear_8bit(h8[:n], layer.hidden_scale, layer.w_hh, gate)
            i, f = z[:, : 2 * width].sigmoid_().chunk(2, 1)
            g, o = z[:, 2 * width : 3 * width].tanh_(), z[:, 3 * width :].sigmoid_()
            c = (c[:n] * f).addcmul_(i, g)
            h = torch.mul(torch.tanh(c), o, out=outputs[done : done + n])
            h8 = quantize(h, layer.hidden_scale)
            done += n
    outputs[done:] = 0
    return outputs, (h[: packing.n_whole], c[: packing.n_whole])
