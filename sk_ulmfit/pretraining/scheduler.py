"""The workers of a Dask scheduler, checked before anything is sent to them."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sk_ulmfit._messages import short, short_text
from sk_ulmfit._version import __version__
from sk_ulmfit.pretraining.settings import PretrainingError
from sk_ulmfit.text.workers import ExecutorWorkers, WorkerError, Workers

R = TypeVar("R")
_SECONDS_TO_CONNECT = 10
_VERSION = "sk_ulmfit._version:__version__"


class DaskWorkers(ExecutorWorkers):
    """The workers of a scheduler. They read files themselves, so that no texts pass through the scheduler."""

    hands_out = False

    def _result(self, future: Future[R]) -> R:
        from distributed.scheduler import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            raise WorkerError(
                f"A task was lost with several workers one after another ({short_text(error, 150)}); they ran out of "
                "memory, perhaps. What is done is kept: start again, with more memory for each worker."
            ) from None
        except CancelledError:
            raise WorkerError(
                "The connection to the scheduler was lost. What is done is kept: start again when it is there."
            ) from None


@contextmanager
def dask_workers(scheduler: str, paths: Sequence[Path]) -> Iterator[Workers]:
    """Connect to a scheduler and yield its workers.

    Raises PretrainingError if that fails, if there are no workers, or if one of them has another version of the package
    or does not see one of the paths.
    """
    try:
        from distributed import Client
    except ImportError:
        raise PretrainingError(
            "scheduler needs Dask, which is not installed; install it with pip install 'sk-ulmfit[distributed]'."
        ) from None
    try:
        client = Client(scheduler, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise PretrainingError(
            f"There is no scheduler at {short(scheduler)} ({short_text(error, 150)}); start one with dask scheduler, "
            "and pass its address."
        ) from None
    try:
        _check_workers(client, paths)

        def start() -> Executor:
            return client.get_executor(pure=False)

        yield DaskWorkers(start, max(1, sum(client.nthreads().values())))
    finally:
        client.close()


def _check_workers(client: Any, paths: Sequence[Path]) -> None:
    """Raise PretrainingError unless every worker can do tasks of this version on these paths."""
    versions = client.run(pkgutil.resolve_name, _VERSION, on_error="return")
    if not versions:
        raise PretrainingError(
            f"The scheduler {client.scheduler.address} has no workers; start some with dask worker "
            f"{client.scheduler.address}."
        )
    for worker, version in versions.items():
        if isinstance(version, Exception):
            raise PretrainingError(
                f"The worker {worker} does not have sk_ulmfit ({short_text(version, 100)}); install version "
                f"{__version__} there."
            )
        if version != __version__:
            raise PretrainingError(
                f"The worker {worker} has version {version} of sk_ulmfit, and here is {__version__}; install the same."
            )
    for absolute in map(os.path.abspath, filter(os.path.exists, paths)):
        for worker, is_there in client.run(os.path.exists, absolute).items():
            if not is_there:
                raise PretrainingError(
                    f"The worker {worker} does not see {absolute}; put it on a file system that all workers share, "
                    "under the same path."
                )
