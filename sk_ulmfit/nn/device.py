"""The device of computations, the seed of random numbers, and modules without either."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sk_ulmfit._locks import ForkSafeLock
from sk_ulmfit._messages import short


def resolve_device(device: str) -> str:
    """Return the name of a device of torch; "auto" means the GPU if there is one, else the CPU.

    Raises ValueError if torch knows no such device or it is not available.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(
            f"device must be 'auto' or a device of torch such as 'cpu' or 'cuda', got {short(device)}."
        ) from None
    try:
        torch.zeros(1, device=resolved).cpu()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(
            f"device={short(device)} is not available on this machine. Pass device='auto' or 'cpu'."
        ) from None
    return str(resolved)


_TRAINING = ForkSafeLock()  # one training at a time: each of them uses all cores
_BLOCK = threading.local()  # the generators of the block that a thread is in
_DRAWS = {
    *(Tensor.bernoulli_, Tensor.exponential_, Tensor.normal_, Tensor.random_, Tensor.uniform_),
    *(torch.bernoulli, torch.multinomial, torch.normal, torch.rand, torch.randint, torch.randn, torch.randperm),
    *(nn.init.normal_, nn.init.uniform_, nn.init.trunc_normal_, nn.init.orthogonal_),
    *(nn.init.xavier_normal_, nn.init.xavier_uniform_, nn.init.kaiming_normal_, nn.init.kaiming_uniform_),
}


class _OwnGenerator(TorchFunctionMode):
    """Let this thread draw random numbers of the CPU from a generator of its own, in place of that of the process."""

    def __init__(self, device: str):
        super().__init__()
        self.generator = torch.Generator()
        self.on_gpu = device.startswith("cuda")

    def seed(self, seed: int) -> None:
        self.generator.manual_seed(seed)
        if self.on_gpu:
            torch.manual_seed(seed)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is F.dropout:
            return self._dropout(*args, **kwargs)
        if function in _DRAWS and kwargs.get("generator") is None and not _is_on_gpu(args, kwargs):
            return function(*args, **{**kwargs, "generator": self.generator})
        return function(*args, **kwargs)

    def _dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """Do on the CPU what ``F.dropout`` does there, which takes no generator."""
        if input.is_cuda or not training or not 0 < p < 1 or not input.numel():
            return F.dropout(input, p, training, inplace)
        mask = torch.empty_like(input).bernoulli_(1 - p, generator=self.generator).div_(1 - p)
        return input.mul_(mask) if inplace else input * mask


def _is_on_gpu(args: Any, kwargs: Any) -> bool:
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    return any(tensor.is_cuda for tensor in tensors) or str(kwargs.get("device")).startswith("cuda")


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Draw all random numbers of this thread in the block from generators with this seed.

    On the CPU the generator belongs to the block: whatever other threads draw, and however they seed torch, changes
    nothing here, nor this block anything there. The generator of a GPU is that of the process; its state is restored.
    The block is outside ``torch.inference_mode``, so that gradients can be computed.
    """
    of_gpu = torch.random.fork_rng([torch.device(device)]) if device.startswith("cuda") else nullcontext()
    outer = getattr(_BLOCK, "generator", None)
    with _TRAINING, torch.inference_mode(False), of_gpu, _OwnGenerator(device) as generator:
        generator.seed(seed)
        _BLOCK.generator = generator
        try:
            yield
        finally:
            _BLOCK.generator = outer


class _NoDraws(TorchFunctionMode):
    """Leave out the normal numbers of new tensors: drawn for the "meta" device, they import torch's compiler."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in (nn.init.normal_, Tensor.normal_):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


@contextmanager
def without_contents() -> Iterator[None]:
    """Make the tensors of modules that are built in the block without contents, for arrays to take their place."""
    with torch.device("meta"), _NoDraws():
        yield


def reseed(seed: int) -> None:
    """Seed the generators of the `seeded` block that this thread is in anew."""
    _BLOCK.generator.seed(seed)
