"""Who may ask, and what raw bytes do: Host and Origin, the key, bodies that lie about their length."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from tinygpt.server.guard import Policy, name_in

BODY = json.dumps({"prompt": "x", "max_tokens": 1}).encode()
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"


def head(*lines: str, first: str = "POST /v1/completions HTTP/1.1", host: str = "host: localhost") -> bytes:
    given = [first, host, *lines]
    return "\r\n".join([*filter(None, given), "", ""]).encode()


JSON = "content-type: application/json"


def statuses(answer: bytes) -> list[int]:
    """The statuses of all answers in the bytes of a connection."""
    return [int(part[1:4]) for part in answer.split(b"HTTP/1.1")[1:]]


@pytest.mark.parametrize("path", ["/", "/v1/models", "/page/page.js", "/metrics", "/health"])
@pytest.mark.parametrize(
    ("host", "fine"),
    [
        ("localhost", True), ("localhost:80", True), ("LOCALHOST", True), ("localhost.", True), ("127.0.0.1:1", True),
        ("[::1]", True), ("[::1]:8000", True),
        ("evil.example", False), ("localhost.evil.example", False), ("evil.example:8000", False), ("10.0.0.1", False),
        ("localhost:80:80", False), ("[::1", False), ("", False), ("localhost@evil", False), ("127.0.0.1.evil", False),
    ],
)  # fmt: skip
def test_host(serving: Any, path: str, host: str, fine: bool) -> None:
    """S6: a page that has its name resolve to this machine shows in Host alone."""
    status, found, _ = serving.ask(path, host=host)
    assert status == (200 if fine else 403)
    assert fine or found["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize("hosts", ["", "host: localhost\r\nhost: localhost", "host: localhost\r\nhost: evil"])
def test_no_host_and_two(serving: Any, hosts: str) -> None:
    answer = serving.raw(head("connection: close", first="GET / HTTP/1.1", host=hosts))
    assert statuses(answer) == [400]
    answer = serving.raw(head(first="GET / HTTP/1.0", host=""))
    assert statuses(answer) == [400]


@pytest.mark.parametrize(
    ("origin", "fine"),
    [
        ("http://localhost:{port}", True), ("https://localhost:{port}", True), ("http://evil.example", False),
        ("null", False), ("http://localhost", False), ("http://127.0.0.1:{port}", False), ("file://", False),
        ("http://localhost:{port}@evil.example", False), ("http://[", False),
    ],
)  # fmt: skip
def test_origin(serving: Any, origin: str, fine: bool) -> None:
    given = {"origin": origin.format(port=serving.port), "host": f"localhost:{serving.port}"}
    for path, body in (("/v1/completions", {"prompt": "x"}), ("/v1/models", None), ("/", None)):
        status, _, headers = serving.ask(path, body, **given)
        assert status == (200 if fine else 403)
        assert "access-control-allow-origin" not in headers
    assert serving.ask("/v1/completions", None, "OPTIONS", **given)[0] == (405 if fine else 403)


def test_allowed_hosts_and_origins(served: Any) -> None:
    page = "https://page.example"
    with served(policy=Policy(names=("tiny.example",), origins=(page,))) as serving:
        assert serving.ask("/v1/models", host="tiny.example:80")[0] == 200
        status, _, headers = serving.ask("/v1/completions", {"prompt": "x"}, origin=page)
        assert (status, headers["access-control-allow-origin"]) == (200, page)
        status, _, headers = serving.ask("/v1/completions", None, "OPTIONS", origin=page)
        assert status == 204
        assert "content-type" in headers["access-control-allow-headers"]
        assert serving.ask("/v1/models", origin="https://other.example")[0] == 403


def test_names_of_a_server_for_everyone() -> None:
    everyone = Policy("0.0.0.0", names=("me.example",))
    assert [everyone.knows(host) for host in ("10.0.0.1:80", "[fe80::1]", "me.example", "evil.example")] == [
        True, True, True, False,
    ]  # fmt: skip
    assert Policy("10.0.0.1").knows("10.0.0.1:80")
    assert not Policy("10.0.0.1").knows("10.0.0.2")
    assert name_in("[::1]x") is None


def test_the_key(served: Any) -> None:
    with served(policy=Policy(key="sesame")) as serving:
        for path in ("/v1/models", "/metrics"):
            for wrong in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic sesame"},
                          {"authorization": "Bearer sesame2"}, {"authorization": "sesame"},
                          {"authorization": "Bearer \xff"}):  # fmt: skip
                status, found, headers = serving.ask(path, **wrong)
                assert (status, found["error"]["code"]) == (401, "invalid_api_key")
                assert headers["www-authenticate"] == "Bearer"
            assert serving.ask(path, authorization="Bearer sesame")[0] == 200
            assert serving.ask(path, authorization="bearer  sesame")[0] == 200
        assert serving.ask("/v1/completions", {"prompt": "x"})[0] == 401
        assert serving.ask("/")[0] == serving.ask("/health")[0] == serving.ask("/page/page.js")[0] == 200
    assert "sesame" not in repr(Policy(key="sesame"))


# --- S7: raw bytes


def test_a_body_with_both_lengths_is_refused(serving: Any) -> None:
    for lengths in (
        ("content-length: 5", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "content-length: 5"),
    ):
        answer = serving.raw(head(JSON, *lengths) + b"0\r\n\r\n" + SMUGGLED)
        assert statuses(answer) == [400]
        assert b"connection: close" in answer


@pytest.mark.parametrize(
    "lines",
    [
        ("content-length: 5", "content-length: 6"), ("content-length: -1",), ("content-length: 0x5",),
        ("content-length: 5, 6",), ("transfer-encoding: gzip",), ("transfer-encoding: chunked, chunked",),
        ("transfer-encoding : chunked",), ("content-length: " + "9" * 30,),
    ],
    ids=str,
)  # fmt: skip
def test_lengths_that_are_none(serving: Any, lines: tuple[str, ...]) -> None:
    answer = serving.raw(head(JSON, *lines) + BODY + SMUGGLED, wait=1)
    assert statuses(answer) in ([400], [413], [501])


@pytest.mark.parametrize(
    "chunk", [b"zz\r\n", b"-5\r\n", b"5\r\nabcdeXX", b"5;" + b"x" * 70_000, b"10000000000000000000\r\nx"]
)
def test_bad_chunks(serving: Any, chunk: bytes) -> None:
    answer = serving.raw(head(JSON, "transfer-encoding: chunked") + chunk + b"\r\n0\r\n\r\n" + SMUGGLED, wait=1)
    assert statuses(answer) in ([400], [])  # never the answer to what follows
    assert serving.ask("/health")[0] == 200


def test_a_body_over_the_limit_ends_the_connection(served: Any) -> None:
    """What is behind the limit is not taken for a request, whether the length is told or not."""
    with served(body_bytes=1000) as serving:
        much = b"x" * 5000
        for lines, body in (
            ((f"content-length: {len(much + SMUGGLED)}",), much + SMUGGLED),
            (("transfer-encoding: chunked",), b"%x\r\n" % len(much) + much + b"\r\n0\r\n\r\n" + SMUGGLED),
            (("content-length: 1001",), b"x" * 1001 + SMUGGLED),
        ):
            answer = serving.raw(head(JSON, *lines) + body)
            assert statuses(answer) == [413]
            assert b"connection: close" in answer
        padded = BODY + b" " * (1000 - len(BODY))
        assert statuses(serving.raw(head(JSON, "content-length: 1000", "connection: close") + padded)) == [200]


def test_a_body_that_never_ends_is_given_up(served: Any) -> None:
    with served(body_seconds=0.5) as serving, socket.create_connection(("127.0.0.1", serving.port)) as connection:
        connection.settimeout(60)
        connection.sendall(head(JSON, "transfer-encoding: chunked"))
        for _ in range(20):
            try:
                connection.sendall(b"1\r\nx\r\n")
            except OSError:
                break
            time.sleep(0.1)
        found = b""
        try:
            while part := connection.recv(4096):
                found += part
        except ConnectionResetError:
            pass
        assert statuses(found) == [408]
        serving.settled()


def test_a_head_that_never_ends_is_given_up(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("uvicorn")
    monkeypatch.setattr("tinygpt.server.run._HEAD_SECONDS", 0.5)
    with served() as serving:
        for begun in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: localhost\r\n"):
            with socket.create_connection(("127.0.0.1", serving.port), timeout=60) as connection:
                connection.sendall(begun)
                assert connection.recv(100) == b""
        assert serving.ask("/health")[0] == 200


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
             b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 700_000, b"GET / HTTP/1.1\r\nhost: a\x00b\r\n\r\n"],
    ids=range(6),
)  # fmt: skip
def test_what_is_no_http(serving: Any, data: bytes) -> None:
    answer = serving.raw(data + b"\r\n\r\n", wait=1)
    assert statuses(answer) in ([400], [403])
    body = answer.partition(b"\r\n\r\n")[2]
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


def test_requests_behind_each_other_are_answered_in_order(serving: Any) -> None:
    one = head(JSON, f"content-length: {len(BODY)}") + BODY
    answer = serving.raw(one * 3 + head("connection: close", first="GET /health HTTP/1.1"))
    assert statuses(answer) == [200] * 4
    assert answer.endswith(b'{"status":"ok"}')
