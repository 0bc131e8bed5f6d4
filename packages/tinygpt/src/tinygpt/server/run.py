"""The HTTP server: uvicorn with h11, one process, one event loop."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tinygpt.capstone.capstone import TinyGPT
from tinygpt.server.answers import error_body, to_json
from tinygpt.server.api import Server, Settings
from tt_core.engine.errors import TinyTorchError

_HEAD_SECONDS = 15.0
"""The time in which the head of a request must arrive."""
_CONNECTIONS = 512


class Protocol(H11Protocol):
    """HTTP/1.1 by h11. Closes the connection if the head of a request is late or is not HTTP."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Read data, and wait for the rest of an incomplete head."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait_for_head()
        elif self._late is not None:
            self._late.cancel()
            self._late = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the wait for a head."""
        super().connection_lost(exc)
        if self._late is not None:
            self._late.cancel()

    def _wait_for_head(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(_HEAD_SECONDS, self._end_if_idle)

    def _end_if_idle(self) -> None:
        self._late = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Send an error in OpenAI's form, unless an answer has begun."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = to_json(error_body("this is not a valid HTTP request", code="bad_http"))
            headers = [("content-type", "application/json"), ("content-length", str(len(body))),
                       ("connection", "close")]  # fmt: skip
            for part in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(part) or b"")
        self.transport.close()


def listening(host: str, port: int) -> socket.socket:
    """A listening socket; raises `TinyTorchError` if the address cannot be used."""
    if not host.strip():
        raise TinyTorchError("--host is empty; 127.0.0.1 is for this machine alone, 0.0.0.0 for all its addresses")
    found = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        if socket.has_ipv6 and family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if os.name != "nt":  # there, it would let another program take the port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(2048)
    except (OSError, UnicodeError) as error:
        if found is not None:
            found.close()
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        advice = "choose another --host or --port"
        raise TinyTorchError(f"cannot listen on {host[:100]!r}, port {port}: {reason}; {advice}") from None
    return found


def address_of(listener: socket.socket) -> str:
    """The URL of the server, for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(
    gpt: TinyGPT, settings: Settings, listener: socket.socket, ready: Callable[[uvicorn.Server], None] | None = None
) -> None:
    """Answer requests until a signal arrives, or until the server that `ready` receives is told to exit."""
    config = uvicorn.Config(
        Server(gpt, settings).app, http=Protocol, ws="none", lifespan="on", log_level="error", access_log=False,
        server_header=False, date_header=True, timeout_keep_alive=30, timeout_graceful_shutdown=5,
        limit_concurrency=_CONNECTIONS, h11_max_incomplete_event_size=64 << 10, proxy_headers=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    if ready is not None:
        ready(server)
    server.run(sockets=[listener])
