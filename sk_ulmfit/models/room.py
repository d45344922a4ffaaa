"""Memory with room for more rows, so that a few new words do not copy the embedding of all words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SPARE = 8  # one eighth of the rows more than needed


class Room:
    """The memory of an array, whose rows are followed by unused ones.

    Only the first one that appends to it writes there; others get a copy. Pickles and copies of it are empty.
    """

    def __init__(self, buffer: NDArray[Any] | None = None):
        self._buffer = buffer
        self._claims = [] if buffer is None else [True]

    def append(self, array: NDArray[Any], rows: NDArray[Any]) -> tuple[NDArray[Any], Room]:
        """Return an array with more rows, in this memory if `array` lies there; and the memory of the result."""
        n, buffer = len(array) + len(rows), self._claimed(array)
        if buffer is None or n > len(buffer):
            buffer = np.empty((n + n // SPARE, *array.shape[1:]), array.dtype)
            buffer[: len(array)] = array
        buffer[len(array) : n] = rows
        return buffer[:n], Room(buffer)

    def _claimed(self, array: NDArray[Any]) -> NDArray[Any] | None:
        """Return the memory if `array` lies at its beginning and nobody has appended to it yet."""
        if self._buffer is None or self._buffer.ctypes.data != array.ctypes.data:
            return None
        try:
            self._claims.pop()  # in one step, whatever other threads do
        except IndexError:
            return None
        return self._buffer

    def __reduce__(self) -> tuple[type[Room], tuple[()]]:
        return Room, ()
