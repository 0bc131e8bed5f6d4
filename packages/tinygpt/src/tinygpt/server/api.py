"""The application: OpenAI's paths, `/health`, `/metrics`, and the page.

A request takes its slots and gives them back in one function, `Generating._answered`. So the slots are free again
whether the client disconnects before, during or after its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tinygpt.capstone.capstone import TinyGPT
from tinygpt.server import page, requests
from tinygpt.server.answers import DONE, Writer, error_body, event, to_json
from tinygpt.server.attention import ATTENTION, attention_of
from tinygpt.server.continuation import Ended, Piece, Token, prompt_tokens
from tinygpt.server.engine import Engine, Event, Failed, Job, Limits, Prompt, QueueFull, put_events
from tinygpt.server.guard import Guard, Policy, Receive, Scope, Send
from tinygpt.server.openapi import description
from tinygpt.server.requests import Request
from tinygpt.server.schema import BadRequest, check, parse

_INLINE = 16 << 10
"""Smaller bodies are checked at once. Larger ones are checked in a thread, so that other requests do not wait."""
_STATUS = {"timeout": 503, "stopped": 503, "failed": 500}


@dataclass(frozen=True)
class Settings:
    """The settings of the application: the model's name, who may send requests, and limits.

    `body_bytes` is the largest body, `body_seconds` the time in which it must arrive.
    """

    name: str
    policy: Policy = field(default_factory=Policy)
    limits: Limits = field(default_factory=Limits)
    body_bytes: int = 1 << 20
    body_seconds: float = 30.0


class ClientGone(Exception):
    """The client disconnected before its request was complete."""


class Events(asyncio.Queue[Event | None]):
    """The events of a request; None means that its client disconnected."""

    async def some(self) -> list[Event | None]:
        """Wait for an event; returns it with all others that are queued."""
        found = [await self.get()]
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                found.append(self.get_nowait())
        return found


class Server:
    """Serves one model; `app` is the ASGI application."""

    def __init__(self, gpt: TinyGPT, settings: Settings) -> None:
        self.gpt, self.settings = gpt, settings
        self.engine = Engine(gpt.model, gpt.tokenizer, settings.limits)
        self.started = int(time.time())
        self.engine.metrics.gauges |= {
            "active_rows": ("Texts that are generated now.", lambda: self.engine.active),
            "waiting": ("Texts that wait for a row.", lambda: self.engine.waiting),
        }
        handlers = {HTTPException: _http_error, BadRequest: _bad_request, QueueFull: _busy, Exception: _bug}
        inner = Starlette(routes=self._routes(), exception_handlers=handlers, lifespan=self._lifespan)  # type: ignore[arg-type]
        inner.router.redirect_slashes = False
        self.app = Guard(inner, settings.policy)

    def _routes(self) -> list[Route]:
        described = description(self.settings.name, self.settings.policy.key is not None)
        return [
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route("/v1/completions", Generating(self, requests.completion), methods=["POST"]),
            Route("/v1/chat/completions", Generating(self, requests.chat), methods=["POST"]),
            Route("/api/attention", self.attention, methods=["POST"]),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/openapi.json", lambda _: JSONResponse(described)),
            *page.ROUTES,
        ]

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        def deliver(events: list[tuple[Job, Event]]) -> None:
            loop.call_soon_threadsafe(put_events, events)

        self.engine.deliver = deliver
        self.engine.start()
        try:
            yield
        finally:
            await run_in_threadpool(self.engine.close)

    # --- everything but generation

    async def models(self, _: HTTPRequest) -> Response:
        """List the served model."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: HTTPRequest) -> Response:
        """Describe the model of this name; 404 for another."""
        if request.path_params["name"] != self.settings.name:
            message = f"there is no such model; this server has {self.settings.name!r}"
            raise BadRequest(message, "model", "model_not_found", 404)
        return JSONResponse(self._model())

    def _model(self) -> dict[str, Any]:
        config = self.gpt.model.config
        return {
            "id": self.settings.name, "object": "model", "created": self.started, "owned_by": "tinygpt",
            "context_length": config.block_size, "vocab_size": config.vocab_size,
            "layers": config.n_layer, "heads": config.n_head,
        }  # fmt: skip

    async def health(self, _: HTTPRequest) -> Response:
        """Say whether the engine is running."""
        alive = self.engine.alive
        return JSONResponse({"status": "ok" if alive else "stopped"}, 200 if alive else 503)

    async def metrics(self, _: HTTPRequest) -> Response:
        """All metrics, in the text format of Prometheus."""
        return Response(self.engine.metrics.text(), media_type="text/plain; version=0.0.4")

    async def attention(self, request: HTTPRequest) -> Response:
        """The attention weights of a text."""
        body = await self.read(request.scope, request.receive)
        check(body, ATTENTION)
        future = self.engine.run(lambda: attention_of(self.gpt, body["text"], int(body.get("layer") or 0)))
        return JSONResponse(await asyncio.wrap_future(future))

    async def read(self, scope: Scope, receive: Receive) -> Any:
        """The JSON body of a request; raises `BadRequest`, or `ClientGone`.

        The limit is on the bytes that arrive, whatever length the header promises.
        """
        kinds = [value for name, value in scope["headers"] if name == b"content-type"]
        if len(kinds) != 1 or kinds[0].split(b";")[0].strip().lower() != b"application/json":
            raise BadRequest("the body must be JSON, with Content-Type: application/json", None, None, 415)
        body = bytearray()
        try:
            with anyio.fail_after(self.settings.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    body += message.get("body", b"")
                    if len(body) > self.settings.body_bytes:
                        raise BadRequest(f"the body has more than {self.settings.body_bytes:,} bytes", None, None, 413)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise BadRequest(f"the body took more than {self.settings.body_seconds:g} s", None, None, 408) from None
        return parse(bytes(body)) if len(body) < _INLINE else await run_in_threadpool(parse, bytes(body))


class Generating:
    """An endpoint that generates; a plain ASGI application, so no framework code runs while it holds slots."""

    def __init__(self, server: Server, read: Callable[[Any, TinyGPT, str], Request]) -> None:
        self.server, self._read = server, read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await self.server.read(scope, receive)
        except ClientGone:
            self._finished("vanished")
            return
        except BadRequest:
            self._finished("refused")
            raise
        try:
            if len(to_json(body)) < _INLINE:
                request = self._read(body, self.server.gpt, self.server.settings.name)
            else:
                request = await run_in_threadpool(self._read, body, self.server.gpt, self.server.settings.name)
        except BadRequest:
            self._finished("refused")
            raise
        await self._answered(request, receive, send)

    async def _answered(self, request: Request, receive: Receive, send: Send) -> None:
        engine, events = self.server.engine, Events()
        try:
            job = engine.submit(request.prompts, request.options, events, request.best_of)
        except QueueFull:
            self._finished("busy")
            raise
        watch = asyncio.create_task(_watch(receive, events))
        outcome = "vanished"
        try:
            with anyio.move_on_after(self.server.settings.limits.seconds + 60):  # for a client that no longer reads
                writer = Writer(request, self.server.settings.name, self.server.gpt.tokenizer)
                answer = Streamed(request, writer, send) if request.stream else Whole(request, writer, send)
                outcome = await answer.send_all(events)
        finally:
            engine.cancel(job)
            watch.cancel()
            self._finished(outcome)

    def _finished(self, outcome: str) -> None:
        self.server.engine.metrics.finished(outcome)


async def _watch(receive: Receive, events: Events) -> None:
    """Wait for the client to disconnect, and queue None then."""
    while (await receive())["type"] != "http.disconnect":
        pass
    events.put_nowait(None)


class Whole:
    """An answer that is sent as a whole."""

    def __init__(self, request: Request, writer: Writer, send: Send) -> None:
        self.request, self.writer, self.send = request, writer, send
        self.texts: dict[int, str] = {}
        self.tokens: dict[int, list[Token]] = {}
        self.ends: dict[int, Ended] = {}

    async def send_all(self, events: Events) -> str:
        """Collect all events and answer; returns the outcome."""
        count = len(self.request.prompts) * self.request.best_of
        while len(self.ends) < count:
            for one in await events.some():
                if one is None:
                    return "vanished"
                if isinstance(one, Failed):
                    await _send_failure(self.send, one)
                    return one.kind
                self._take(one)
        await _send_json(self.send, 200, self._body())
        return "answered"

    def _take(self, one: Event) -> None:
        if isinstance(one, Piece):
            self.texts[one.index] = self.texts.get(one.index, "") + one.text
        if isinstance(one, (Piece, Prompt)):
            self.tokens.setdefault(one.index, []).extend(one.tokens)
        if isinstance(one, Ended):
            self.ends[one.index] = one

    def _body(self) -> bytes:
        answers = [self._answer(index) for index in self._chosen()]
        return self.writer.whole(answers, sum(end.generated for end in self.ends.values()))

    def _chosen(self) -> list[int]:
        """For each prompt, the `n` of `best_of` answers with the largest mean log probability per token."""
        n, best_of = self.request.n, self.request.best_of
        if best_of == n:
            return sorted(self.ends)

        def mean(index: int) -> float:
            return self.ends[index].logprob / max(1, self.ends[index].generated)

        groups = [range(i * best_of, (i + 1) * best_of) for i in range(len(self.request.prompts))]
        return [index for group in groups for index in sorted(group, key=mean, reverse=True)[:n]]

    def _answer(self, index: int) -> tuple[str, list[Token], str]:
        tokens, text = self.tokens.get(index, []), self.texts.get(index, "")
        if self.request.echo:
            echoed = _echoed(self.request, self.writer, index)
            told = self.request.options.prompt_logprobs
            for token in tokens[len(self.request.prompts[index // self.request.best_of]) if told else 0 :]:
                token.start += len(echoed)
            text = echoed + text
        return text, tokens, self.ends[index].reason


class Streamed:
    """An answer that is sent while it is generated.

    The response begins with the first event, so a failure before that still has an HTTP status.
    """

    def __init__(self, request: Request, writer: Writer, send: Send) -> None:
        self.request, self.writer, self.send = request, writer, send
        self.offsets: dict[int, int] = {}
        self.left, self.generated = len(request.prompts) * request.n, 0

    async def send_all(self, events: Events) -> str:
        """Send all events as they come; returns the outcome."""
        begun, failed = False, None
        while self.left and failed is None:
            found = await events.some()
            if None in found:
                return "vanished"
            if not begun and isinstance(found[0], Failed):
                await _send_failure(self.send, found[0])
                return found[0].kind
            failed = next((one for one in found if isinstance(one, Failed)), None)
            last = failed is not None or self._count(found)
            frames = [frame for one in found for frame in self._frames(one)]
            if last and failed is None and self.request.include_usage:
                frames.append(self.writer.usage(self.generated))
            await self._part(b"".join(frames) + DONE * last, begun, last)
            begun = True
        return "answered" if failed is None else failed.kind

    def _count(self, events: Sequence[Event | None]) -> bool:
        """Count the answers that have ended; whether all have."""
        ends = [one for one in events if isinstance(one, Ended)]
        self.left -= len(ends)
        self.generated += sum(one.generated for one in ends)
        return not self.left

    def _frames(self, one: Event | None) -> list[bytes]:
        if one is None:
            return []
        if isinstance(one, Failed):  # the last event of its request
            return [event(_failure(one))]
        frames = [] if one.index in self.offsets else self._first(one)
        offset = self.offsets[one.index]
        if isinstance(one, Piece):
            frames.append(self.writer.chunk(one.index, one.text, one.tokens, offset))
        if isinstance(one, Ended):
            frames.append(self.writer.ending(one.index, one.reason))
        return frames

    def _first(self, one: Piece | Prompt | Ended) -> list[bytes]:
        """The first chunks of an answer: the role, or the echoed prompt."""
        self.offsets[one.index] = 0
        if self.request.chat:
            return [self.writer.opening(one.index)]
        if not self.request.echo:
            return []
        text = _echoed(self.request, self.writer, one.index)
        self.offsets[one.index] = len(text)
        return [self.writer.chunk(one.index, text, one.tokens if isinstance(one, Prompt) else [])]

    async def _part(self, body: bytes, begun: bool, last: bool) -> None:
        if not begun:
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store"),
                       (b"x-accel-buffering", b"no")]  # fmt: skip
            await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": not last})


def _echoed(request: Request, writer: Writer, index: int) -> str:
    """The prompt of an answer, as the text of its tokens."""
    prompt = request.prompts[index // request.best_of]
    return "".join(token.text for token in prompt_tokens(prompt, [], writer.tokenizer))


# --- errors


def _failure(failed: Failed) -> dict[str, Any]:
    return error_body(failed.message, "server_error", None, failed.kind)


async def _send_failure(send: Send, failed: Failed) -> None:
    more = [(b"retry-after", b"1")] if failed.kind != "failed" else []
    await _send_json(send, _STATUS[failed.kind], to_json(_failure(failed)), more)


async def _send_json(send: Send, status: int, body: bytes, more: list[tuple[bytes, bytes]] | None = None) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _bad_request(_: HTTPRequest, error: BadRequest) -> Response:
    """The response to a bad request. If a part of the body is unread, it closes the connection."""
    headers = {"connection": "close"} if error.status in (408, 413, 415) else None
    body = error_body(error.message, "invalid_request_error", error.param, error.code)
    return Response(to_json(body), error.status, headers, "application/json")


async def _busy(_: HTTPRequest, error: QueueFull) -> Response:
    body = error_body(str(error), "rate_limit_error", None, "rate_limit_exceeded")
    return Response(to_json(body), 429, {"retry-after": str(error.seconds)}, "application/json")


async def _http_error(_: HTTPRequest, error: HTTPException) -> Response:
    message = {
        404: "there is no such path; /openapi.json lists all paths",
        405: "this path does not accept this method",
    }
    body = error_body(message.get(error.status_code, error.detail))
    return Response(to_json(body), error.status_code, error.headers, "application/json")


async def _bug(_: HTTPRequest, error: Exception) -> Response:
    body = error_body("the server failed; see its log", "server_error", None, "failed")
    return Response(to_json(body), 500, None, "application/json")
