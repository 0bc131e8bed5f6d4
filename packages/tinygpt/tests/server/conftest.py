"""A server in a thread of this process, over a tiny model with random weights, and ways to ask it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import tt_core
from tinygpt.capstone import TinyGPT
from tt_language import GPT, ByteTokenizer, GPTConfig


class Serving:
    """A running server: its application, and requests to it."""

    def __init__(self, app: Any, port: int) -> None:
        self.app, self.port = app, port

    @property
    def engine(self) -> Any:
        return self.app.engine

    def ask(
        self, path: str, body: Any = None, method: str | None = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """(status, JSON or text, headers) of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if content is not None:
            given = {"content-type": "application/json", **given}
        try:
            connection.request(method or ("GET" if content is None else "POST"), path, content, given)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8")
            found = {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()
        is_json = found.get("content-type", "").startswith("application/json")
        return answer.status, json.loads(text) if is_json else text, found

    def good(self, path: str, **body: Any) -> Any:
        status, found, _ = self.ask(path, body)
        assert status == 200, found
        return found

    def events(self, path: str, **body: Any) -> list[Any]:
        """The events of a stream, which must end with [DONE]."""
        text = self.good(path, stream=True, **body)
        parts = text.split("\n\n")
        assert parts[-2:] == ["data: [DONE]", ""]
        assert all(part.startswith("data: ") for part in parts[:-1])
        return [json.loads(part[6:]) for part in parts[:-2]]

    def raw(self, data: bytes, wait: float = 60.0) -> bytes:
        """All bytes that the server answers to these until it closes the connection, or is silent for `wait`."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as connection:
            connection.sendall(data)
            found = b""
            while True:
                try:
                    part = connection.recv(1 << 16)
                except (TimeoutError, ConnectionResetError):
                    return found
                if not part:
                    return found
                found += part

    def settled(self) -> None:
        """Wait until no row is taken."""
        end = time.monotonic() + 120
        while self.engine.active or self.engine.waiting:
            assert time.monotonic() < end, "rows are still taken"
            time.sleep(0.005)


def model(**changes: Any) -> GPT:
    tt_core.manual_seed(0)
    sizes = {"vocab_size": 256, "block_size": 128, "n_layer": 2, "n_head": 2, "n_embd": 16, **changes}
    return GPT(GPTConfig(**sizes)).eval()


@contextmanager
def running(gpt: TinyGPT | None = None, **settings: Any) -> Iterator[Serving]:
    """A server while the block runs."""
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    from tinygpt.server import run
    from tinygpt.server.api import Server, Settings

    made: list[Any] = []

    class Kept(Server):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    gpt = gpt or TinyGPT(model(), ByteTokenizer())
    listener = run.listening("127.0.0.1", 0)
    servers: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "Server", Kept)
        given = (gpt, Settings(**{"name": "tiny", **settings}), listener, servers.append)
        thread = threading.Thread(target=run.serve, args=given)
        thread.start()
        end = time.monotonic() + 120
        while not (servers and servers[0].started):
            assert thread.is_alive()
            assert time.monotonic() < end
            time.sleep(0.01)
    try:
        yield Serving(made[0], listener.getsockname()[1])
    finally:
        servers[0].should_exit = True
        thread.join(120)
        listener.close()
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    with running() as found:
        yield found


@pytest.fixture(scope="session")
def served() -> Any:
    """`running`, for tests that need a server of their own."""
    return running


@pytest.fixture(scope="session")
def tiny_model() -> Any:
    return model
