"""Threads that compute, each with its share of the cores."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def computing_threads(n_threads: int | None) -> Iterator[tuple[Executor, Executor]]:
    """Yield two executors of one thread each, whose computations use `n_threads` cores; None for half of them."""
    n = n_threads or default_threads()
    quick, slow = (ThreadPoolExecutor(1, f"sk_ulmfit-{name}", _limit_torch, (n,)) for name in ("quick", "slow"))
    try:
        yield quick, slow
    finally:
        for executor in (quick, slow):
            executor.shutdown(cancel_futures=True)


def default_threads() -> int:
    """Return half of the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // 2)


def _limit_torch(n: int) -> None:
    """Limit torch in the present thread; a model that does without torch does not import it."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(n)
