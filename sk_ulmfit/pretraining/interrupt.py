"""Ctrl-C and SIGTERM that wait for the end of a training step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def postponed_interrupt() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C or SIGTERM came; a second signal takes effect at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    # handlers that the program has set stay in place
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
