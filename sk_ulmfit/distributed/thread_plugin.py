"""A plugin of Dask workers that sets how many threads torch and linear algebra use, and sets them back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from distributed import WorkerPlugin
from threadpoolctl import threadpool_limits

from sk_ulmfit.distributed.threads import share_of

_PATIENCE = 5.0  # seconds to wait for threads of a worker that are busy


class WorkerThreads(WorkerPlugin):
    """Limit the threads of each task on a worker.

    Parameters
    ----------
    n_threads : int or None
        Threads of a task; None takes the share of the machine's cores.
    slots : mapping of str to int
        Tasks that run at the same time on each host.
    """

    def __init__(self, n_threads: int | None, slots: Mapping[str, int]):
        self.n_threads, self.slots = n_threads, slots
        self._before: int | None = None
        self._blas: Any = None

    async def setup(self, worker: Any) -> None:
        """Set the threads, and remember what they were."""
        n = self.n_threads or share_of(worker, self.slots)
        self._before = await _set_in_all_threads(worker, n)
        self._blas = threadpool_limits(n, user_api="blas")

    async def teardown(self, worker: Any) -> None:
        """Set the threads back."""
        if self._before is None or self._blas is None:
            return
        self._blas.restore_original_limits()
        await _set_in_all_threads(worker, self._before)


async def _set_in_all_threads(worker: Any, n: int) -> int:
    """Set torch's threads in each thread that runs tasks, since each has a number of its own; return the one before."""
    barrier = threading.Barrier(worker.state.nthreads)

    def set_here() -> int:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(n)
        with suppress(threading.BrokenBarrierError):  # other threads are busy; new ones take this number
            barrier.wait(_PATIENCE)
        return before

    loop, executor = asyncio.get_running_loop(), worker.executors["default"]
    before = await asyncio.gather(*(loop.run_in_executor(executor, set_here) for _ in range(barrier.parties)))
    return max(before)
