"""Continuous batching: one thread, one model, and requests of any length that advance one token a step together.

    submit -> waiting -> a row of the cache: reading its prompt -> one token a step -> ended, and the row is free

Each turn of the loop admits waiting continuations while rows are free, lets those with a long prompt read a part of it,
and lets all others advance by one token in a single call of the model. So a long prompt delays the others by one part
at a time. A request that is cancelled, or exceeds its time, leaves its rows in the next turn.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tinygpt.server.continuation import Continuation, Ended, Options, Piece, Token, log_softmax, prompt_tokens, report
from tinygpt.server.metrics import Metrics
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import TinyTorchError
from tt_language import GPT, Tokenizer
from tt_language.transformers.prompts import allowed_ids
from tt_language.transformers.window import window_start
from tt_perf.memoization import RowCache
from tt_perf.memoization.prefixes import PrefixStore, common_length

_REUSED = 32
"""Prompts of fewer tokens are not kept: reading them takes as long as finding them."""
_CHUNK = 256
"""Tokens of a prompt that are read in one turn; other texts wait that long for their next token."""


@dataclass(frozen=True)
class Limits:
    """Limits of the engine.

    rows: continuations that are generated together. waiting: continuations that may wait for a row. seconds: the
    longest time for a request. reuse: megabytes of prompts that are kept for later requests with the same beginning.
    """

    rows: int = 16
    waiting: int = 256
    seconds: float = 600.0
    reuse: int = 256


@dataclass
class Prompt:
    """The tokens of a prompt, sent before the first generated token if `prompt_logprobs` asks for them."""

    index: int
    tokens: list[Token]


@dataclass
class Failed:
    """The last event of a request that failed; `kind` is "timeout", "stopped" or "failed"."""

    kind: str
    message: str


Event = Piece | Ended | Prompt | Failed


class QueueFull(Exception):
    """The queue is full; a client may try again after `seconds`."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the server is busy; try again in {seconds} s")
        self.seconds = seconds


class Sink(Protocol):
    """Receives the events of a request, as a queue does."""

    def put_nowait(self, event: Event, /) -> Any:
        """Add an event."""


class Job:
    """A request with its continuations. It holds its slots until it ends or is cancelled."""

    def __init__(self, continuations: list[Continuation], events: Sink, seconds: float) -> None:
        self.events = events
        self.started = time.monotonic()
        self.deadline = self.started + seconds
        self.unfinished = len(continuations)
        self.continuations = continuations
        self.cancelled = False
        self.first_token = False

    @property
    def over(self) -> bool:
        """Whether nothing is left to compute for it."""
        return self.cancelled or not self.unfinished


