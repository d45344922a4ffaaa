"""Where computations run, and from which seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch


def resolve_device(device: str) -> str:
    """Give the device that "auto" stands for: the GPU where there is one.

    Parameters
    ----------
    device : str
        "auto", or what torch understands.

    Returns
    -------
    str
        Name of a device.

    Raises
    ------
    ValueError
        If torch knows no such device or it is not there.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(
            f"device must be 'auto' or a device of torch such as 'cpu' or 'cuda', got {device!r}."
        ) from None
    try:
        torch.zeros(1, device=found).cpu()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(f"device={device!r} is not to be had here. Pass device='auto' or 'cpu'.") from None
    return str(found)


_GENERATORS = RLock()


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Run with torch's generators seeded, and give them back as they were.

    The generators are those of the process, so that only one thread at a time is let in.

    Parameters
    ----------
    seed : int
        Seed of the block.
    device : str
        Device whose generator is used besides the CPU's.
    """
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with _GENERATORS, torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
