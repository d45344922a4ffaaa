"""The 16-bit LSTM layer against torch's own in 32 bits, forwards and backwards."""

import pickle
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sk_ulmfit.nn import kernels
from sk_ulmfit.nn.lstm import Layer16, Packing, draw_kept, evaluate_layer, train_layer
from sk_ulmfit.nn.modules import AWDLSTM
from sk_ulmfit.nn.optimizer import RowAdamW

NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def distance(found, wanted):
    """Relative error; small numbers count with their absolute one, since the sums they come from are larger."""
    return ((found - wanted).norm() / wanted.norm().clamp(min=0.1 * wanted.numel() ** 0.5)).item()


def problem(lengths, n_in, width, seed=0):
    torch.manual_seed(seed)
    rnn = nn.LSTM(n_in, width, batch_first=True)
    lengths = torch.tensor(sorted(lengths, reverse=True))
    x = torch.randn(len(lengths), int(lengths[0]), n_in, requires_grad=True)
    state = (torch.randn(len(lengths), width) * 0.3, torch.randn(len(lengths), width) * 0.3)
    real = (torch.arange(x.shape[1]) < lengths[:, None])[:, :, None]
    return rnn, x, state, real, Packing(lengths)


DRAWS = 32  # simulated runs, from which the size of rounding errors is estimated


def rounding_error(v):
    """Draw an error as large as that of rounding v to bfloat16, whose significand has 8 bits."""
    spacing = torch.exp2(torch.frexp(v).exponent - 8.0)
    return (torch.rand_like(v) - 0.5) * spacing * (v != 0)


def rounded(v):
    """Add rounding errors to v, and to its gradient."""
    v = v + rounding_error(v.detach())
    v.register_hook(lambda gradient: gradient + rounding_error(gradient))
    return v


def simulate_rounding(x, h, c, w_ih, w_hh, b_ih, b_hh):
    """Run an LSTM in float32 with random errors wherever the layer rounds to bfloat16.

    All tensors have a leading axis of draws. Returns outputs and cells, (draws, batch, time, width).
    """
    x, h, w_ih, w_hh, bias = rounded(x), rounded(h), rounded(w_ih), rounded(w_hh), rounded(b_ih + b_hh)
    outputs, cells = [], []
    for step in x.unbind(2):
        z = rounded(rounded(step @ w_ih.mT + bias[:, None]) + h @ w_hh.mT)
        i, f, g, o = z.chunk(4, 2)
        i, f, g, o = (rounded(gate) for gate in (i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()))
        c = f * c + i * g
        h = rounded(rounded(c.tanh()) * o)
        outputs.append(h)
        cells.append(c)
    return torch.stack(outputs, 2), torch.stack(cells, 2)


def assert_within_rounding(found, wanted, simulated, name):
    """Assert that an error is at most 5 times the root mean square of the simulated ones."""
    expected = ((simulated - wanted).square().sum() / DRAWS).sqrt()
    assert (found - wanted).norm() <= 5 * expected, name


shapes = st.tuples(st.lists(st.integers(1, 12), min_size=1, max_size=7), st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=40, deadline=None)
@given(shapes, st.booleans())
def test_same_function_and_gradient_as_torch(shape, packed_kernels):
    rnn, x, (h, c), real, packing = problem(*shape)
    plain, _ = rnn(x, (h[None], c[None]))
    n = packing.n_whole
    _, (plain_h, plain_c) = rnn(x[:n], (h[None, :n], c[None, :n]))
    pull = torch.randn_like(plain) * real
    wanted = torch.autograd.grad((plain * pull).sum(), [x, *rnn.parameters()])

    parameters = [getattr(rnn, name) for name in NAMES]
    with pytest.MonkeyPatch.context() as patch:
        if not packed_kernels:
            patch.setattr(kernels, "has_packed_16bit", lambda: False)
        layer = Layer16(*parameters)
        outputs, (last_h, last_c) = train_layer(layer, packing.pack(x), (h, c), packing, parameters)
        found = torch.autograd.grad((packing.unpack(outputs).float() * pull).sum(), [x, *rnn.parameters()])
        with torch.no_grad():
            evaluated, (eval_h, eval_c) = evaluate_layer(layer, packing.pack(x), (h, c), packing)

    leaves = [tensor.detach().expand(DRAWS, *tensor.shape).clone().requires_grad_() for tensor in (x, h, *parameters)]
    like_outputs, like_cells = simulate_rounding(*leaves[:2], c, *leaves[2:])
    like_gradients = torch.autograd.grad((like_outputs * pull).sum(), [leaves[0], *leaves[2:]])
    like_h, like_c = like_outputs[:, :n, -1], like_cells[:, :n, -1]
    for name, value in (("training", outputs), ("evaluation", evaluated)):
        assert_within_rounding(packing.unpack(value).float(), plain * real, like_outputs * real, name)
    for h_found, c_found in ((last_h, last_c), (eval_h, eval_c)):
        assert h_found.shape == c_found.shape == (n, shape[2])
        assert_within_rounding(h_found.float(), plain_h[0], like_h, "h")
        assert_within_rounding(c_found.float(), plain_c[0], like_c, "c")
    for name, *gradients in zip(("x", *NAMES), found, wanted, like_gradients, strict=True):
        assert_within_rounding(*gradients, f"gradient of {name}")


