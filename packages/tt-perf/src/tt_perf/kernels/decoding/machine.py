"""Beside module 18, decoding: one token of a transformer as one compiled call, which several threads may make at once.

A program (`programs.py`) is a table, a row for each step. Steps of one phase do not depend on each other. Each has
chunks: rows of a weight, or heads of attention. A thread claims the next chunk by an atomic counter, and a phase begins
when all chunks of the one before are done. So a thread that starts late, or loses its core, delays the others only if
they need a chunk that it has claimed, and a single thread can do everything. Each number is computed by one thread, in
one order, so results do not depend on the number of threads.

Imports Numba, so only compiled code imports this file.
"""

from __future__ import annotations

import functools
import inspect
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.acceleration import loops
from tt_perf.kernels import atomics
from tt_perf.kernels.decoding import columns as C
from tt_perf.kernels.decoding.attend import attend
from tt_perf.kernels.decoding.elements import gelu, gelu_tanh, layer_norm, rms_norm, silu_times
from tt_perf.kernels.decoding.intrinsics import atomic_add, atomic_load, call, compiled, float32_at, int64_at
from tt_perf.kernels.decoding.products import product, round_input
from tt_perf.kernels.decoding.rows import read_row

_SPINS, _YIELDS = 2000, 500
_COUNTER = 64
"""Bytes from one counter to the next, so that each has a line of the cache to itself."""


@compiled()
def _wait(done: int, total: int, now: Array) -> None:
    """Spins for some microseconds, then gives the core to others, then sleeps."""
    rounds = 0
    while atomic_load(done) < total:
        rounds += 1
        if rounds > _SPINS + _YIELDS:
            call(now[C.SLEEP], 50)
        elif rounds > _SPINS:
            call(now[C.YIELD], 0)


@compiled()
def _embed(row: Array, now: Array, chunk: int) -> None:
    """A row of a table, of floats or of integers, for one text; ADD adds it to what is there."""
    ids = int64_at(now[C.POSITIONS] if row[C.BY_POSITION] else now[C.IDS], now[C.BATCH])
    out = float32_at(row[C.TARGET] + 4 * chunk * row[C.OUTPUTS], row[C.OUTPUTS])
    read_row(row, ids[chunk], out, row[C.ADD])


@compiled()
def _prepare(row: Array, numbers: Array, batch: int, floats: Array, digits: Array, sums: Array, steps: Array) -> None:
    """The input of a product, computed by each thread for itself: normalized, gated, rounded."""
    inputs = row[C.INPUTS]
    for b in range(batch):
        x = float32_at(row[C.SOURCE] + 4 * b * inputs, inputs)
        out = floats[b * inputs : (b + 1) * inputs]
        if row[C.PREPARE] == C.LAYER_NORM:
            layer_norm(x, row[C.NORM_WEIGHT], row[C.NORM_BIAS], numbers[C.EPS], out)
        elif row[C.PREPARE] == C.RMS_NORM:
            rms_norm(x, row[C.NORM_WEIGHT], numbers[C.EPS], out)
        elif row[C.PREPARE] == C.SWIGLU:
            silu_times(x, float32_at(row[C.SOURCE_2] + 4 * b * inputs, inputs), out)
        else:
            for i in range(inputs):
                out[i] = x[i]
    if row[C.BITS] < 32:
        round_input(row, numbers, batch, floats, digits, sums, steps)


@compiled()
def _multiply(row: Array, batch: int, chunk: int, floats: Array, digits: Array, sums: Array, steps: Array) -> None:
    """Some rows of a weight times the input, then what follows: bias, activation, residual."""
    first = chunk * row[C.CHUNK]
    count = min(row[C.CHUNK], row[C.OUTPUTS] - first)
    product(row, batch, first, count, floats, digits, sums, steps)
    for b in range(batch):
        at = 4 * (b * row[C.OUTPUTS] + first)
        out = float32_at(row[C.TARGET] + at, count)
        if row[C.BIAS]:
            bias = float32_at(row[C.BIAS] + 4 * first, count)
            for i in range(count):
                out[i] += bias[i]
        if row[C.ACTIVATION] == C.GELU_TANH:
            gelu_tanh(out)
        elif row[C.ACTIVATION] == C.GELU:
            gelu(out)
        elif row[C.ACTIVATION] == C.RELU:
            for i in range(count):
                out[i] = out[i] if not out[i] <= np.float32(0) else np.float32(0)
        if row[C.RESIDUAL]:
            residual = float32_at(row[C.RESIDUAL] + at, count)
            for i in range(count):
                out[i] += residual[i]


@functools.cache
def compiled_run() -> Callable[..., None]:
    """The function that works on a token; compiled in about 10 s, once, until a file of this folder changes."""
    version = stamp()

    @compiled(keep=True)
    def run(
        program: Array, numbers: Array, phases: Array, now: Array, counters: Array,
        floats: Array, digits: Array, sums: Array, steps: Array, scores: Array,
    ) -> None:  # fmt: skip
        """Works on the token that `now` describes until all of it is done.

        `phases`: the first step of each phase, and the number of steps. `counters`: zeros, with room for two counters a
        phase, of chunks that are claimed and done. `floats` to `scores` belong to this thread.
        """
        if not version:
            return
        first = (counters.ctypes.data + _COUNTER - 1) // _COUNTER * _COUNTER
        for phase in range(phases.size - 1):
            total = 0
            for step in range(phases[phase], phases[phase + 1]):
                total += program[step, C.CHUNKS]
            claimed = first + 2 * _COUNTER * phase
            ready = -1
            while True:
                chunk = atomic_add(claimed, 1)
                if chunk >= total:
                    break
                step = phases[phase]
                while chunk >= program[step, C.CHUNKS]:
                    chunk -= program[step, C.CHUNKS]
                    step += 1
                row = program[step]
                if row[C.KIND] == C.EMBEDDING:
                    _embed(row, now, chunk)
                elif row[C.KIND] == C.ATTENTION:
                    attend(row, now, numbers[step, C.EPS], chunk, floats, scores)
                else:
                    if ready != step:
                        _prepare(row, numbers[step], now[C.BATCH], floats, digits, sums, steps)
                        ready = step
                    _multiply(row, now[C.BATCH], chunk, floats, digits, sums, steps)
                atomic_add(claimed + _COUNTER, 1)
            _wait(claimed + _COUNTER, total, now)

    return run


def stamp() -> int:
    """A number that changes with the files that `run` is compiled from, and becomes a part of its name on disk."""
    files = [
        Path(inspect.getfile(loops.exp_below_0)),
        Path(atomics.__file__),
        *sorted(Path(__file__).parent.glob("*.py")),
    ]
    return zlib.crc32(b"".join(path.read_bytes() for path in files)) | 1
