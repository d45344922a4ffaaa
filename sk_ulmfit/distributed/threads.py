"""How many threads torch uses in a task, so that the tasks of a machine share its cores."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from sk_ulmfit._validation import check_number
from sk_ulmfit.distributed.extra import needed


@contextmanager
def torch_threads(n: int | None) -> Iterator[None]:
    """Let torch use `n` threads for what this thread computes in the block; None changes nothing."""
    import torch

    before = torch.get_num_threads()
    if n is None or n == before:
        yield
        return
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def slots_by_host(client: Any) -> dict[str, int]:
    """Return how many tasks run at the same time on each host of a cluster."""
    slots: dict[str, int] = {}
    for worker in client.scheduler_info(n_workers=-1)["workers"].values():
        slots[worker["host"]] = slots.get(worker["host"], 0) + worker["nthreads"]
    return slots


def threads_of_task(n_threads: int | None, slots: Mapping[str, int]) -> int | None:
    """Return how many threads torch should use in this task; None leaves it as it is.

    `n_threads` wins. Else a task on a worker has its share of the cores of the host, and other tasks have one thread,
    except where there is one task at a time, as with Dask's scheduler "synchronous".
    """
    if n_threads is not None:
        return n_threads
    worker = _worker()
    if worker is not None:
        return share_of(worker, slots)
    is_alone = threading.current_thread() is threading.main_thread() and multiprocessing.parent_process() is None
    return None if is_alone else 1


def share_of(worker: Any, slots: Mapping[str, int]) -> int:
    """Return the cores of a worker's host for each task; 1 on a host that was not there when `slots` were counted."""
    from dask.system import CPU_COUNT

    host = worker.address.partition("://")[2].rpartition(":")[0].strip("[]")
    return max(1, CPU_COUNT // slots[host]) if host in slots else 1


def _worker() -> Any:
    """Return the Dask worker that this thread works for, or None."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.get_worker()
    except ValueError:
        return None


@contextmanager
def worker_threads(client: Any = None, n_threads: int | None = None) -> Iterator[None]:
    """Share the cores of each machine among the workers of a Dask cluster while the block runs.

    Use it around searches and cross-validation with joblib's backend "dask". Without it, a training takes the threads
    that torch finds in the worker: one if Dask has started the worker with its own settings, else as many as there are
    cores, whatever else runs there. `predict_proba` and the other functions of this module do the same for themselves.

    Parameters
    ----------
    client : distributed.Client, default=None
        Client of the cluster; None takes the current one.
    n_threads : int or None, default=None
        Threads of torch and of linear algebra for each task. None: the cores of a machine divided by the tasks that
        its workers run at the same time, at least 1.

    Yields
    ------
    None
        The threads are set on all workers, also on those that start in the block. What was set before comes back in
        the end.

    Raises
    ------
    WorkerCheckError
        If a worker lacks this package or has another version of it.
    ValueError
        If there is no client, or `n_threads` is not a positive integer.

    Examples
    --------
    >>> from dask.distributed import Client
    >>> from joblib import parallel_config
    >>> from sk_ulmfit.distributed import worker_threads
    >>> client = Client(n_workers=1, processes=False, dashboard_address=None)
    >>> with client, worker_threads(), parallel_config("dask"):
    ...     pass  # search.fit(texts, y)
    """
    check_number("n_threads", n_threads, low=1, integer=True, none=True)
    client = current_client() if client is None else client
    if client is None:
        raise ValueError("There is no Dask client; make one with dask.distributed.Client(...), or pass it.")
    name = f"sk_ulmfit-threads-{uuid4().hex[:8]}"
    needed("sk_ulmfit.distributed.worker_checks").check_package(client)
    plugin = needed("sk_ulmfit.distributed.thread_plugin").WorkerThreads(n_threads, slots_by_host(client))
    client.register_plugin(plugin, name=name)
    try:
        yield
    finally:
        client.unregister_worker_plugin(name)


def current_client() -> Any:
    """Return the client of Dask that is active, or None; Dask's schedulers of one machine need none."""
    if "distributed" not in sys.modules:
        return None
    try:
        return needed("distributed").default_client()
    except ValueError:
        return None
