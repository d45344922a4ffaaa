"""Matrix products in 16 and 8 bits on the CPU: the one door to torch's private operators.

oneDNN runs these several times faster on weights that were laid out for it beforehand. torch has no public name for
that yet, so every call stands here, with a plain fallback for builds and machines that lack it.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Weight16(NamedTuple):
    """A bfloat16 matrix, shape (n_out, n_in), and the same laid out for oneDNN, or None where that is not to be had."""

    plain: Tensor
    packed: Any


@functools.cache
def has_packed_16bit() -> bool:
    """Tell whether oneDNN multiplies packed bfloat16 matrices here; probed once, on a small product."""
    try:
        x, weight = torch.ones(2, 32, dtype=torch.bfloat16), torch.ones(16, 32, dtype=torch.bfloat16)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 2)
        product = torch.ops.mkldnn._linear_pointwise.binary(x, x[:, :16].contiguous(), packed, None, "add")
        return bool((product == 33).all())
    except Exception:  # another build of torch: whatever it raises, there is a plain way
        return False


def pack(weight: Tensor, rows: int) -> Weight16:
    """Lay a bfloat16 matrix out for products with about `rows` rows at once."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows) if has_packed_16bit() else None
    return Weight16(weight, packed)


def linear(x: Tensor, weight: Weight16, bias: Tensor | None = None) -> Tensor:
    """Give ``x @ weight.T + bias`` in bfloat16, shape (rows, n_out); sums are kept in 32 bits."""
    if weight.packed is None:
        return torch.nn.functional.linear(x, weight.plain, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight.packed, bias, "none", [], "")


def linear_add(x: Tensor, weight: Weight16, other: Tensor) -> Tensor:
    """Give ``x @ weight.T + other`` in bfloat16; `other` has shape (rows, n_out)."""
    if weight.packed is None:
        return torch.addmm(other, x, weight.plain.T)
    return torch.ops.mkldnn._linear_pointwise.binary(x, other, weight.packed, None, "add")


class Weight8(NamedTuple):
    """A matrix in 8-bit integers, shape (n_out, n_in), one scale a row, and the same laid out for oneDNN, or None."""

    plain: Tensor
    scales: Tensor
    zero_points: Tensor  # all 0; made once, as every product asks for it
    packed: Any


ZERO_POINT = 128  # what stands for 0 in unsigned 8-bit numbers


@functools.cache
def has_packed_8bit() -> bool:
    """Tell whether oneDNN multiplies packed 8-bit matrices here; probed once, on a small product."""
    try:
        x = torch.full((2, 32), 255, dtype=torch.uint8)
        packed = torch.ops.onednn.qlinear_prepack(torch.full((16, 32), 127, dtype=torch.int8), [2, 32])
        weight = Weight8(torch.empty(0), torch.ones(16), torch.zeros(16, dtype=torch.int32), packed)
        product = _product_8bit(x, 1.0, weight, torch.ones(2, 16))
        return bool((product == 32 * 127 * 127 + 1).all())  # a processor that saturates on the way does not pass
    except Exception:  # another build of torch: whatever it raises, there is a plain way
        return False


def quantize_weight(weight: Tensor, rows: int) -> Weight8:
    """Round a float32 matrix to 8 bits, row by row, for products with about `rows` rows at once."""
    scales = weight.abs().amax(1).clamp(min=1e-12) / 127
    plain = (weight / scales[:, None]).round_().to(torch.int8)
    packed = None
    if has_packed_8bit():
        packed = torch.ops.onednn.qlinear_prepack(plain, [rows, plain.shape[1]])
    return Weight8(plain, scales, torch.zeros(len(scales), dtype=torch.int32), packed)


def quantize(x: Tensor, scale: float) -> Tensor:
    """Round float32 numbers to unsigned 8 bits: ``x / scale + 128``, cut off at both ends."""
    return (x * (1 / scale)).add_(ZERO_POINT + 0.5).clamp_(0, 255).to(torch.uint8)


def linear_8bit(x: Tensor, scale: float, weight: Weight8, other: Tensor) -> Tensor:
    """Give ``(x - 128) * scale @ weight.T + other`` in float32; sums of integers are exact, in any order."""
    if weight.packed is not None:
        return _product_8bit(x, scale, weight, other)
    product = torch.mm(x.double() - ZERO_POINT, weight.plain.double().T)
    return (product * (weight.scales * scale)).float() + other


def _product_8bit(x: Tensor, scale: float, weight: Weight8, other: Tensor) -> Tensor:
    return torch.ops.onednn.qlinear_pointwise.binary(
        x, scale, ZERO_POINT, weight.packed, weight.scales, weight.zero_points, other,
        None, 1.0, 0, torch.float32, 1.0, 0, "add", 1.0, "none", [], "",
    )  # fmt: skip
