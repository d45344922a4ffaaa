"""Who may ask: names of the host, origins of pages, and the token."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sk_ulmfit._messages import short
from sk_ulmfit.serving.errors import RequestError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
SHORTEST_TOKEN = 16  # characters
_UNREAD = {"GET", "HEAD"}  # methods whose answers a page of another origin cannot read
_NAME = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_OPEN = {"/", "/health", "/favicon.ico"}  # without a token; the files of the page too


def is_loopback(address: str) -> bool:
    """Tell whether an IP address can only be reached from the same machine."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def allowed_names(address: str, more: Iterable[str]) -> frozenset[str] | None:
    """Return the host names that requests to a bound address may have; None for any.

    On a loopback address only its own names and `more` are, so that no page in a browser can reach the server under a
    name of its own (DNS rebinding). On others any is, unless `more` names some.
    """
    named = frozenset(map(host_name, more))
    if is_loopback(address):
        return LOOPBACK_NAMES | named | {f"[{address}]" if ":" in address else address}
    return named or None


def host_name(name: Any) -> str:
    """Return a name as it is compared; raise ValueError for a URL, a name with a port, and what is no name at all."""
    plain = name.strip().lower().rstrip(".") if isinstance(name, str) else ""
    if not plain or _name_of(plain) != plain or not _NAME.fullmatch(plain):
        raise ValueError(
            f"A host must be a name without scheme, port or path, such as mail.example.org; got {short(name)}."
        )
    return plain


def check_token(token: str, source: str) -> str:
    """Return a token without white space around it; raise ValueError if it is short or cannot be in a header."""
    token = token.strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"The token in {source} must have at least {SHORTEST_TOKEN} letters, digits or signs, without blanks; "
            "make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token


@dataclass(frozen=True)
class Access:
    """Rules for all requests.

    Attributes
    ----------
    token : str or None
        The token that requests must bear.
    hosts : frozenset of str or None
        The host names that they may be sent to; None for any.
    """

    token: str | None = None
    hosts: frozenset[str] | None = None

    def refusal(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> RequestError | None:
        """Return why a request is refused, or None."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        is_probe = path == "/health" and method in _UNREAD  # which names the address, not the host
        if self.hosts is not None and _name_of(host) not in self.hosts and not is_probe:
            return RequestError(
                400, f"This server does not answer to the host {short(host)}; start it with --allow-host NAME."
            )
        if method not in _UNREAD and not self._knows_origin(headers.get(b"origin"), host):
            return RequestError(403, "Pages of other sites cannot use this server.")
        if not self._is_authorized(path, headers.get(b"authorization", b"")):
            return RequestError(
                401, "A token is needed: send the header Authorization: Bearer TOKEN.", {"WWW-Authenticate": "Bearer"}
            )
        return None

    def _knows_origin(self, origin: bytes | None, host: str) -> bool:
        """Tell whether a request comes from no page, from that of this server, or from one of a named host."""
        if origin is None:
            return True
        try:
            place = urlsplit(origin.decode("latin-1").lower()).netloc
        except ValueError:
            return False
        named = (self.hosts or frozenset()) - LOOPBACK_NAMES  # of which others may have a port on this machine
        return bool(place) and (place == host or _name_of(place) in named)

    def _is_authorized(self, path: str, authorization: bytes) -> bool:
        if self.token is None or path in _OPEN or path.startswith("/static/"):
            return True
        scheme, _, token = authorization.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self.token.encode())


def _name_of(host: str) -> str:
    """Return the name in a Host header, without the port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].rstrip(".")
