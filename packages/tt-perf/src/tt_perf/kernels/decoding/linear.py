"""Beside module 18, decoding: some rows times a stored weight, for the op `quantized_linear`: prompts and classifiers.

The same products as those of a token. Imports Numba, so only compiled code imports this file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.threads import in_parallel
from tt_perf.kernels.decoding import columns as C
from tt_perf.kernels.decoding.intrinsics import PIECES, WIDTH, compiled
from tt_perf.kernels.decoding.machine import stamp
from tt_perf.kernels.decoding.products import product, round_input

FASTER = {8: range(8, 65), 4: range(1, 65)} if WIDTH else {8: range(0), 4: range(0)}
"""Numbers of rows for which products by bytes are the fastest, by the bits of the weight. 8 and 64 rows of 768 times
(3072, 768) on one thread: int4 0.5 and 3.1 ms, BLAS on the weight as floats 3.5 and 6.0; int8 0.3 and 2.6, BLAS at 64
rows 3.2, and the loop of `loops.py`, for few rows, 0.3 to 0.5 at 8."""
_BLOCK = 32 << 10
"""Bytes of a weight that are multiplied with all rows before the next ones are read."""


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
    prepare, multiply = _compiled()
    (rows, inputs), (outputs, stride) = x.shape, codes.shape
    out, widest = np.empty((rows, outputs), np.float32), max(inputs, stride)
    given = [np.ascontiguousarray(part) for part in (codes, scale, *(() if zero_point is None else (zero_point,)))]
    step = np.zeros(C.COLUMNS, np.int64)
    step[[C.WEIGHT, C.SCALE, C.ZERO][: len(given)]] = [part.ctypes.data for part in given]
    step[[C.TARGET, C.INPUTS, C.OUTPUTS, C.STRIDE]] = out.ctypes.data, inputs, outputs, stride
    step[[C.BITS, C.GROUPS]] = (8, 1) if zero_point is None else (4, scale.shape[1])
    step[[C.ROUND, C.CHUNK]] = C.EXACT, max(4, _BLOCK // stride // 4 * 4)
    floats, digits = x.astype(np.float32).reshape(-1), np.empty(rows * widest * 2 * PIECES, np.int8)
    sums, steps = np.empty(rows * PIECES, np.int64), np.empty(rows, np.float32)
    prepare(step, rows, floats, digits, sums, steps)

    def work(part: slice) -> None:
        multiply(step, rows, part.start, part.stop, floats, digits, sums, steps)

    in_parallel(work, outputs, codes.nbytes * 4)
    return out
