"""Ctrl-C and SIGTERM that wait for the end of a training step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def postponed_interrupt() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C or SIGTERM instead of raising it; yield a function that tells whether one came.

    A second signal takes effect at once. Handlers set by the program itself stay in place.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    replaced: dict[int, Any] = {
        number: default for number, default in defaults.items() if signal.getsignal(number) is default
    }
    received: list[int] = []

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, replaced[number])

    for number in replaced:
        signal.signal(number, note)
    try:
        yield lambda: bool(received)
    finally:
        for number, default in replaced.items():
            signal.signal(number, default)
