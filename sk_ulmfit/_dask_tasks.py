"""Whether this thread runs a task of Dask, in which a fit starts no further tasks."""

from __future__ import annotations

import sys


def runs_in_task() -> bool:
    """Tell whether this thread runs a task of a Dask worker."""
    utils = sys.modules.get("distributed.utils")
    return utils is not None and hasattr(utils.thread_state, "execution_state")


def backend_within(n_jobs: int | None) -> str | None:
    """Return the backend of joblib for a part of a fit: "sequential", or None for the one that is active.

    In a task of Dask, joblib would send the parts to the whole cluster, whatever `n_jobs`. They would queue behind
    other fits, which may wait for this one: trainings of one process take turns, and so do fits that `memory` knows as
    equal.
    """
    return "sequential" if n_jobs == 1 or runs_in_task() else None
