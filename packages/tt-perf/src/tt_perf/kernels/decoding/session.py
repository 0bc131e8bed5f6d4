"""Beside module 18, decoding: one generation. A program, the cache it writes to, and the threads that run it."""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.threads import get_num_threads
from tt_language import GPT
from tt_perf.kernels.decoding import columns as C
from tt_perf.kernels.decoding.programs import Program
from tt_perf.kernels.team import waiting
from tt_perf.memoization import KVCache
from tt_perf.memoization.formats import Floats, Int8
from tt_perf.memoization.storage import LayerMemory

_ALONE = 1 << 20
"""Bytes of weights below which another thread (30 us until it runs) brings nothing."""
_COUNTERS = 16
"""int64 a phase: two counters, each with a line of the cache to itself."""


class Session:
    """The tokens of one generation with `model`, whose keys and values `cache` holds.

    Raises `Uncovered` for a model or cache that is not covered.
    """

    def __init__(self, model: GPT, cache: KVCache, run: Callable[..., None]) -> None:
        self._run = run
        self.model = weakref.ref(model)
        self.program = Program(model, cache.rows)
        self.rows = cache.rows
        self._memories: list[LayerMemory] = []
        self._cache_arrays: list[Array] = []
        self._helping: list[Future[None] | None] = []
        self._threads = 1 if self.program.nbytes < _ALONE else get_num_threads()
        self._scratch = [_scratch(self.program) for _ in range(self._threads)]
        self._helping = [None] * (self._threads - 1)
        self._scores: list[Array] = []
        self._now = np.zeros(C.NOW, np.int64)
        self._now[[C.YIELD, C.SLEEP]] = waiting()
        self._given: list[Any] = []

    def token(
        self,
        ids: Array,
        positions: Array,
        angles: tuple[Array, Array] | None,
        cache: KVCache,
        mask: Array | None,
        slots: Array,
        length: int,
    ) -> Array:
        """Logits (rows, vocab) after one more token for each text, whose keys and values go to `slots`."""
        program, now = self.program, self._now
        self._connect(cache, length)
        logits = np.empty((self.rows, program.config.vocab_size), np.float32)
        program.table[-1, C.TARGET] = logits.ctypes.data
        given = [ids, positions, slots, mask, *(angles or (None, None))]
        given = [None if x is None else np.ascontiguousarray(x) for x in given]
        now[[C.BATCH, C.LENGTH]] = self.rows, length
        now[[C.IDS, C.POSITIONS, C.SLOTS, C.MASK, C.COSINES, C.SINES]] = [
            0 if x is None else x.ctypes.data for x in given
        ]
        self._work([program, logits, given, self._cache_arrays])
        for memory in self._memories:
            memory.length = length
        return logits

    def _connect(self, cache: KVCache, length: int) -> None:
        """Let the steps of attention know where keys and values lie, which changes as the cache grows."""
        table = self.program.table
        self._memories = cache.with_room(self.program.attention, length)
        arrays = [part for memory in self._memories for kind in (memory.keys, memory.values) for part in kind.parts]
        if len(arrays) == len(self._cache_arrays) and all(map(lambda a, b: a is b, arrays, self._cache_arrays)):
            return
        self._cache_arrays = arrays
        for step, memory in zip(self.program.attending, self._memories):
            keys, values = memory.keys.parts, memory.values.parts
            table[step, C.ROOM] = keys[0].shape[2]
            table[step, [C.KEYS, C.VALUES]] = keys[0].ctypes.data, values[0].ctypes.data
            if len(keys) > 1:
                table[step, [C.KEY_SCALES, C.VALUE_SCALES]] = keys[1].ctypes.data, values[1].ctypes.data
        room = max(int(table[step, C.ROOM]) for step in self.program.attending)
        self._scores = [np.empty(room, np.float32) for _ in range(self._threads)]

    def _work(self, held: list[Any]) -> None:
        """Runs the program; `held` is the memory that it works on by address.

        Other threads keep it alive until the token is complete: if an interruption comes before this thread has begun,
        they compute the whole token. After a complete token, a late thread finds nothing to do, and keeps nothing.
        """
        program = self.program
        counters = np.zeros((len(program.phases) + 1) * _COUNTERS, np.int64)  # a late thread keeps those of its token
        shared = program.table, program.numbers, program.phases, self._now, counters
        for i, other in enumerate(self._helping):
            if other is None or other.done():  # one that is late finds nothing left to do
                # it gets arrays, not the session, which would keep the model and the cache alive until it has run
                mine = (*shared, *self._scratch[i + 1], self._scores[i + 1])
                self._helping[i] = _helpers().submit(_help, held, self._run, *mine)
        self._run(*shared, *self._scratch[0], self._scores[0])
        held.clear()


def _help(held: list[Any], run: Callable[..., None], *given: Any) -> None:
    run(*given)


def _scratch(program: Program) -> tuple[Array, ...]:
    """Memory of one thread: the input of a product as floats, its digits, their sums, the steps."""
    rows, widest = program.rows, program.widest
    return (
        np.zeros(rows * widest, np.float32), np.zeros(C.digit_bytes(rows, widest), np.int8),
        np.zeros(rows * 3, np.int64), np.zeros(rows, np.float32),
    )  # fmt: skip


def fits(cache: KVCache) -> bool:
    """Whether keys and values of `cache` are float32, or int8 that stand for float32."""
    return all(
        type(kind) in (Floats, Int8) and kind.like.dtype == np.float32
        for memory in cache._layers
        for kind in (memory.keys, memory.values)
    )


@functools.cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, get_num_threads() - 1), thread_name_prefix="tinytorch-decoding")


if hasattr(os, "register_at_fork"):  # a forked child inherits the pool without its threads
    os.register_at_fork(after_in_child=_helpers.cache_clear)
