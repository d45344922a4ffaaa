"""The device of computations, and the seed of random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch


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
            f"device must be 'auto' or a device of torch such as 'cpu' or 'cuda', got {device!r}."
        ) from None
    try:
        torch.zeros(1, device=resolved).cpu()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(f"device={device!r} is not available on this machine. Pass device='auto' or 'cpu'.") from None
    return str(resolved)


_GENERATORS = RLock()


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Seed torch's generators of the CPU and of `device` within the block, and restore their states afterwards.

    The whole process shares these generators, so only one thread at a time enters.
    """
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with _GENERATORS, torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
