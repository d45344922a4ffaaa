"""Who prepares what a run reads: this process, processes of this machine, or the workers of a Dask scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sk_ulmfit.pretraining.scheduler import dask_workers
from sk_ulmfit.text.workers import Workers, local_workers

LOCAL = "local"  # processes of this machine, as many as it has cores


@dataclass(frozen=True)
class WorkerSettings:
    """How many processes, or the address of a scheduler, and the files and folders that its workers must see."""

    n_jobs: int | None = None
    scheduler: str | None = None
    paths: tuple[Path, ...] = ()

    @property
    def is_remote(self) -> bool:
        """Whether the workers of a scheduler do the work."""
        return self.scheduler not in (None, LOCAL)

    @contextmanager
    def started(self) -> Iterator[Workers]:
        """Yield the workers; processes are started when they are needed."""
        if not self.is_remote:
            n_jobs = -1 if self.scheduler == LOCAL and self.n_jobs is None else self.n_jobs
            with local_workers(n_jobs) as workers:
                yield workers
            return
        assert self.scheduler is not None
        with dask_workers(self.scheduler, self.paths) as workers:
            yield workers

    def check(self) -> None:
        """Raise PretrainingError now if the workers of a scheduler cannot be used."""
        if self.is_remote:
            assert self.scheduler is not None
            with dask_workers(self.scheduler, self.paths):
                pass
