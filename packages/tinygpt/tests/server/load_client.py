"""A client of its own process, for tests of load: many requests at once, some malformed, some cut off.

    python load_client.py PORT COUNT CONCURRENCY     requests from a list; prints what became of them as JSON
    python load_client.py PORT speed STREAMS TOKENS  prints tokens a second

Standard library only. What is asked for is in `KINDS`, so the test knows the right answers.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

KINDS = [
    {"prompt": prompt, "max_tokens": length, "seed": seed, "temperature": 0.8}
    for seed, (prompt, length) in enumerate(
        [("a", 1), ("Hello", 8), ("x" * 40, 3), ("The quick brown fox jumps over the lazy dog", 5), ("é", 6)] * 4
    )
]
MALFORMED = [
    b"", b"{", b'{"prompt": 1}', b'{"prompt": "x", "n": 0}', b"\xff\xfe", b"[" * 5000, b'{"prompt": "x", "stop": [1]}',
    b'{"prompt": "x", "temperature": NaN}', b'{"messages": []}',
]  # fmt: skip


def request(body: bytes, close: str = "close") -> bytes:
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return head + b"connection: %s\r\ncontent-length: %d\r\n\r\n" % (close.encode(), len(body)) + body


async def exchange(port: int, data: bytes, cut_after: float | None = None) -> bytes | None:
    """What the server answers; None where this client goes before that, after so many seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        if cut_after is None:
            return await reader.read()
        await asyncio.sleep(cut_after)
        writer.transport.abort()  # RST
        return None
    finally:
        writer.close()


def text_of(answer: bytes) -> tuple[int, str]:
    """The status and the text of an answer, streamed or whole."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head[9:12])
    if status != 200:
        return status, ""
    if b"text/event-stream" not in head:
        return status, json.loads(body)["choices"][0]["text"]
    lines = [line for line in body.decode().split("\n") if line.startswith("data: ")]
    assert lines[-1].strip() == "data: [DONE]"
    return status, "".join(json.loads(line[6:])["choices"][0]["text"] for line in lines[:-1])


async def one(port: int, draw: random.Random, tally: dict[str, int], rights: list[str]) -> None:
    kind = draw.randrange(len(KINDS))
    body: dict[str, Any] = {**KINDS[kind], "stream": draw.random() < 0.5}
    lot = draw.random()
    if lot < 0.05:
        status, _ = text_of(await exchange(port, request(draw.choice(MALFORMED))) or b"")
        tally["refused" if status == 400 else "wrong status"] += 1
    elif lot < 0.10:
        sent = request(json.dumps({**body, "max_tokens": 500}).encode())
        sent = sent[: draw.randrange(1, len(sent))] if draw.random() < 0.3 else sent
        await exchange(port, sent, cut_after=draw.choice([0, 0, 0.01, 0.1]))
        tally["cut"] += 1
    else:
        status, text = text_of(await exchange(port, request(json.dumps(body).encode())) or b"HTTP/1.1 000")
        tally["right" if (status, text) == (200, rights[kind]) else f"wrong {status}"] += 1


async def load(port: int, count: int, concurrency: int, rights: list[str]) -> dict[str, Any]:
    from collections import Counter

    tally: Any = Counter()
    draw, left = random.Random(0), iter(range(count))

    async def worker() -> None:
        for _ in left:
            await one(port, draw, tally, rights)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return dict(tally)


async def speed(port: int, streams: int, tokens: int) -> dict[str, float]:
    """Tokens a second of so many streams at once, counted as they arrive."""
    bodies = [{"prompt": "x", "max_tokens": tokens, "seed": seed, "stream": True} for seed in range(streams)]
    start = time.perf_counter()
    answers = await asyncio.gather(*(exchange(port, request(json.dumps(body).encode())) for body in bodies))
    seconds = time.perf_counter() - start
    assert all(answer is not None and text_of(answer)[0] == 200 for answer in answers)
    return {"tokens_per_second": streams * tokens / seconds}


if __name__ == "__main__":
    port, what, *rest = sys.argv[1:]
    if what == "speed":
        found: Any = asyncio.run(speed(int(port), int(rest[0]), int(rest[1])))
    else:
        found = asyncio.run(load(int(port), int(what), int(rest[0]), json.loads(sys.stdin.read())))
    print(json.dumps(found))
