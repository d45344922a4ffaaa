"""Choice of the arithmetic of training and prediction."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, get_args

import torch

from sk_ulmfit._choices import Precision
from sk_ulmfit._messages import short
from sk_ulmfit.nn.kernels import has_packed_8bit

PRECISIONS = get_args(Precision)

LARGEST_SHIFT = 1e-2  # "auto" never moves a probability by more than this
# Widths of the widest layer from which reduced precision is faster on the CPU.
NARROWEST_TRAINED = 384
NARROWEST_PREDICTED = {"bfloat16": 128, "int8": 512}


@functools.cache
def _cpu_capabilities() -> dict[str, Any]:
    """Return what torch knows about the processor; empty if this version of torch does not tell."""
    probe = getattr(torch.cpu, "get_capabilities", dict)
    return dict(probe())


def has_fast_bfloat16(device: str) -> bool:
    """Tell whether a device multiplies bfloat16 numbers faster than float32.

    That holds for GPUs since Ampere, and for x86 processors with AVX512-BF16 or AMX.
    """
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device)[0] >= 8
    capabilities = _cpu_capabilities()
    return device == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def has_fast_int8() -> bool:
    """Tell whether the processor multiplies 8-bit integers faster than float32 (VNNI), and torch supports it."""
    capabilities = _cpu_capabilities()
    return bool(capabilities.get("avx512_vnni") or capabilities.get("avx_vnni")) and has_packed_8bit()


def widest_layer(config: Mapping[str, Any]) -> int:
    """Return the width of the widest LSTM layer of a model; the last one is as wide as the embedding."""
    return int(max(config["emb_dim"], config["hidden_dim"] if config["n_layers"] > 1 else 0))


def _check_device(precision: str, device: str) -> None:
    if precision == "bfloat16" and not device.startswith(("cpu", "cuda")):
        raise ValueError(
            f"precision='bfloat16' is for the CPU and for CUDA devices, got device {short(device)}. "
            "Pass precision='auto' or 'float32'."
        )


def training_precision(precision: str, device: str, width: int) -> str:
    """Return the arithmetic of training, "float32" or "bfloat16", for a widest layer of `width` units.

    `precision` is the parameter of an estimator; "int8" is for prediction only, and trains as "auto" does. Raises
    ValueError if the device does not support it.
    """
    _check_device(precision, device)
    if precision in ("float32", "bfloat16"):
        return precision
    pays = device.startswith("cuda") or width >= NARROWEST_TRAINED
    return "bfloat16" if pays and has_fast_bfloat16(device) else "float32"


def prediction_precision(precision: str, device: str, width: int, shifts: Mapping[str, float]) -> str:
    """Return the arithmetic of prediction, "float32", "bfloat16" or "int8", for a widest layer of `width` units.

    `precision` is the parameter of an estimator. `shifts` tells how far each arithmetic moved a probability of this
    model at most, as measured in training; "auto" means the fastest that stays within half of `LARGEST_SHIFT`, since
    other texts may move a little further. Raises ValueError if the device does not support it.
    """
    _check_device(precision, device)
    if precision == "int8" and device != "cpu":
        raise ValueError(
            f"precision='int8' predicts on the CPU only, got device {short(device)}. Pass precision='auto', or "
            "device='cpu'."
        )
    if precision != "auto":
        return precision
    fastest = "bfloat16" if has_fast_bfloat16(device) else "int8" if device == "cpu" and has_fast_int8() else "float32"
    if device == "cpu" and width < NARROWEST_PREDICTED.get(fastest, 0):
        return "float32"
    return fastest if shifts.get(fastest, math.inf) <= LARGEST_SHIFT / 2 else "float32"
