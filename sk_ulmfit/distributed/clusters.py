"""The workers that a command uses: none, those of this machine, or those of a scheduler."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from sk_ulmfit._messages import short, short_text
from sk_ulmfit.distributed.extra import needed
from sk_ulmfit.distributed.part_writing import PartWriter
from sk_ulmfit.distributed.parts import Part

LOCAL = "local"
_PATIENCE = "10s"  # to connect to a scheduler
# By default Dask makes workers return freed memory at once, which makes predictions 1.5 times as slow.
_ENVIRONMENT = {"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None}
_QUIET = {  # no dashboard, any free port for what remains of it, and no log of workers that end
    "dashboard_address": "127.0.0.1:0",
    "scheduler_kwargs": {"dashboard": False},
    "silence_logs": logging.CRITICAL,
}


@contextmanager
def client_of(scheduler: str | None, n_workers: int | None = None) -> Iterator[Any]:
    """Yield a client of the cluster that a command names, or None; raise ValueError if no scheduler answers.

    Parameters
    ----------
    scheduler : str or None
        Address of a scheduler, or "local" for worker processes on this machine.
    n_workers : int or None, default=None
        Worker processes of "local"; None starts one for each core.
    """
    if scheduler is None:
        yield None
        return
    distributed = needed("distributed")
    if scheduler == LOCAL:
        n_workers = n_workers or needed("dask.system").CPU_COUNT
        cluster = {"n_workers": n_workers, "threads_per_worker": 1, **_QUIET}
        with needed("dask.config").set(_ENVIRONMENT), distributed.Client(**cluster) as client:
            yield client
        return
    try:
        client = distributed.Client(scheduler, timeout=_PATIENCE)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"No Dask scheduler answers at {short(scheduler)} ({short_text(error)}); give its address, such as "
            f"tcp://HOST:8786, or {LOCAL}."
        ) from None
    with client:
        yield client


def written(client: Any, writer: PartWriter, parts: Sequence[Part]) -> Iterator[tuple[int, int]]:
    """Yield the texts and the predicted labels of each part when it is written, in any order.

    Without a client, one part after the other is written in this process. A worker that is lost hands its part on to
    another one; raises ValueError if that happens to the same part four times, or if the scheduler is lost.
    """
    if client is None:
        for part in parts:
            yield writer.write(part)
        return
    distributed = needed("distributed")
    run = uuid4().hex[:8]  # another run may have parts of the same names
    futures = client.map(writer.write, parts, key=[f"{part.name}-{run}" for part in parts], pure=False)
    try:
        for future, result in distributed.as_completed(futures, with_results=True):
            if future.cancelled():
                raise ValueError(
                    "The connection to the scheduler was lost; the same command goes on when there is one again."
                )
            yield result
            future.release()
    except distributed.KilledWorker as error:
        raise ValueError(
            f"Several workers were lost with the same part ({short_text(error, 200)}); give them more memory, or look "
            "at their logs. The same command goes on."
        ) from None
    finally:
        if client.status == "running":
            client.cancel(futures, force=True)
