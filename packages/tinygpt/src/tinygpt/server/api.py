"""The application: OpenAI's paths, `/health`, `/metrics`, and the page.

A request holds its slots from `submit` to the end of `_answered`, in one function: a client that vanishes before, in or
after its answer frees them there, whatever the answer was.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
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
from tinygpt.server.engine import Engine, Event, Failed, Job, Limits, Prompt, QueueFull
from tinygpt.server.guard import Guard, Policy, Receive, Scope, Send
from tinygpt.server.openapi import description
from tinygpt.server.requests import Request
from tinygpt.server.schema import BadRequest, check, parse

_INLINE = 16 << 10
"""Bodies of fewer bytes are checked at once; larger ones in a thread, beside which others are answered."""
_STATUS = {"timeout": 503, "stopped": 503, "failed": 500}


@dataclass(frozen=True)
class Settings:
    """What the application is told: its model's name, who may ask, and its limits. Bytes of a body, seconds to send it,
    and seconds that a client may take to read its answer."""

    name: str
    policy: Policy = field(default_factory=Policy)
    limits: Limits = field(default_factory=Limits)
    body_bytes: int = 1 << 20
    body_seconds: float = 30.0


class ClientGone(Exception):
    """The client vanished before its request was complete."""


class Events(asyncio.Queue[Event | None]):
    """The events of a request; None says that its client vanished."""

    async def some(self) -> list[Event | None]:
        """All that are there, at least one."""
        found = [await self.get()]
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                found.append(self.get_nowait())
        return found


class Server:
    """The application of one model. `app` is what an ASGI server runs."""

    def __init__(self, gpt: TinyGPT, settings: Settings) -> None:
        self.gpt, self.settings = gpt, settings
        self.engine = Engine(gpt.model, gpt.tokenizer, settings.limits)
        self.started = int(time.time())
        self.engine.metrics.gauges |= {
            "active_rows": ("Texts that are generated now.", lambda: self.engine.active),
            "waiting": ("Texts that wait for a row.", lambda: self.engine.waiting),
        }
        name = settings.name
        routes = [
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route("/v1/completions", Generating(self, requests.completion), methods=["POST"]),
            Route("/v1/chat/completions", Generating(self, requests.chat), methods=["POST"]),
            Route("/api/attention", self.attention, methods=["POST"]),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/openapi.json", lambda _: JSONResponse(description(name, settings.policy.key is not None))),
            *page.ROUTES,
        ]
        handlers = {HTTPException: _http_error, BadRequest: _bad_request, QueueFull: _busy, Exception: _bug}
        inner = Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)  # type: ignore[arg-type]
        inner.router.redirect_slashes = False
        self.app = Guard(inner, settings.policy)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        def deliver(events: list[tuple[Job, Event]]) -> None:
            loop.call_soon_threadsafe(_put, events)

        self.engine.deliver = deliver
        self.engine.start()
        try:
            yield
        finally:
            await run_in_threadpool(self.engine.close)

    # --- what is not generated

    async def models(self, _: HTTPRequest) -> Response:
        """The list of the one model."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: HTTPRequest) -> Response:
        """The model by its name."""
        if request.path_params["name"] != self.settings.name:
            message = f"no such model is served here; it is {self.settings.name!r}"
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
        """Whether requests are answered."""
        alive = self.engine.alive
        return JSONResponse({"status": "ok" if alive else "stopped"}, 200 if alive else 503)

    async def metrics(self, _: HTTPRequest) -> Response:
        """All figures for Prometheus."""
        return Response(self.engine.metrics.text(), media_type="text/plain; version=0.0.4")

    async def attention(self, request: HTTPRequest) -> Response:
        """What each token of a text attends to."""
        body = await self.read(request.scope, request.receive)
        check(body, ATTENTION)
        future = self.engine.run(lambda: attention_of(self.gpt, body["text"], int(body.get("layer") or 0)))
        return JSONResponse(await asyncio.wrap_future(future))

    async def read(self, scope: Scope, receive: Receive) -> Any:
        """The JSON body of a request; raises `BadRequest`, or `ClientGone`.

        What counts is the bytes that arrive, and not the length that the client promised.
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
    """A path that generates: an ASGI application, so that nothing lies between its slots and its answer."""

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
            with anyio.move_on_after(self.server.settings.limits.seconds + 60):  # for a client that stops reading
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
    """Wait until the client vanishes."""
    while (await receive())["type"] != "http.disconnect":
        pass
    events.put_nowait(None)


def _put(events: list[tuple[Job, Event]]) -> None:
    for job, one in events:
        job.events.put_nowait(one)


class Whole:
    """An answer that is sent when it is complete."""

    def __init__(self, request: Request, writer: Writer, send: Send) -> None:
        self.request, self.writer, self.send = request, writer, send
        self.texts: dict[int, str] = {}
        self.tokens: dict[int, list[Token]] = {}
        self.ends: dict[int, Ended] = {}

    async def send_all(self, events: Events) -> str:
        """Collect all events and answer; gives the outcome."""
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
        """Of each prompt's `best_of` answers, the `n` with the largest mean log probability of a token."""
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
    """An answer that is sent as it comes. It begins with the first event, so a failure before that has a status."""

    def __init__(self, request: Request, writer: Writer, send: Send) -> None:
        self.request, self.writer, self.send = request, writer, send
        self.offsets: dict[int, int] = {}

    async def send_all(self, events: Events) -> str:
        """Send all events as they come; gives the outcome."""
        left, generated, begun = len(self.request.prompts) * self.request.n, 0, False
        while left:
            found = await events.some()
            if None in found:
                return "vanished"
            if not begun and isinstance(found[0], Failed):
                await _send_failure(self.send, found[0])
                return found[0].kind
            frames = []
            for one in found:
                if isinstance(one, Failed):
                    frames.append(event(_failure(one)))
                    await self._part(b"".join([*frames, DONE]), begun, last=True)
                    return one.kind
                frames += self._frames(one)
                if isinstance(one, Ended):
                    left, generated = left - 1, generated + one.generated
            if not left and self.request.include_usage:
                frames.append(self.writer.usage(generated))
            await self._part(b"".join(frames) + DONE * (not left), begun, last=not left)
            begun = True
        return "answered"

    def _frames(self, one: Event | None) -> list[bytes]:
        if one is None or isinstance(one, Failed):
            return []
        frames = [] if one.index in self.offsets else self._first(one)
        offset = self.offsets[one.index]
        if isinstance(one, Piece):
            frames.append(self.writer.chunk(one.index, one.text, one.tokens, offset))
        if isinstance(one, Ended):
            frames.append(self.writer.ending(one.index, one.reason))
        return frames

    def _first(self, one: Piece | Prompt | Ended) -> list[bytes]:
        """What an answer begins with: its role, or the prompt."""
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
    """The prompt of an answer, as its tokens spell it."""
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
    """An error of the request; one that leaves a part of the body unread ends the connection."""
    headers = {"connection": "close"} if error.status in (408, 413, 415) else None
    body = error_body(error.message, "invalid_request_error", error.param, error.code)
    return Response(to_json(body), error.status, headers, "application/json")


async def _busy(_: HTTPRequest, error: QueueFull) -> Response:
    body = error_body(str(error), "rate_limit_error", None, "rate_limit_exceeded")
    return Response(to_json(body), 429, {"retry-after": str(error.seconds)}, "application/json")


async def _http_error(_: HTTPRequest, error: HTTPException) -> Response:
    message = {404: "there is no such path; /openapi.json lists all", 405: "this path does not take this method"}
    body = error_body(message.get(error.status_code, error.detail))
    return Response(to_json(body), error.status_code, error.headers, "application/json")


async def _bug(_: HTTPRequest, error: Exception) -> Response:
    body = error_body("the server failed; its log says why", "server_error", None, "failed")
    return Response(to_json(body), 500, None, "application/json")
