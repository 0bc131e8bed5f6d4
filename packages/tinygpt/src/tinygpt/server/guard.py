"""Access: the checks that every request passes before anything else handles it.

A web page on any site can make its visitors' browsers send requests to `localhost`, and by answering for its own name
with the address 127.0.0.1 (DNS rebinding) even read the answers. Such requests carry the site's name in `Host`, and
most of them in `Origin`; both must be names of this server. The key, where one is set, is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tinygpt.server.answers import error_body, to_json

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_OPEN = ("/", "/health", "/openapi.json", "/favicon.ico")
"""Paths that need no key, since they reveal nothing about users. Neither do the files below `/page/`."""


@dataclass(frozen=True)
class Policy:
    """Which requests are accepted.

    address: the address on which the server listens. names: more names that `Host` may have. origins: other sites whose
    pages may send requests, such as `https://example.org`. key: the key that `Authorization: Bearer` must give, if any.
    """

    address: str = "127.0.0.1"
    names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    key: str | None = field(default=None, repr=False)

    def knows(self, host: str) -> bool:
        """Whether a `Host` names this server.

        If it listens on all addresses, `Host` may be any address, but no other name: pages of other sites have names.

        >>> [Policy().knows(host) for host in ("localhost:8000", "[::1]", "localhost.", "evil.example", "10.0.0.1")]
        [True, True, True, False, False]
        """
        name = name_in(host)
        if name is None:
            return False
        if name in (*LOOPBACK, *(known.lower() for known in (self.address, *self.names))):
            return True
        return self.address in ("0.0.0.0", "::") and _is_address(name)


def name_in(host: str) -> str | None:
    """The name or address in a `Host`, without its port; None if it is not a host.

    >>> name_in("LocalHost:80"), name_in("[::1]:80"), name_in("a:b"), name_in("")
    ('localhost', '::1', None, None)
    """
    text = host.strip().lower()
    if text.startswith("["):
        name, closed, port = text[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            return None
        port = port[1:]
    else:
        name, _, port = text.partition(":")
    if not name or (port and not (port.isascii() and port.isdecimal())):
        return None
    return name[:-1] if name.endswith(".") else name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Passes the requests that the policy accepts to `app`, and answers the others with an error."""

    def __init__(self, app: App, policy: Policy) -> None:
        self.app, self.policy = app, policy
        self._key = None if policy.key is None else _digest(policy.key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        problem = self._problem(scope, headers)
        if problem is not None:
            await _refuse(send, *problem)
            return
        allowed = self._foreign_origin(headers)
        if allowed is None:
            await self.app(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await _answer(send, 204, b"", _cors(allowed))
        else:
            await self.app(scope, receive, _with_headers(send, _cors(allowed)))

    def _problem(self, scope: Scope, headers: list[tuple[bytes, bytes]]) -> tuple[int, str, str] | None:
        hosts = _values(headers, b"host")
        if len(hosts) != 1:
            return 400, f"expected one Host header, got {len(hosts)}", "bad_host"
        if not self.policy.knows(hosts[0]):
            return 403, "Host does not name this server; allow the name with --allow-host", "host_not_allowed"
        if _values(headers, b"content-length") and _values(headers, b"transfer-encoding"):
            return 400, "both Content-Length and Transfer-Encoding are given", "ambiguous_length"
        origins = _values(headers, b"origin")
        if len(origins) > 1 or any(not self._is_ours(origin, hosts[0]) for origin in origins):
            return (
                403,
                "requests from pages of other sites are refused; allow a site with --allow-origin",
                "origin_not_allowed",
            )
        open_to_all = scope["path"] in _OPEN or scope["path"].startswith("/page/") or scope["method"] == "OPTIONS"
        if self._key is not None and not open_to_all and not self._has_key(headers):
            return 401, "the API key is missing or wrong; send it as Authorization: Bearer KEY", "invalid_api_key"
        return None

    def _is_ours(self, origin: str, host: str) -> bool:
        if origin in self.policy.origins:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and parts.netloc.lower() == host.strip().lower()

    def _foreign_origin(self, headers: list[tuple[bytes, bytes]]) -> str | None:
        return next((origin for origin in _values(headers, b"origin") if origin in self.policy.origins), None)

    def _has_key(self, headers: list[tuple[bytes, bytes]]) -> bool:
        given = _values(headers, b"authorization")
        scheme, _, key = (given[0] if len(given) == 1 else "").partition(" ")
        same = hmac.compare_digest(_digest(key.strip()), self._key or b"")
        return same and scheme.lower() == "bearer"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]


def _cors(origin: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"access-control-allow-origin", origin.encode("latin-1", "replace")),
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", b"authorization, content-type"),
        (b"vary", b"Origin"),
    ]


def _with_headers(send: Send, more: list[tuple[bytes, bytes]]) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *more]
        await send(message)

    return sending


async def _refuse(send: Send, status: int, message: str, code: str) -> None:
    """Send an error and close the connection, so that nothing after it can be read as a request."""
    body = to_json(error_body(message, code=code))
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await _answer(send, status, body, headers)


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
