"""An HTTP server for the application, from the binding of its port to its end by a signal."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from sk_ulmfit._messages import short
from sk_ulmfit.serving.connections import protocol_class
from sk_ulmfit.serving.limits import Limits

_IDLE_SECONDS = 15  # of a connection between two requests


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to a host and a port, 0 for any free one; raise ValueError if that is not possible."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise ValueError(f"--host {short(host)} is not an address of this machine.") from None
    bound = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let two servers have the same port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise ValueError(
            f"Port {port} of {host} cannot be used ({error.strerror}); choose another one with --port."
        ) from None
    return bound


def url_of(bound: socket.socket) -> str:
    """Return the address of the page."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """A server that answers its requests before it ends by SIGINT or SIGTERM; a second SIGINT ends it at once.

    `on_start` is called when it has started.
    """

    on_start: Callable[[], object] | None = None

    def __init__(self, app: Any, limits: Limits, *, access_log: bool = False):
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol_class(limits.upload_seconds, limits.connections),
                ws="none",
                lifespan="on",
                log_level="info" if access_log else "warning",
                access_log=access_log,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=int(limits.seconds) + 1,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.on_start is not None:
            self.on_start()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End by a signal as if told to; uvicorn would send itself the signal again in the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {name: signal.signal(name, self.handle_exit) for name in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)
