"""The files of the page, read once, so that no path of a request ever names a file."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import NamedTuple

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class PageFile(NamedTuple):
    """A file of the page."""

    content: bytes
    content_type: str
    etag: str


def page_files() -> dict[str, PageFile]:
    """Return the files of the page by name."""
    found = {}
    for entry in files("sk_ulmfit.serving").joinpath("page").iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in _TYPES:
            content = entry.read_bytes()
            found[entry.name] = PageFile(content, _TYPES[suffix], f'"{hashlib.sha256(content).hexdigest()[:20]}"')
    return found
