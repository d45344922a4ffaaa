"""Errors that a client is told of, as JSON with one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sk_ulmfit._messages import short

_TEXT_OR_FIELDS = "must be a string, or a list of strings: the fields of one text"


class RequestError(Exception):
    """A request that gets no answer: its status, and a line for its sender."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


class JsonAnswer(Response):
    """A value as JSON in ASCII, so that lone surrogates of a text can be sent too."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the bytes of a value; floats keep all their digits."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def error_answer(error: RequestError) -> JsonAnswer:
    """Return what the sender of the request gets."""
    return JsonAnswer({"error": error.message}, status_code=error.status, headers=error.headers)


def busy(what: str) -> RequestError:
    """Return the error for a server that has too much to do."""
    return RequestError(503, f"The server is busy ({what}); try again in a second.", {"Retry-After": "1"})


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error with JSON of one line."""
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(HTTPException, _by_status)
    app.add_exception_handler(RequestValidationError, _invalid)


async def _refused(_request: Request, error: Any) -> JsonAnswer:
    return error_answer(error)


async def _by_status(request: Request, error: Any) -> JsonAnswer:
    path = short(request.url.path)
    messages = {
        400: "The body is not valid JSON.",
        404: f"There is nothing at {path}; /openapi.json lists the paths of this server.",
        405: f"{path} does not answer to {short(request.method)}; see /openapi.json.",
    }
    message = messages.get(error.status_code, f"{error.detail}.")
    return error_answer(RequestError(error.status_code, message, error.headers))


async def _invalid(_request: Request, error: Any) -> JsonAnswer:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return error_answer(RequestError(400, f"The body is not valid JSON: {first['ctx']['error']}."))
    return error_answer(RequestError(422, describe_invalid(first["loc"][1:], first["type"], first["msg"])))


def describe_invalid(place: tuple[Any, ...], kind: str, message: str) -> str:
    """Return a line on a value at a place in the body that is not what was expected."""
    keys = [key for key in place if isinstance(key, int) or "[" not in str(key)]
    if keys[:1] == ["texts"] and len(keys) > 1:
        return f"texts[{keys[1]}] {_TEXT_OR_FIELDS}."
    where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys if key != "str")[1:]
    if not where:
        return 'The body must be a JSON object, such as {"texts": ["Where is my parcel?"]}.'
    where = short(where)[1:-1]
    if kind == "missing":
        return f"{where} is missing."
    if kind == "extra_forbidden":
        return f"{where} is not a field of this request; see /openapi.json."
    if where == "text":
        return f"text {_TEXT_OR_FIELDS}."
    return f"{where}: {message}."
