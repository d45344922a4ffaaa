"""Bodies of requests, read within bounds of size, memory and time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from sk_ulmfit.serving.errors import RequestError, busy
from sk_ulmfit.serving.limits import Limits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

_DISCARDED_BYTES = 32_000_000  # read of a body that is refused, so that its sender gets to read why


class DisconnectedError(Exception):
    """The client is gone."""


class Bodies:
    """The bodies of all present requests."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self.held = 0

    async def read(self, receive: Receive, headers: Mapping[bytes, bytes]) -> bytes:
        """Return a body, which counts until it is given to `release`; raise RequestError beyond a limit."""
        if _declared_length(headers) > self._limits.body_bytes:
            await self.discard(receive, headers)
            raise self._too_large()
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._limits.upload_seconds):
                await self._read_parts(receive, parts)
            return b"".join(parts)
        except TimeoutError:
            self.release(parts)
            raise RequestError(
                408, f"The body did not arrive within {self._limits.upload_seconds:g} seconds.", {"Connection": "close"}
            ) from None
        except BaseException:
            self.release(parts)
            raise

    async def _read_parts(self, receive: Receive, parts: list[bytes]) -> None:
        n = 0
        async for part in _parts(receive):
            n += len(part)
            if n > _DISCARDED_BYTES:
                break
            if n > self._limits.body_bytes:
                self.release(parts)  # the rest is read, so that its sender gets to read why it is refused
            else:
                self._hold(part)
                parts.append(part)
        if n > self._limits.body_bytes:
            raise self._too_large()

    async def discard(self, receive: Receive, headers: Mapping[bytes, bytes]) -> bool:
        """Read a body that is refused, unless it is enormous or slow; return whether all of it was read."""
        if _declared_length(headers) > _DISCARDED_BYTES or b"expect" in headers:
            return False
        n = 0
        try:
            async with asyncio.timeout(self._limits.upload_seconds):
                async for part in _parts(receive):
                    n += len(part)
                    if n > _DISCARDED_BYTES:
                        return False
        except TimeoutError:
            return False
        return True

    def release(self, parts: list[bytes]) -> None:
        """Forget a body, or the parts of one."""
        self.held -= sum(map(len, parts))
        parts.clear()

    def _hold(self, part: bytes) -> None:
        if self.held + len(part) > self._limits.all_bodies_bytes:
            error = busy("the bodies of present requests fill its memory")
            error.headers["Connection"] = "close"
            raise error
        self.held += len(part)

    def _too_large(self) -> RequestError:
        return RequestError(
            413,
            f"The body has more than {self._limits.body_bytes:,} bytes; send fewer texts at a time.",
            {"Connection": "close"},
        )


def _declared_length(headers: Mapping[bytes, bytes]) -> int:
    length = headers.get(b"content-length", b"0")
    return int(length[:20]) if length.isdigit() else 0  # int refuses thousands of digits


async def _parts(receive: Receive) -> Any:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        more = message.get("more_body", False)
        yield message.get("body", b"")