def test_dropped_weights_are_those_of_the_gradient():
    rnn, x, state, _, packing = problem([6, 6, 4], 8, 16)
    parameters = [getattr(rnn, name) for name in NAMES]
    torch.manual_seed(1)
    layer = Layer16(*parameters, weight_p=0.5)
    kept = layer.kept.float()
    assert 0.3 < kept.mean() < 0.7
    assert torch.allclose(layer.w_hh.float(), 2 * rnn.weight_hh_l0 * kept, rtol=0.01)
    train_layer(layer, packing.pack(x), state, packing, parameters)[0].sum().backward()
    gradient = rnn.weight_hh_l0.grad
    assert not gradient[kept == 0].any()

    dropped = (2 * rnn.weight_hh_l0 * kept).detach().requires_grad_()
    weights = {name: getattr(rnn, name) for name in NAMES} | {"weight_hh_l0": dropped}
    outputs, _ = torch.func.functional_call(rnn, weights, (x, tuple(part[None] for part in state)))
    wanted = torch.autograd.grad(packing.pack(outputs).sum(), dropped)[0] * kept * 2
    assert distance(gradient, wanted) < 0.03


def test_share_of_kept_entries():
    torch.manual_seed(0)
    for p in (0.1, 0.25, 0.5, 1.0):
        kept = draw_kept(torch.Size([501, 1001]), p)
        assert set(kept.unique().tolist()) <= {0.0, 1.0}
        assert kept.float().mean().item() == pytest.approx(1 - p, abs=0.003)
        assert np.ptp(kept.float().mean(0).numpy()) < 0.4 or p == 1.0


def test_a_graph_that_was_used_up_says_so():
    rnn, x, state, _, packing = problem([3], 4, 4)
    parameters = [getattr(rnn, name) for name in NAMES]
    total = train_layer(Layer16(*parameters), packing.pack(x), state, packing, parameters)[0].sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="run the layer again"):
        total.backward()


def test_frozen_layers_get_no_gradient_and_no_graph():
    encoder = AWDLSTM(20, 6, 10, 3)
    for parameter in [*encoder.embedding.parameters(), *encoder.rnns[0].parameters()]:
        parameter.requires_grad_(False)
    outputs, _ = encoder(torch.randint(0, 20, (3, 5)), torch.tensor([5, 5, 2]), precision="bfloat16")
    outputs.sum().backward()
    assert encoder.rnns[0].weight_hh_l0.grad is None
    assert encoder.rnns[1].weight_hh_l0.grad.abs().sum() > 0
    with torch.no_grad():
        assert not encoder(torch.randint(0, 20, (3, 5)), torch.tensor([5, 5, 2]), precision="bfloat16")[0].requires_grad


def test_weights_in_16_bits_follow_the_weights():
    encoder = AWDLSTM(20, 6, 10, 2).eval()
    ids, lengths = torch.randint(0, 20, (2, 5)), torch.tensor([5, 5])
    with torch.no_grad():
        before, _ = encoder(ids, lengths, precision="bfloat16")
        copied = pickle.loads(pickle.dumps(encoder))
        assert torch.equal(copied(ids, lengths, precision="bfloat16")[0], before)
        encoder.rnns[0].weight_ih_l0.mul_(3)
        after, _ = encoder(ids, lengths, precision="bfloat16")
    assert not torch.allclose(before, after)


def test_an_optimiser_step_reaches_evaluation():
    encoder = AWDLSTM(20, 6, 10, 2)
    encoder.embedding.weight.requires_grad_(False)
    optimizer = RowAdamW(encoder.rnns.parameters(), lr=0.5, fused=True)
    ids, lengths = torch.randint(0, 20, (2, 5)), torch.tensor([5, 5])

    def evaluated():
        encoder.eval()
        with torch.no_grad():
            return encoder(ids, lengths, precision="bfloat16")[0]

    before = evaluated()
    encoder.train()
    encoder(ids, lengths, precision="bfloat16")[0].sum().backward()
    optimizer.step()
    assert not torch.allclose(evaluated(), before, atol=0.01)


def test_a_graph_that_is_thrown_away_is_freed():
    rnn, x, state, _, packing = problem([3, 3], 4, 4)
    parameters = [getattr(rnn, name) for name in NAMES]
    layer = Layer16(*parameters)
    alive = weakref.ref(layer)
    outputs = train_layer(layer, packing.pack(x), state, packing, parameters)
    del layer, outputs
    assert alive() is None
