"""Beside module 18, decoding: some rows times a stored weight, for the op `quantized_linear`: prompts and classifiers.

The same products as those of a token. Imports Numba, so only compiled code imports this file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.threads import at_once, get_num_threads, in_parallel, split
from tt_perf.kernels.decoding import columns as C
from tt_perf.kernels.decoding.intrinsics import PIECES, WIDTH, compiled
from tt_perf.kernels.decoding.machine import stamp
from tt_perf.kernels.decoding.products import SEVERAL, product, round_input

_MOST = 1 << 30 if WIDTH == 64 else 64
FASTER = {8: range(4, _MOST + 1), 4: range(1, _MOST + 1)} if WIDTH else {8: range(0), 4: range(0)}
"""Numbers of rows for which products by bytes are the fastest, by the bits of the weight. 16 and 256 rows of 768 times
(3072, 768) on one thread: int8 0.34 and 4.3 ms, int4 0.37 and 4.8 ms, BLAS on the weight as floats 3.7 and 11 ms; int8
by the loop of `loops.py`, for few rows: 0.13 ms at 3 rows, as here, and 0.24 at 4, 0.15 here."""
_BLOCK = 32 << 10
"""Bytes of a weight that are multiplied with one row after another before the next ones are read."""
_DIGITS = 512 << 10
"""Bytes of the digits of rows that are multiplied together, so that they stay in the second-level cache."""
_SHARED = 2_000_000
"""Products of numbers from which another thread (30 us until it runs) is of use."""


@functools.cache
def _compiled() -> tuple[Callable[..., None], Callable[..., None]]:
    version = stamp()

    @compiled(keep=True)
    def prepare(step: Array, batch: int, floats: Array, digits: Array, sums: Array, steps: Array) -> None:
        if version:
            round_input(step, np.zeros(C.NUMBERS, np.float32), batch, floats, digits, sums, steps)

    @compiled(keep=True)
    def multiply(
        step: Array, batch: int, first: int, end: int, floats: Array, digits: Array, sums: Array, steps: Array
    ) -> None:
        if version:
            for at in range(first, end, step[C.CHUNK]):
                count = min(step[C.CHUNK], end - at)
                product(step, batch, at, count, floats, digits, sums, steps)

    return prepare, multiply


def stored_product(x: Array, codes: Array, scale: Array, zero_point: Array | None) -> Array:
    """`x @ weight.T` in float32 for x (rows, in) and a stored weight of int8 or int4, as exact as with floats."""
    out = np.empty((len(x), len(codes)), np.float32)
    given = [np.ascontiguousarray(part) for part in (codes, scale, *(() if zero_point is None else (zero_point,)))]
    block = max(8, _DIGITS // (3 * max(1, x.shape[1])) // 4 * 4)
    for start in range(0, len(x), block):
        _some_rows(x[start : start + block], given, out[start : start + block])
    return out


def _some_rows(x: Array, given: list[Array], out: Array) -> None:
    prepare, multiply = _compiled()
    codes, scale, *zeros = given
    (rows, inputs), (outputs, stride) = x.shape, codes.shape
    widest = max(inputs, stride)
    step = np.zeros(C.COLUMNS, np.int64)
    step[[C.WEIGHT, C.SCALE, C.ZERO][: len(given)]] = [part.ctypes.data for part in given]
    step[[C.TARGET, C.INPUTS, C.OUTPUTS, C.STRIDE]] = out.ctypes.data, inputs, outputs, stride
    step[[C.BITS, C.GROUPS]] = (4, scale.shape[1]) if zeros else (8, 1)
    step[[C.ROUND, C.CHUNK]] = C.EXACT, outputs if rows >= SEVERAL else max(4, _BLOCK // stride // 4 * 4)
    floats, digits = x.astype(np.float32).reshape(-1), np.empty(C.digit_bytes(rows, widest), np.int8)
    sums, steps = np.empty(rows * PIECES, np.int64), np.empty(rows, np.float32)
    prepare(step, rows, floats, digits, sums, steps)

    def work(part: slice) -> None:
        multiply(step, rows, part.start, part.stop, floats, digits, sums, steps)

    if rows < SEVERAL:
        in_parallel(work, outputs, codes.nbytes * 4)
    else:
        threads = get_num_threads() if codes.size * rows >= _SHARED else 1
        at_once(work, split(outputs, threads if threads == 1 else 4 * threads, C.WIDEST))
