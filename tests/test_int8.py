import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lstm import NAMES, distance, problem

from sk_ulmfit.nn import kernels
from sk_ulmfit.nn.int8 import Layer8, evaluate_layer_8bit
from sk_ulmfit.nn.modules import AWDLSTM

shapes = st.tuples(st.lists(st.integers(1, 20), min_size=1, max_size=7), st.integers(1, 40), st.integers(1, 40))


def make_layer(rnn, x):
    largest = x.detach().abs().max().item()
    return Layer8(*(getattr(rnn, name) for name in NAMES), largest_input=largest, largest_hidden=1.0)


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_same_function_as_torch(shape):
    rnn, x, (h, c), real, packing = problem(*shape)
    n = packing.n_whole
    with torch.no_grad():
        plain, _ = rnn(x, (h[None], c[None]))
        plain_h, plain_c = h[None, :n], c[None, :n]
        scale = plain_c.norm()  # the largest cell state: where it shrinks again, its errors stay
        for token in range(x.shape[1]):
            _, (plain_h, plain_c) = rnn(x[:n, token : token + 1], (plain_h, plain_c))
            scale = max(scale, plain_c.norm())
        outputs, (last_h, last_c) = evaluate_layer_8bit(make_layer(rnn, x), packing.pack(x), (h, c), packing)
    assert distance(packing.unpack(outputs), plain * real) < 0.1
    assert last_h.shape == last_c.shape == (n, shape[2])
    for found, expected in ((last_h, plain_h[0]), (last_c, plain_c[0])):
        assert (found - expected).norm() < 0.1 * scale


@pytest.mark.skipif(not kernels.has_packed_8bit(), reason="no 8-bit kernels here")
@settings(max_examples=30, deadline=None)
@given(shapes)
def test_kernels_and_plain_integers_agree(shape):
    rnn, x, state, _, packing = problem(*shape)
    with torch.no_grad():
        fast, _ = evaluate_layer_8bit(make_layer(rnn, x), packing.pack(x), state, packing)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernels, "has_packed_8bit", lambda: False)
            plain, _ = evaluate_layer_8bit(make_layer(rnn, x), packing.pack(x), state, packing)
    # a number that falls between two integers may be rounded either way
    assert distance(fast, plain) < 0.02


def test_rounding_to_8_bits():
    x = torch.linspace(-2, 2, 999)
    rounded = (kernels.quantize(x, 1 / 127).float() - kernels.ZERO_POINT) / 127
    inside = x.abs() <= 1
    assert (rounded - x)[inside].abs().max() <= 0.5 / 127 + 1e-6
    assert rounded.min() >= -128 / 127 - 1e-6
    assert rounded.max() == 1
    weight = torch.randn(5, 30) * torch.tensor([[1e-3], [1.0], [100.0], [0.0], [5.0]])
    packed = kernels.quantize_weight(weight, 4)
    error = (packed.plain * packed.scales[:, None] - weight).abs().amax(1)
    assert (error <= weight.abs().amax(1) / 254 + 1e-9).all()


def test_8_bits_are_for_prediction_only():
    encoder = AWDLSTM(50, 40, 64, 2).eval()
    ids, lengths = torch.randint(0, 50, (2, 9)), torch.tensor([9, 9])
    with torch.no_grad():
        exact, _ = encoder(ids, lengths)
        rounded, _ = encoder(ids, lengths, precision="int8")
    assert not torch.equal(exact, rounded)
    assert np.abs((exact - rounded).numpy()).max() < 0.02
    outputs, _ = encoder(ids, lengths, precision="int8")  # with a graph: float32
    assert torch.allclose(outputs, exact, atol=1e-6)
    outputs.sum().backward()
    assert encoder.rnns[0].weight_hh_l0.grad.abs().sum() > 0
