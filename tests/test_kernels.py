"""torch's private operations against their plain fallbacks."""

import warnings

import pytest
import torch

from sk_ulmfit.nn import kernels, losses, modules
from sk_ulmfit.nn.modules import AWDLSTM
from sk_ulmfit.training.callbacks import ClipGradient


@pytest.fixture(autouse=True)
def _forget_warnings():
    kernels._warn_once.cache_clear()
    yield
    kernels._warn_once.cache_clear()


def both_ways(monkeypatch, name, compute):
    """Compute something with a private operation, and again without it, which must be said once."""
    assert getattr(kernels, name) is not None, "the versions of torch that we test have it"
    fast = compute()
    monkeypatch.setattr(kernels, name, None)
    with pytest.warns(UserWarning, match=r"torch .* has no .* here: .*(slow|more)"):
        plain = compute()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compute()
    return fast, plain


@pytest.mark.parametrize("name", ["sigmoid_backward", "tanh_backward"])
@pytest.mark.parametrize("overwritten", ["gradient", "output", "neither"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_gradients_of_activations(monkeypatch, name, overwritten, dtype):
    torch.manual_seed(0)
    pre_activation, gradient = torch.randn(2, 50, 60)
    activation = torch.sigmoid if name == "sigmoid_backward" else torch.tanh

    def compute():
        tensors = {"gradient": gradient.to(dtype, copy=True), "output": activation(pre_activation).to(dtype)}
        out = tensors.get(overwritten, torch.empty_like(tensors["output"]))
        result = getattr(kernels, name)(tensors["gradient"], tensors["output"], out=out)
        assert result is out
        return result.float()

    fast, plain = both_ways(monkeypatch, f"_{name}".upper(), compute)
    x = pre_activation.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(activation(x), x, gradient)
    unit = torch.finfo(dtype).eps * gradient.abs()  # the derivatives lie between 0 and 1
    assert ((plain - fast).abs() <= unit).all()
    assert ((plain - wanted).abs() <= 4 * unit).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_softmax_in_place(monkeypatch, dtype):
    torch.manual_seed(0)
    logits = (5 * torch.randn(20, 300)).to(dtype)

    def compute():
        x = logits.clone()
        assert kernels.softmax_(x) is x
        return x

    fast, plain = both_ways(monkeypatch, "_SOFTMAX", compute)
    assert torch.allclose(plain, fast, rtol=torch.finfo(dtype).eps, atol=0)
    assert torch.allclose(plain.double().sum(1), torch.ones(20, dtype=torch.float64), atol=20 * torch.finfo(dtype).eps)


def test_multiplying_many_tensors(monkeypatch):
    torch.manual_seed(0)

    def compute():
        tensors = [torch.linspace(-1, 1, n) for n in (1, 7, 30)]
        kernels.multiply_all_(tensors, torch.tensor(0.3))
        return torch.cat(tensors)

    fast, plain = both_ways(monkeypatch, "_MULTIPLY_ALL", compute)
    assert torch.equal(plain, fast)
    assert plain[0] == pytest.approx(-0.3)


def test_weights_are_followed_without_counts_of_changes(monkeypatch):
    encoder = AWDLSTM(20, 6, 10, 2).eval()
    ids, lengths = torch.randint(0, 20, (2, 5)), torch.tensor([5, 5])
    made = []
    convert = modules._layer16
    monkeypatch.setattr(modules, "_layer16", lambda rnn: made.append(rnn) or convert(rnn))

    def compute():
        with torch.no_grad():
            return encoder(ids, lengths, precision="bfloat16")[0]

    fast = compute()
    assert torch.equal(compute(), fast)
    assert len(made) == 2  # layers
    monkeypatch.setattr(kernels, "_COUNTS_CHANGES", False)
    with pytest.warns(UserWarning, match="no Tensor._version here: weights are converted .* for every window"):
        plain = compute()
    assert torch.equal(plain, fast)
    with torch.no_grad():
        encoder.rnns[0].weight_ih_l0.mul_(3)
    assert not torch.allclose(compute(), plain)
    assert len(made) == 6
    with torch.inference_mode():
        assert kernels.change_count(torch.ones(1)) is None


def test_a_step_of_training_without_private_operations(monkeypatch):
    ids, lengths = torch.randint(0, 30, (3, 9)), torch.tensor([9, 6, 2])

    def gradients():
        torch.manual_seed(0)
        encoder = AWDLSTM(30, 6, 10, 2)
        outputs, _ = encoder(ids, lengths, precision="bfloat16")
        weight, bias = encoder.embedding.weight, torch.zeros(30)
        losses.linear_cross_entropy(
            outputs.flatten(0, 1), weight.to_dense(), bias, ids.flatten(), "bfloat16"
        ).backward()
        ClipGradient(0.01).on_grad_computed(None, named_parameters=encoder.named_parameters())
        return [parameter.grad.to_dense() for parameter in encoder.parameters()]

    fast = gradients()
    for name in ("_SIGMOID_BACKWARD", "_TANH_BACKWARD", "_SOFTMAX", "_MULTIPLY_ALL"):
        monkeypatch.setattr(kernels, name, None)
    monkeypatch.setattr(kernels, "has_packed_16bit", lambda: False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plain = gradients()
        gradients()
    said = {str(warning.message).partition(" has no ")[2].partition(" here")[0] for warning in caught}
    assert said >= {"sigmoid_backward", "tanh_backward", "in-place softmax", "_foreach_mul_", "packed bfloat16 product"}
    assert len(caught) == len(said)  # each once
    for a, b in zip(plain, fast, strict=True):
        assert (a - b).norm() < 0.02 * b.norm()


@pytest.mark.parametrize("bits", [16, 8])
def test_missing_packed_products_are_said_once(monkeypatch, bits):
    monkeypatch.setattr(kernels, f"has_packed_{bits}bit", lambda: False)
    weight = torch.randn(4, 8)
    make = kernels.pack if bits == 16 else kernels.quantize_weight
    weight = weight.bfloat16() if bits == 16 else weight
    with pytest.warns(UserWarning, match="precision='float32'"):
        make(weight, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(weight, 4)


def test_a_missing_operation_is_none():
    assert kernels._find("ops.aten.no_such_operation") is None
    assert kernels._find("ops.no_such_library.operation") is None
    assert kernels._find("_no_such_function") is None
