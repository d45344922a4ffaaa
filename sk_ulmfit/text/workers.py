"""Tasks that do not depend on each other, run in this process, on processes of this machine, or elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class WorkerError(ValueError):
    """A worker has ended before its task was done."""


class Workers:
    """What runs tasks: this process. Subclasses run them elsewhere, `n` at a time.

    `hands_out` tells whether a file that must be read from its beginning to its end is read here, and its texts sent to
    the workers.
    """

    hands_out = True
    n = 1

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Yield the results of the tasks, in any order; tasks are made when they are needed."""
        return map(function, tasks)


class ExecutorWorkers(Workers):
    """Workers behind an executor of `concurrent.futures`, started once there is more than one task."""

    def __init__(self, start: Callable[[], Executor], n: int):
        self.n = n
        self._start = start
        self._executor: Executor | None = None

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Yield the results of the tasks, in any order; at most two tasks for each worker are made in advance."""
        tasks = iter(tasks)
        first = list(itertools.islice(tasks, 2))
        if self.hands_out and len(first) < 2:
            return map(function, first)
        return self._run(function, itertools.chain(first, tasks))

    def _run(self, function: Callable[[T], R], tasks: Iterator[T]) -> Iterator[R]:
        if self._executor is None:
            self._executor = self._start()
        running: set[Future[R]] = set()
        try:
            for task in tasks:
                running.add(self._executor.submit(function, task))
                if len(running) >= 2 * self.n:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from map(self._result, done)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from map(self._result, done)
        except BrokenExecutor as error:
            raise self._ended(error) from None
        finally:
            for future in running:
                future.cancel()

    def _result(self, future: Future[R]) -> R:
        return future.result()

    def _ended(self, error: Exception) -> Exception:
        return WorkerError(
            "A worker process ended before its task was done: it was killed, perhaps for lack of memory. Start again, "
            f"with fewer processes than n_jobs={self.n} if memory is short."
        )


@contextmanager
def local_workers(n_jobs: int | None) -> Iterator[Workers]:
    """Yield this process, or as many processes as `n_jobs` says, in joblib's sense; they end with the block."""
    n = 1 if n_jobs is None or n_jobs == 1 else n_processes(n_jobs)
    if n == 1:
        yield Workers()
        return
    started: list[Any] = []

    def start() -> Executor:
        from joblib.externals.loky import ProcessPoolExecutor

        started.append(ProcessPoolExecutor(max_workers=n))
        return started[0]

    try:
        yield ExecutorWorkers(start, n)
    except BaseException:
        for executor in started:
            executor.shutdown(wait=True, kill_workers=True)
        raise
    for executor in started:
        executor.shutdown(wait=True)


def n_processes(n_jobs: int) -> int:
    """Return how many processes `n_jobs` means; -1 means one for each core."""
    from joblib import effective_n_jobs

    if n_jobs == 0:
        raise ValueError("n_jobs must be a number of processes, or -1 for one for each core, got 0.")
    return int(effective_n_jobs(n_jobs))
