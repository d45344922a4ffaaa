import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_ulmfit.nn import losses
from sk_ulmfit.nn.losses import MultiLabelLoss, linear_cross_entropy, squared_activations


def problem(n, n_words, seed=0):
    torch.manual_seed(seed)
    hidden = torch.randn(n, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(n_words, 6, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(n_words, dtype=torch.float64, requires_grad=True)
    return hidden, weight, bias


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(2, 30), st.integers(1, 12), st.floats(0, 0.9))
def test_equals_cross_entropy_with_its_gradients(n, n_words, chunk, ignored):
    inputs = problem(n, n_words)
    targets = torch.randint(0, n_words, (n,))
    targets[torch.rand(n) < ignored] = -100
    targets[0] = 0
    plain = F.cross_entropy(F.linear(*inputs[:2], inputs[2]), targets)
    wanted = torch.autograd.grad(3 * plain, inputs)
    before, losses.CHUNK_ROWS = losses.CHUNK_ROWS, chunk
    try:
        ours = linear_cross_entropy(*inputs, targets)
        found = torch.autograd.grad(3 * ours, inputs)
    finally:
        losses.CHUNK_ROWS = before
    assert torch.allclose(ours, plain)
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_frozen_inputs_get_no_gradient():
    hidden, weight, bias = problem(5, 9)
    weight, bias = weight.detach(), bias.detach()
    linear_cross_entropy(hidden, weight, bias, torch.arange(5)).backward()
    assert hidden.grad is not None


def test_nothing_counted_is_zero():
    inputs = problem(4, 9)
    assert linear_cross_entropy(*inputs, torch.full((4,), -100)).item() == 0


def test_large_logits_stay_finite():
    hidden, weight, bias = problem(4, 9)
    loss = linear_cross_entropy(hidden * 1e4, weight, bias, torch.arange(4))
    assert torch.isfinite(loss)


def test_never_holds_the_whole_matrix_of_logits():
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    n, n_words = 4 * losses.CHUNK_ROWS, 300
    inputs = problem(n, n_words)
    with Watch():
        linear_cross_entropy(*inputs, torch.zeros(n, dtype=torch.int64)).backward()
    assert largest <= losses.CHUNK_ROWS * n_words


def test_penalties_leave_padding_out():
    torch.manual_seed(0)
    dropped, raw = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    counted = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], dtype=torch.bool)
    squares, steps = squared_activations(dropped, raw, counted)
    assert squares.item() == pytest.approx(
        (dropped[0] ** 2).sum().item() + (dropped[1, :2] ** 2).sum().item(), rel=1e-5
    )
    wanted = ((raw[0, 1:] - raw[0, :-1]) ** 2).sum() + ((raw[1, 1] - raw[1, 0]) ** 2).sum()
    assert steps.item() == pytest.approx(wanted.item(), rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(2, 60), st.integers(1, 12), st.floats(0, 0.9))
def test_16_bits_are_close_in_value_and_gradient(n, n_words, chunk, ignored):
    inputs = [tensor.detach().float().requires_grad_() for tensor in problem(n, n_words)]
    targets = torch.randint(0, n_words, (n,))
    targets[torch.rand(n) < ignored] = -100
    targets[0] = 0
    plain = F.cross_entropy(F.linear(*inputs[:2], inputs[2]), targets)
    wanted = torch.autograd.grad(3 * plain, inputs)
    before, losses.CHUNK_ROWS = losses.CHUNK_ROWS, chunk
    try:
        ours = linear_cross_entropy(*inputs, targets, "bfloat16")
        found = torch.autograd.grad(3 * ours, inputs)
    finally:
        losses.CHUNK_ROWS = before
    assert ours.item() == pytest.approx(plain.item(), abs=0.1, rel=0.01)
    for a, b in zip(found, wanted, strict=True):
        assert ((a - b).norm() <= 0.05 * b.norm() + 0.05).item()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 10_000))
def test_multi_label_loss_is_the_weighted_sum_of_the_known_entries(n, n_labels, seed):
    rng = np.random.default_rng(seed)
    logits, y = rng.normal(size=(n, n_labels)), rng.choice([0.0, 1.0, np.nan], (n, n_labels))
    weight, pos_weight = rng.random(n), rng.random(n_labels) + 0.5
    p = 1 / (1 + np.exp(-logits))
    wanted = 0.0
    for i in range(n):
        for j in range(n_labels):
            if y[i, j] == 1:
                wanted -= weight[i] * pos_weight[j] * np.log(p[i, j])
            elif y[i, j] == 0:
                wanted -= weight[i] * np.log(1 - p[i, j])
    loss = MultiLabelLoss(torch.tensor(pos_weight))(*map(torch.tensor, (logits, y, weight)))
    assert loss.item() == pytest.approx(wanted / (n * n_labels))


def test_multi_label_loss_has_no_gradient_where_nothing_is_known():
    logits = torch.zeros(2, 2, requires_grad=True)
    MultiLabelLoss()(logits, torch.tensor([[float("nan"), 1], [float("nan"), 0]]), torch.ones(2)).backward()
    assert logits.grad.tolist() == [[0, -0.125], [0, 0.125]]
