"""What happens to every request before and after the application sees it: who may, how much, how long."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from sk_ulmfit.serving.access import Access
from sk_ulmfit.serving.bodies import Bodies, DisconnectedError, Message, Receive
from sk_ulmfit.serving.errors import RequestError, error_answer
from sk_ulmfit.serving.limits import Limits
from sk_ulmfit.serving.metrics import Metrics

logger = logging.getLogger("sk_ulmfit.serving")

_CONTENT = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
SECURITY_HEADERS = {
    "Content-Security-Policy": _CONTENT,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_WITH_BODY = {"POST", "PUT", "PATCH"}


class Guard:
    """ASGI middleware: checks a request, reads its body, bounds its time, and counts it."""

    def __init__(self, app: Any, access: Access, limits: Limits, metrics: Metrics):
        self._app, self._access, self._limits, self._metrics = app, access, limits, metrics
        self._bodies = Bodies(limits)

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        """Answer one request; lifespan events pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, answer = time.perf_counter(), _Answer(scope, receive, send)
        try:
            await self._answer(scope, receive, answer)
        except DisconnectedError:
            answer.status = 499  # as nginx counts clients that did not wait
        except RequestError as error:
            await answer.refuse(error)
        except Exception:
            logger.exception("A request to %s failed.", scope["path"])
            await answer.refuse(RequestError(500, "The server failed; its log says why."))
        finally:
            self._metrics.observe(_path(scope), answer.status, time.perf_counter() - began)

    async def _answer(self, scope: Any, receive: Receive, answer: _Answer) -> None:
        headers = dict(scope["headers"])
        refusal = self._access.refusal(scope["method"], _path(scope), headers) or _wrong_type(scope, headers)
        if refusal is not None:
            if not await self._bodies.discard(receive, headers):
                refusal.headers["Connection"] = "close"
            raise refusal
        body = [await self._bodies.read(receive, headers)]
        try:
            await self._run(scope, receive, answer, body[0])
        finally:
            self._bodies.release(body)

    async def _run(self, scope: Any, receive: Receive, answer: _Answer, body: bytes) -> None:
        """Run the application until it has answered, its time is over, or the client is gone."""
        is_read = asyncio.Event()

        async def replay() -> Message:
            if is_read.is_set():
                await asyncio.Event().wait()  # the client is watched below
            is_read.set()
            return {"type": "http.request", "body": body, "more_body": False}

        work = asyncio.ensure_future(self._app(scope, replay, answer.send))
        gone = asyncio.ensure_future(_end_of_connection(receive))
        try:
            await asyncio.wait({work, gone}, timeout=self._limits.seconds, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            elif gone.done():
                raise DisconnectedError
            else:
                raise RequestError(
                    504, f"There was no answer within {self._limits.seconds:g} seconds; send fewer or shorter texts."
                )
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)


async def _end_of_connection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Answer:
    """The answer to one request, with the headers that every answer has."""

    def __init__(self, scope: Any, receive: Receive, send: Any):
        self._scope, self._receive, self._send = scope, receive, send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = {name.lower() for name, _ in message["headers"]}
            extra = {**SECURITY_HEADERS, "Cache-Control": "no-store"}
            more = [(k.lower().encode(), v.encode()) for k, v in extra.items() if k.lower().encode() not in own]
            message = {**message, "headers": [*message["headers"], *more]}
        await self._send(message)

    async def refuse(self, error: RequestError) -> None:
        """Send an error, unless the answer has begun."""
        if not self.status:
            await error_answer(error)(self._scope, self._receive, self.send)


def _path(scope: Any) -> str:
    """Return the path within this application, which may be a part of another one."""
    path, root = scope["path"], scope.get("root_path", "")
    return path[len(root) :] if root and f"{path}/".startswith(f"{root}/") else path


def _wrong_type(scope: Any, headers: dict[bytes, bytes]) -> RequestError | None:
    """Return the error for a body that does not say it is JSON: other types are sent by pages of any site."""
    if scope["method"] not in _WITH_BODY or _path(scope) not in ("/predict", "/explain"):
        return None
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == b"application/json":
        return None
    return RequestError(415, "The body must be JSON; send the header Content-Type: application/json.")
