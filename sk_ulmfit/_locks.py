"""Locks that a forked process finds free."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

_LOCKS: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()


class ForkSafeLock:
    """A reentrant lock that is free in a forked process, unless the thread that forks holds it itself.

    A fork copies locked locks, but not the threads that would release them. `on_interruption` is called in the child
    if another thread held the lock: what it protects may be half changed.
    """

    def __init__(self, on_interruption: Callable[[], None] | None = None):
        self._lock = threading.RLock()
        self._owner: int | None = None
        self._depth = 0
        self._on_interruption = on_interruption
        _LOCKS.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()
        self._owner = threading.get_ident()
        self._depth += 1

    def __exit__(self, *error: Any) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
        self._lock.release()

    def _renew(self) -> None:
        if self._owner == threading.get_ident():
            return
        was_held, self._owner, self._depth = self._owner is not None, None, 0
        self._lock = threading.RLock()
        if was_held and self._on_interruption is not None:
            self._on_interruption()


# Filters of warnings belong to the process: if blocks that change them overlapped, they would stay changed.
WARNING_FILTERS = ForkSafeLock()


def _renew_locks() -> None:
    for lock in list(_LOCKS):
        lock._renew()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_renew_locks)
