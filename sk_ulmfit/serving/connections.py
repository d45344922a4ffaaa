"""Connections of clients: how many, and how long they may take to say what they want."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_UNREAD_SECONDS = 60  # until a connection is closed whose client does not read its answer


class PatientProtocol(H11Protocol):
    """The protocol of uvicorn, with a bound on connections and on the time for the head of a request.

    uvicorn waits forever for a head that never ends, so a client could hold any number of connections open.
    """

    head_seconds: ClassVar[float]
    max_connections: ClassVar[int]

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._close_with(503, "Service Unavailable", "The server has too many connections; try again in a second.")
            return
        _close_if_unread(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._head_timer is None:
            self._wait_for_head()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._close_with(400, "Bad Request", "This is not a valid HTTP request.")

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._head_is_late)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._close_with(
            408, "Request Timeout", f"The head of the request did not arrive within {self.head_seconds:g} seconds."
        )

    def _close_with(self, status: int, phrase: str, message: str) -> None:
        self._stop_waiting()
        if self.transport.is_closing():
            return
        body = json.dumps({"error": message}).encode()
        retry = "Retry-After: 1\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"{retry}Connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def protocol_class(head_seconds: float, max_connections: int) -> type[PatientProtocol]:
    """Return the protocol with these limits."""
    limits: dict[str, Any] = {"head_seconds": head_seconds, "max_connections": max_connections}
    return type("LimitedProtocol", (PatientProtocol,), limits)


def _close_if_unread(transport: asyncio.Transport) -> None:
    """Let the system close a connection whose client takes no bytes, where it can."""
    connection = transport.get_extra_info("socket")
    if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _UNREAD_SECONDS)
