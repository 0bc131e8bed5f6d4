"""Beside module 18, decoding: rows of an embedding table, compiled."""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.kernels.decoding import columns as C
from tt_perf.kernels.decoding.intrinsics import compiled, float32_at, int8_at, uint8_at

Number = np.float32


@compiled()
def read_row(step: Array, index: int, out: Array, add: int) -> None:
    """Row `index` of a table of float32, int8 or int4 into `out`, or added to it."""
    size = out.size
    for i in range(size if not add else 0):
        out[i] = Number(0)
    base = step[C.WEIGHT] + index * step[C.STRIDE]
    if step[C.BITS] == 32:
        numbers = float32_at(base, size)
        for i in range(size):
            out[i] += numbers[i]
    elif step[C.BITS] == 8:
        codes, scale = int8_at(base, size), float32_at(step[C.SCALE], index + 1)[index]
        for i in range(size):
            out[i] += Number(codes[i]) * scale
    else:
        groups = step[C.GROUPS]
        width = 2 * step[C.STRIDE] // groups
        pairs = uint8_at(base, step[C.STRIDE])
        scales, zeros = (
            float32_at(step[C.SCALE] + 4 * index * groups, groups),
            uint8_at(step[C.ZERO] + index * groups, groups),
        )
        for i in range(size):
            code = pairs[i // 2] >> 4 if i % 2 else pairs[i // 2] & 15
            group = i // width
            out[i] += (Number(code) - Number(zeros[group])) * scales[group]
