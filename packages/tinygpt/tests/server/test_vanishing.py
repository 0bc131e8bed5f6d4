"""S3, S4: clients that vanish free what they held, and a failure in the middle of a stream is told."""

from __future__ import annotations

import gc
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import tt_core
from tinygpt.capstone import TinyGPT
from tinygpt.server.engine import Job
from tt_language import GPT, ByteTokenizer

SHORT: dict[str, Any] = {"prompt": "x", "max_tokens": 3, "logit_bias": {"66": -100}}
LONG = {**SHORT, "max_tokens": 4096}


class Slow(GPT):
    """Takes a millisecond a call, and raises when it reads a certain token."""

    def forward(self, ids: Any, **options: Any) -> Any:
        time.sleep(0.001)
        if (ids.data == 66).any():
            raise RuntimeError("kaput")
        return super().forward(ids, **options)


@pytest.fixture(scope="module")
def slow(served: Any, tiny_model: Any) -> Iterator[Any]:
    tt_core.manual_seed(0)
    with served(TinyGPT(Slow(tiny_model().config).eval(), ByteTokenizer())) as serving:
        yield serving


def request(body: dict[str, Any]) -> bytes:
    sent = json.dumps(body).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(sent) + sent


def reset(connection: socket.socket) -> None:
    """Close with RST, as a process that is killed does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("stream", [True, False])
def test_two_hundred_resets_before_the_first_byte_leave_no_slot(slow: Any, stream: bool) -> None:
    slow.good("/v1/completions", **SHORT)  # threads and buffers are there
    threads = threading.active_count()
    for _ in range(200):
        connection = socket.create_connection(("127.0.0.1", slow.port))
        connection.sendall(request({**LONG, "stream": stream}))
        reset(connection)
    slow.settled()
    slow.good("/v1/completions", **SHORT)
    slow.settled()
    assert threading.active_count() <= threads + 1
    assert len(slow.engine._cache.tokens) == 0
    end = time.monotonic() + 60
    while jobs() > 2:  # the tasks that answer them end after the rows are free
        assert time.monotonic() < end, jobs()
        time.sleep(0.01)


def jobs() -> int:
    """Requests that are still in memory."""
    gc.collect()
    return sum(type(one) is Job for one in gc.get_objects())  # isinstance asks weak proxies, which may be dead


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_client_that_vanishes_in_the_middle(slow: Any, stream: bool, how: str) -> None:
    connections = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", slow.port))
        connection.sendall(request({**LONG, "stream": stream, "n": 2}))
        connections.append(connection)
    end = time.monotonic() + 120
    while slow.engine.active < 16:
        assert time.monotonic() < end
        time.sleep(0.01)
    if stream:
        assert connections[0].recv(100).startswith(b"HTTP/1.1 200")
    before = slow.engine.metrics.generated_tokens
    for connection in connections:
        reset(connection) if how == "reset" else connection.close()
    slow.settled()
    assert slow.engine.metrics.generated_tokens - before < 20 * 2 * 4096 // 2  # all of them would be twice as many
    assert 'outcome="vanished"' in slow.ask("/metrics")[1]


def test_a_client_that_half_closes_after_its_request_vanishes_or_is_answered(slow: Any) -> None:
    connection = socket.create_connection(("127.0.0.1", slow.port), timeout=120)
    connection.sendall(request(SHORT))
    connection.shutdown(socket.SHUT_WR)
    connection.recv(4096)
    connection.close()
    slow.settled()


def test_a_client_that_does_not_read_is_given_up(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer does not fit into the buffers of the connection; its slot is free when the text is complete."""
    with served() as serving:
        connection = socket.create_connection(("127.0.0.1", serving.port))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.sendall(request({**LONG, "stream": True, "logprobs": 20, "max_tokens": 1500}))
        serving.settled()
        connection.close()
        serving.good("/v1/completions", **SHORT)


def test_a_failure_in_the_middle_ends_with_an_error_and_done(slow: Any) -> None:
    body = {"prompt": "x", "temperature": 0, "max_tokens": 30, "logit_bias": {"65": 100}}
    drawn = {**body, "logit_bias": {"65": 99, "66": 95}, "temperature": 2, "seed": 5}  # sooner or later, 66
    assert slow.good("/v1/completions", **body)["choices"][0]["text"] == "A" * 30
    events = slow.events("/v1/completions", **drawn)
    assert events[-1]["error"]["type"] == "server_error"
    assert "kaput" in events[-1]["error"]["message"]
    assert len(events) > 2
    assert all("choices" in event for event in events[:-1])
    status, found, _ = slow.ask("/v1/completions", drawn)
    assert (status, found["error"]["type"]) == (500, "server_error")
    status, found, _ = slow.ask("/v1/completions", {"prompt": "B!", "stream": True})  # before the first byte
    assert (status, found["error"]["type"]) == (500, "server_error")
    slow.settled()
    assert slow.good("/v1/completions", **body)["choices"][0]["text"] == "A" * 30


def test_the_queue_has_an_end(served: Any, tiny_model: Any) -> None:
    from tinygpt.server.engine import Limits

    tt_core.manual_seed(0)
    gpt = TinyGPT(Slow(tiny_model().config).eval(), ByteTokenizer())
    with served(gpt, limits=Limits(rows=1, waiting=2, seconds=600)) as serving:
        connections = []
        for _ in range(3):
            connections.append(socket.create_connection(("127.0.0.1", serving.port)))
            connections[-1].sendall(request(LONG))
            end = time.monotonic() + 120
            while serving.engine.active + serving.engine.waiting < len(connections):
                assert time.monotonic() < end
                time.sleep(0.01)
        status, found, headers = serving.ask("/v1/completions", LONG)
        assert (status, found["error"]["code"]) == (429, "rate_limit_exceeded")
        assert 1 <= int(headers["retry-after"]) <= 60
        for job, _ in (*serving.engine._rows, *serving.engine._waiting):  # all are out of time
            job.deadline = job.started
        for connection in connections:
            assert connection.recv(1000).startswith(b"HTTP/1.1 503")
            connection.close()
        assert serving.good("/v1/completions", **SHORT)


def test_ending_the_server_ends_what_it_does(served: Any, tiny_model: Any) -> None:
    gpt = TinyGPT(Slow(tiny_model().config).eval(), ByteTokenizer())
    with served(gpt) as serving:
        connection = socket.create_connection(("127.0.0.1", serving.port), timeout=120)
        connection.sendall(request({**LONG, "stream": True}))
        assert connection.recv(100)
    found = b""
    while part := connection.recv(1 << 16):
        found += part
    connection.close()
    assert found.count(b"data: ") < 4096
