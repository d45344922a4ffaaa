"""Private operations of torch, in this file alone, each with a plain fallback.

oneDNN multiplies 16- and 8-bit matrices several times faster after they were packed in its own layout. torch has no
public function for that, nor for some in-place steps of the backward pass.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


def _find(name: str) -> Any:
    """Return a private operation of torch by its dotted name, or None where this build has none."""
    try:
        return functools.reduce(getattr, name.split("."), torch)
    except AttributeError:
        return None


_SIGMOID_BACKWARD = _find("ops.aten.sigmoid_backward")
_TANH_BACKWARD = _find("ops.aten.tanh_backward")
_SOFTMAX = _find("ops.aten._softmax.out")
_MULTIPLY_ALL = _find("_foreach_mul_")
_COUNTS_CHANGES = _find("Tensor._version") is not None


@functools.cache
def _warn_once(operation: str, cost: str) -> None:
    """Warn that an operation is missing, once per process."""
    warnings.warn(f"torch {torch.__version__} has no {operation} here: {cost}.", UserWarning, stacklevel=3)


class Weight16(NamedTuple):
    """A bfloat16 matrix, shape (n_out, n_in), and the same packed for oneDNN, or None where that is not possible."""

    plain: Tensor
    packed: Any


@functools.cache
def has_packed_16bit() -> bool:
    """Tell whether oneDNN multiplies packed bfloat16 matrices on this machine, by trying a small product."""
    try:
        x, weight = torch.ones(2, 32, dtype=torch.bfloat16), torch.ones(16, 32, dtype=torch.bfloat16)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 2)
        product = torch.ops.mkldnn._linear_pointwise.binary(x, x[:, :16].contiguous(), packed, None, "add")
        return bool((product == 33).all())
    except Exception:  # other builds of torch raise various errors
        return False


def pack(weight: Tensor, rows: int) -> Weight16:
    """Pack a bfloat16 matrix for products with about `rows` rows at once."""
    if has_packed_16bit():
        return Weight16(weight, torch.ops.mkldnn._reorder_linear_weight(weight, rows))
    _warn_once("packed bfloat16 product", "16-bit LSTM layers may be several times slower; try precision='float32'")
    return Weight16(weight, None)


def linear(x: Tensor, weight: Weight16, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias`` in bfloat16, shape (rows, n_out); sums are kept in 32 bits."""
    if weight.packed is None:
        return torch.nn.functional.linear(x, weight.plain, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight.packed, bias, "none", [], "")


def linear_add(x: Tensor, weight: Weight16, other: Tensor) -> Tensor:
    """Return ``x @ weight.T + other`` in bfloat16; `other` has shape (rows, n_out)."""
    if weight.packed is None:
        return torch.addmm(other, x, weight.plain.T)
    return torch.ops.mkldnn._linear_pointwise.binary(x, other, weight.packed, None, "add")


class Weight8(NamedTuple):
    """A matrix in 8-bit integers, shape (n_out, n_in), with one scale per row, and the same packed for oneDNN."""

    plain: Tensor
    scales: Tensor
    zero_points: Tensor  # all 0; made once, since every product needs it
    packed: Any


ZERO_POINT = 128  # the unsigned 8-bit number that means 0


@functools.cache
def has_packed_8bit() -> bool:
    """Tell whether oneDNN multiplies packed 8-bit matrices on this machine, by trying a small product."""
    try:
        x = torch.full((2, 32), 255, dtype=torch.uint8)
        packed = torch.ops.onednn.qlinear_prepack(torch.full((16, 32), 127, dtype=torch.int8), [2, 32])
        weight = Weight8(torch.empty(0), torch.ones(16), torch.zeros(16, dtype=torch.int32), packed)
        product = _product_8bit(x, 1.0, weight, torch.ones(2, 16))
        return bool((product == 32 * 127 * 127 + 1).all())  # False where intermediate sums saturate
    except Exception:  # other builds of torch raise various errors
        return False