class Engine:
    """Serves requests with one model, in a thread of its own. `deliver` passes the events of a turn to their sinks.

    >>> import queue
    >>> from tt_language import ByteTokenizer, GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=256, block_size=16, n_layer=1, n_head=2, n_embd=16))
    >>> events = queue.SimpleQueue()
    >>> with Engine(model, ByteTokenizer()) as engine:
    ...     job = engine.submit([list(b"Hi")], Options(max_tokens=3, ignore_eos=True), events)
    ...     while not isinstance(event := events.get(), Ended):
    ...         pass
    >>> event.reason, event.generated
    ('length', 3)
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        limits: Limits | None = None,
        metrics: Metrics | None = None,
        deliver: Callable[[list[tuple[Job, Event]]], None] | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.limits, self.metrics = limits or Limits(), metrics or Metrics()
        self.deliver = deliver or put_events
        self.context: int = model.config.block_size
        self._ends = frozenset(getattr(model.config, "end_ids", ()))
        self._allowed = allowed_ids(model, tokenizer)
        self._store = PrefixStore(self.limits.reuse << 20)
        self._cache = RowCache(self.limits.rows, self.context)
        self._rows: list[tuple[Job, Continuation]] = []
        self._waiting: deque[tuple[Job, Continuation]] = deque()
        self._tasks: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._events: list[tuple[Job, Event]] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="tinygpt-engine", daemon=True)

    # --- from other threads

    def __enter__(self) -> Engine:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread; requests that are not finished fail."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive() and not self._closing

    @property
    def active(self) -> int:
        """The number of rows in use."""
        return len(self._rows)

    @property
    def waiting(self) -> int:
        """The number of continuations that wait for a row."""
        return len(self._waiting)

    def submit(self, prompts: Sequence[Sequence[int]], options: Options, events: Sink, n: int = 1) -> Job:
        """Begin a request of `n` continuations of each prompt; those of prompt i have the indices from i * n.

        A prompt is a list of 1 to `context` ids of the vocabulary. Raises `QueueFull`.
        """
        seed = secrets.randbits(62) if options.seed is None else options.seed
        continuations = [
            Continuation(i * n + k, prompt, options, self.tokenizer, self._ends, seed)
            for i, prompt in enumerate(prompts)
            for k in range(n)
        ]
        job = Job(continuations, events, self.limits.seconds)
        with self._changed:
            if self._closing:
                raise QueueFull(1)
            if len(self._waiting) + len(continuations) > max(self.limits.waiting, 1):
                raise QueueFull(self._expected_wait())
            self._waiting += [(job, continuation) for continuation in continuations]
            self.metrics.prompt_tokens += sum(map(len, prompts)) * n
            self._changed.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Free the slots of a request; does nothing for one that has ended."""
        with self._changed:
            job.cancelled = True
            self._changed.notify()

    def run(self, function: Callable[[], Any]) -> Future[Any]:
        """Call a function in the engine's thread between two turns, since no other thread may run the model."""
        future: Future[Any] = Future()
        with self._changed:
            if self._closing:
                raise QueueFull(1)
            if len(self._tasks) >= self.limits.waiting:
                raise QueueFull(1)
            self._tasks.append((function, future))
            self._changed.notify()
        return future

    def _expected_wait(self) -> int:
        """Seconds until a row is free, from the times so far; 1 to 60."""
        rounds = 1 + len(self._waiting) // self.limits.rows
        return int(min(60, max(1, rounds * 32 * self.metrics.per_token.quantile(0.5))))

    # --- the thread

    def _run(self) -> None:
        while self._wait():
            try:
                self._turn()
            except Exception:  # a bug: all requests fail, but the server goes on
                self._fail_all("failed", "the server failed; see its log")
                traceback.print_exc(file=sys.stderr)
            self._flush()
        self._fail_all("stopped", "the server is shutting down")
        self._flush()
        for _, future in self._tasks:
            future.cancel()

    def _wait(self) -> bool:
        """Wait for work; returns False when the engine closes."""
        with self._changed:
            while not (self._closing or self._rows or self._waiting or self._tasks):
                self._changed.wait()
            return not self._closing

    def _turn(self) -> None:
        self._drop()
        self._run_task()
        self._admit()
        self._read()
        self._step()

    def _drop(self) -> None:
        """Remove the continuations of requests that are cancelled, failed or out of time."""
        now = time.monotonic()
        with self._changed:
            late = {job for job, _ in (*self._rows, *self._waiting) if now > job.deadline and not job.over}
            for job in late:
                self._fail(job, "timeout", f"the request took more than {self.limits.seconds:g} s")
            if any(job.over for job, _ in self._waiting):
                self._waiting = deque(entry for entry in self._waiting if not entry[0].over)
        for row in reversed(range(len(self._rows))):
            if self._rows[row][0].over:
                self._leave(row)

    def _run_task(self) -> None:
        with self._changed:
            function, future = self._tasks.popleft() if self._tasks else (None, None)
        if function is None or future is None or not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)

    def _admit(self) -> None:
        """Give free rows to waiting continuations, in their order."""
        while len(self._rows) < self.limits.rows and self._waiting:
            job, continuation = self._waiting[0]
            if self._is_being_read(continuation):
                return
            with self._changed:
                self._waiting.popleft()
            beginning = None
            if self._is_kept(continuation) and not continuation.options.prompt_logprobs:
                beginning = self._store.find(self.model, [continuation.text], 1, self.context)
                self.metrics.reused_tokens += 0 if beginning is None else beginning.length
            self._cache.add(beginning)
            self._rows.append((job, continuation))

    def _is_kept(self, continuation: Continuation) -> bool:
        return self.limits.reuse > 0 and continuation.prompt_length > _REUSED and not self._changes_with_length

    @property
    def _changes_with_length(self) -> bool:
        """Whether keys depend on the length of the text, as with some rotary scalings."""
        rotary = getattr(self.model, "rotary", None)
        return getattr(getattr(rotary, "scaling", None), "kind", "default") in ("dynamic", "longrope")

    def _is_being_read(self, waiting: Continuation) -> bool:
        """Whether another row is reading the beginning of this prompt, which is then not read twice."""
        if not self._is_kept(waiting):
            return False
        return any(
            self._unread(row) > 1
            and not other.generated
            and self._is_kept(other)
            and common_length([other.text, waiting.text]) >= _REUSED
            for row, (_, other) in enumerate(self._rows)
        )

    def _unread(self, row: int) -> int:
        """The number of tokens of its text that a row has not read."""
        continuation = self._rows[row][1]
        return len(continuation.text) - continuation.start - len(self._cache.tokens[row])

    def _read(self) -> None:
        """Read the next part of each prompt of which more than the last token is unread."""
        rows = [row for row in range(len(self._rows)) if self._unread(row) > 1]
        scored = [row for row in rows if self._rows[row][1].options.prompt_logprobs and self._is_prompt(row)]
        others = [row for row in rows if row not in scored]
        for row in scored[:1]:
            self._safely([row], self._score)
        if others:
            self._safely(others, lambda rows: self._cache.read(self.model, rows, [self._part(row) for row in rows]))
        for row in rows:
            if not self._rows[row][0].over and self._unread(row) == 1 and self._is_prompt(row):
                self._keep(row)  # now, since other requests may wait for this prompt

    def _is_prompt(self, row: int) -> bool:
        return not self._rows[row][1].generated

    def _part(self, row: int) -> list[int]:
        """The next tokens to read, up to the last but one of the text."""
        continuation = self._rows[row][1]
        known = continuation.start + len(self._cache.tokens[row])
        return continuation.text[known : min(known + _CHUNK, len(continuation.text) - 1)]

    def _score(self, rows: list[int]) -> None:
        """Read a part of a prompt and report the log probabilities of its tokens."""
        (row,) = rows
        continuation, part = self._rows[row][1], self._part(row)
        first = len(self._cache.tokens[row]) + 1
        logits = self._masked(self._cache.read(self.model, rows, [part], logits_to_keep=0)[0])
        for i, its in enumerate(logits, first):
            found = report(continuation.text[i], log_softmax(its), continuation.options.logprobs)
            continuation.reports.append(found)

    def _keep(self, row: int) -> None:
        """Keep what a row has read for later requests with the same beginning."""
        kept = self.limits.reuse > 0 and len(self._cache.tokens[row]) >= _REUSED and not self._changes_with_length
        if kept:
            self._store.add(self.model, self._cache.copy(row))
            self._store.trim()

    def _step(self) -> None:
        """Advance every row whose prompt is read by one token."""
        rows = [row for row in range(len(self._rows)) if self._unread(row) == 1 and not self._rows[row][0].over]
        for row in [row for row in rows if not self._rows[row][1].generated]:
            self._begin(*self._rows[row])
        rows = [row for row in rows if self._rows[row][1].options.max_tokens]
        if rows:
            self._safely(rows, self._advance)
        for row in reversed(range(len(self._rows))):
            job, continuation = self._rows[row]
            if job.over or continuation.ended:
                self._leave(row)
            else:
                self._slide(row)

    def _begin(self, job: Job, continuation: Continuation) -> None:
        """Send the report on the prompt, and end a continuation that generates nothing."""
        if continuation.options.prompt_logprobs:
            told = prompt_tokens(continuation.text, continuation.reports, self.tokenizer)
            self._events.append((job, Prompt(continuation.index, told)))
        if not continuation.options.max_tokens:
            self._tell(job, continuation, continuation.end("length"))

    def _advance(self, rows: list[int]) -> None:
        logits = self._cache.read(self.model, rows, [self._rows[row][1].text[-1:] for row in rows])
        now = time.monotonic()
        for row, its in zip(rows, self._masked(logits[:, -1])):
            job, continuation = self._rows[row]
            try:
                events = continuation.choose(its)
            except Exception as error:  # such as logits that are not finite; other rows go on
                self._fail(job, "failed", str(error))
                continue
            self._measure(job, continuation, now)
            self._tell(job, continuation, events)

    def _measure(self, job: Job, continuation: Continuation, now: float) -> None:
        self.metrics.generated_tokens += 1
        if not job.first_token:
            job.first_token = True
            self.metrics.first_token.observe(now - job.started)
        if continuation.last_token_at is not None:
            self.metrics.per_token.observe(now - continuation.last_token_at)
        continuation.last_token_at = now

    def _tell(self, job: Job, continuation: Continuation, events: list[Piece | Ended]) -> None:
        self._events += [(job, event) for event in events]
        if events and isinstance(events[-1], Ended):
            continuation.ended = True
            job.unfinished -= 1

    def _safely(self, rows: list[int], call: Callable[[list[int]], Any]) -> None:
        """Call the model for some rows. If it raises, call it for each row alone, so that only the faulty rows fail."""
        try:
            call(rows)
        except Exception as error:
            if len(rows) > 1:
                for row in rows:
                    self._safely([row], call)
                return
            if not isinstance(error, (TinyTorchError, MemoryError)):
                traceback.print_exc(file=sys.stderr)
            self._fail(self._rows[rows[0]][0], "failed", f"the model failed: {error}")

    def _slide(self, row: int) -> None:
        """Read a text again from its start if its window has moved, or if its keys change with its length."""
        continuation = self._rows[row][1]
        start = window_start(len(continuation.text), self.context)
        rotary = getattr(self.model, "rotary", None)
        changes = rotary is not None and rotary.changes_at(len(continuation.text) - start)
        if start != continuation.start or changes:
            continuation.start = start
            self._cache.clear(row)

    def _leave(self, row: int) -> None:
        """Free a row; the last row moves into its place."""
        if self._rows[row][1].start == 0:
            self._keep(row)
        self._cache.remove(row)
        self._rows[row] = self._rows[-1]
        self._rows.pop()

    def _masked(self, logits: Array) -> Array:
        return logits if self._allowed is None else np.where(self._allowed, logits, logits.dtype.type(-np.inf))

    def _fail(self, job: Job, kind: str, message: str) -> None:
        if not job.over:
            job.unfinished = 0
            self._events.append((job, Failed(kind, message)))

    def _fail_all(self, kind: str, message: str) -> None:
        """Fail all requests and empty the cache."""
        with self._changed:
            for job in dict.fromkeys(job for job, _ in (*self._rows, *self._waiting)):
                self._fail(job, kind, message)
            self._waiting.clear()
        self._rows.clear()
        self._cache = RowCache(self.limits.rows, self.context)

    def _flush(self) -> None:
        if self._events:
            events, self._events = self._events, []
            with contextlib.suppress(RuntimeError):  # the event loop is closed, so nobody waits for the events
                self.deliver(events)


def put_events(events: list[tuple[Job, Event]]) -> None:
    """Puts events into the queues of their requests."""
    for job, event in events:
        job.events.put_nowait(event)
