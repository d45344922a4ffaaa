"""Requests that arrive together are computed together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sk_ulmfit.serving.errors import busy

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH_ITEMS, BATCH_CHARACTERS = 64, 16_000  # of a batch; a longer text is one alone


@dataclass
class _Job(Generic[Item]):
    """Items of one request, few enough for one batch."""

    items: list[Item]
    characters: int
    results: asyncio.Future[Sequence[Any]]


class Lane(Generic[Item, Result]):
    """A queue of items; while one batch is computed in a thread, the next one gathers.

    So nobody waits for a batch to fill, and the busier the server, the larger the batches.

    Parameters
    ----------
    compute : callable
        Returns the results of a list of items, one for each. It runs in a thread of `executor`.
    length : callable
        Returns the number of characters of an item.
    executor : Executor
        Runs `compute`; lanes with the same one take turns.
    max_waiting : int
        Items that may wait; `submit` raises RequestError for more.
    seen : callable
        Called with the number of items of each batch.
    """

    def __init__(
        self,
        compute: Callable[[list[Item]], Any],
        length: Callable[[Item], int],
        executor: Executor,
        max_waiting: int,
        seen: Callable[[int], object] = lambda n: None,
    ):
        self._compute, self._length, self._executor, self._seen = compute, length, executor, seen
        self._max_waiting = max_waiting
        self._jobs: deque[_Job[Item]] = deque()
        self._has_jobs = asyncio.Event()
        self.n_waiting = 0

    async def submit(self, items: list[Item]) -> list[Result]:
        """Return the results of the items; if it is cancelled, those that still wait are never computed.

        Items are accepted as a whole, or not at all. An idle lane accepts any number.
        """
        if self.n_waiting and self.n_waiting + len(items) > self._max_waiting:
            raise busy(f"{self.n_waiting} texts are waiting")
        loop = asyncio.get_running_loop()
        jobs = [_Job(part, n, loop.create_future()) for part, n in self._parts(items)]
        self._jobs.extend(jobs)
        self.n_waiting += len(items)
        self._has_jobs.set()
        parts = await asyncio.gather(*(job.results for job in jobs))
        return [result for part in parts for result in part]

    async def run(self) -> None:
        """Compute batch after batch until it is cancelled."""
        while True:
            await self._has_jobs.wait()
            jobs = self._next_batch()
            if not self._jobs:
                self._has_jobs.clear()
            if jobs:
                await self._compute_jobs(jobs)

    def _parts(self, items: list[Item]) -> Iterator[tuple[list[Item], int]]:
        """Cut the items of a request into parts of at most a batch, each with its number of characters."""
        part: list[Item] = []
        characters = 0
        for item in items:
            n = self._length(item)
            if part and (len(part) == BATCH_ITEMS or characters + n > BATCH_CHARACTERS):
                yield part, characters
                part, characters = [], 0
            part.append(item)
            characters += n
        if part:
            yield part, characters

    def _next_batch(self) -> list[_Job[Item]]:
        """Take as many jobs from the queue as fit into a batch, at least one, without those that were cancelled."""
        batch: list[_Job[Item]] = []
        n_items = n_characters = 0
        while self._jobs:
            job = self._jobs[0]
            n_items, n_characters = n_items + len(job.items), n_characters + job.characters
            if batch and (n_items > BATCH_ITEMS or n_characters > BATCH_CHARACTERS):
                break
            self.n_waiting -= len(self._jobs.popleft().items)
            if job.results.done():
                n_items, n_characters = n_items - len(job.items), n_characters - job.characters
            else:
                batch.append(job)
        return batch

    async def _compute_jobs(self, jobs: list[_Job[Item]]) -> None:
        items = [item for job in jobs for item in job.items]
        self._seen(len(items))
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._executor, self._compute, items)
        except Exception as error:
            await self._after_error(jobs, error)
            return
        start = 0
        for job in jobs:
            if not job.results.done():
                job.results.set_result(results[start : start + len(job.items)])
            start += len(job.items)

    async def _after_error(self, jobs: list[_Job[Item]], error: Exception) -> None:
        """Compute jobs one by one after an error of their batch, so that it befalls only the request at fault."""
        if len(jobs) > 1:
            for job in jobs:
                await self._compute_jobs([job])
        elif not jobs[0].results.done():
            jobs[0].results.set_exception(error)