def quantize_weight(weight: Tensor, rows: int) -> Weight8:
    """Round a float32 matrix to 8 bits, row by row, for products with about `rows` rows at once."""
    scales = weight.abs().amax(1).clamp(min=1e-12) / 127
    plain = (weight / scales[:, None]).round_().to(torch.int8)
    packed = None
    if has_packed_8bit():
        packed = torch.ops.onednn.qlinear_prepack(plain, [rows, plain.shape[1]])
    else:
        _warn_once("packed 8-bit product", "8-bit prediction is slower than precision='float32'")
    return Weight8(plain, scales, torch.zeros(len(scales), dtype=torch.int32), packed)


def quantize(x: Tensor, scale: float) -> Tensor:
    """Round float32 numbers to unsigned 8 bits: ``x / scale + 128``, clipped at both ends."""
    return (x * (1 / scale)).add_(ZERO_POINT + 0.5).clamp_(0, 255).to(torch.uint8)


def linear_8bit(x: Tensor, scale: float, weight: Weight8, other: Tensor) -> Tensor:
    """Return ``(x - 128) * scale @ weight.T + other`` in float32; integer sums are exact in any order."""
    if weight.packed is not None:
        return _product_8bit(x, scale, weight, other)
    product = torch.mm(x.double() - ZERO_POINT, weight.plain.double().T)
    return (product * (weight.scales * scale)).float() + other


def _product_8bit(x: Tensor, scale: float, weight: Weight8, other: Tensor) -> Tensor:
    return torch.ops.onednn.qlinear_pointwise.binary(
        x, scale, ZERO_POINT, weight.packed, weight.scales, weight.zero_points, other,
        None, 1.0, 0, torch.float32, 1.0, 0, "add", 1.0, "none", [], "",
    )  # fmt: skip


def sigmoid_backward(gradient: Tensor, output: Tensor, out: Tensor) -> Tensor:
    """Write ``gradient * output * (1 - output)`` to `out`, which may be one of the arguments."""
    if _SIGMOID_BACKWARD is not None:
        return _SIGMOID_BACKWARD(gradient, output, grad_input=out)
    _warn_once("sigmoid_backward", "training in 16 bits on the CPU is slower")
    output = output.float()
    return out.copy_(gradient.float() * (1 - output) * output)


def tanh_backward(gradient: Tensor, output: Tensor, out: Tensor) -> Tensor:
    """Write ``gradient * (1 - output ** 2)`` to `out`, which may be one of the arguments."""
    if _TANH_BACKWARD is not None:
        return _TANH_BACKWARD(gradient, output, grad_input=out)
    _warn_once("tanh_backward", "training in 16 bits on the CPU is slower")
    return out.copy_(gradient.float() * (1 - output.float().square()))


def softmax_(x: Tensor) -> Tensor:
    """Replace each row of a matrix by its softmax."""
    if _SOFTMAX is not None:
        return _SOFTMAX(x, 1, False, out=x)
    _warn_once("in-place softmax", "training a language model takes more memory and time")
    return x.copy_(x.softmax(1))


def multiply_all_(tensors: Sequence[Tensor], factor: Tensor) -> None:
    """Multiply tensors in place by a factor of shape ()."""
    if _MULTIPLY_ALL is not None:
        _MULTIPLY_ALL(tensors, factor)
        return
    _warn_once("_foreach_mul_", "clipping gradients is slower")
    for tensor in tensors:
        tensor.mul_(factor)


def change_count(tensor: Tensor) -> object:
    """Return a value that changes when a tensor is changed in place, other than by a fused optimiser.

    It is None for inference tensors, whose changes torch does not count.
    """
    if tensor.is_inference():
        return None
    if _COUNTS_CHANGES:
        return tensor._version
    _warn_once("Tensor._version", "weights are converted to 16 or 8 bits anew for every window")
    return object()  # equal to no other
