"""Beside module 18, decoding: a weight of integers times several vectors, compiled: prompts, and batches of texts.

`products.py` adds up the lanes of each sum, which takes as long as 700 columns do. Here each lane is a row of the
weight, so nothing is added up afterwards: four columns of 2 LANES rows, which `pack` collects once for all vectors, are
multiplied with four columns of a *stream*. A stream is one digit of a vector. The sums of a tile of STREAMS streams
stay in registers (see `tiles.py`).
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.kernels.decoding import columns as C
from tt_perf.kernels.decoding.intrinsics import (
    LANES,
    PIECES,
    STREAMS,
    WIDTH,
    compiled,
    dot_group,
    dot_group_half,
    dot_streams,
    dot_streams_half,
    float32_at,
    int32_at,
    pack_int4,
    pack_int8,
    uint8_at,
)  # fmt: skip

Number = np.float32
NONE = Number(0)
_HALF, _TWO = Number(0.5), np.uint64(2)
_BYTE, _TWO_BYTES, _ONES, _MIDDLE = np.uint32(8), np.uint32(16), np.uint32(255), np.uint32(128)
_MIDDLES = np.int32(0x808080)
_TILE = STREAMS // PIECES
"""Vectors of a tile."""
_WIDE = 2 * LANES
"""Rows of the weight that a tile multiplies."""
_LINE = 64


@compiled()
def planes(x: Array, half: int, halves: int, each: Number, low: Array, middle: Array, high: Array) -> None:
    """The digits of all columns of `x`, or of the even or the odd ones; zeros behind them."""
    count = (x.size + halves - 1 - half) // halves
    if halves == 1:
        for i in range(count):
            raised = _raised(x[i] * each)
            low[i], middle[i], high[i] = _digit(raised), _digit(raised >> _BYTE), _digit(raised >> _TWO_BYTES)
    else:
        y = x[half:]
        for i in range(count):
            raised = _raised(y[_TWO * np.uint64(i)] * each)
            low[i], middle[i], high[i] = _digit(raised), _digit(raised >> _BYTE), _digit(raised >> _TWO_BYTES)
    for i in range(count, low.size):
        low[i] = middle[i] = high[i] = np.int8(0)


@compiled()
def _raised(x: Number) -> np.uint32:
    """A rounded number plus 128 in each of its digits, which are then the bytes of the sum."""
    return np.uint32(np.int32(np.floor(x + _HALF)) + _MIDDLES)


@compiled()
def _digit(raised: np.uint32) -> np.int8:
    return np.int8((raised & _ONES) ^ _MIDDLE)


@compiled()
def _steps(step: Array) -> int:
    """Groups of four columns of a row, with zeros behind it; for int4, of four even and of four odd columns in turn."""
    whole = (step[C.STRIDE] + WIDTH - 1) // WIDTH * LANES
    return whole if step[C.BITS] == 8 else 2 * whole


@compiled()
def _width(batch: int, tile: int) -> int:
    """Streams of a tile: STREAMS, or half of them where that is enough."""
    return STREAMS if PIECES * (batch - tile * _TILE) > STREAMS // 2 else STREAMS // 2


@compiled()
def arrange(x: Array, unit: Number, step: Array, batch: int, b: int, digits: Array, sums: Array) -> None:
    """The digits of round(x / unit) as streams of the tile that vector `b` belongs to."""
    if WIDTH:
        halves = 1 if step[C.BITS] == 8 else 2
        count, each, width = _steps(step), Number(1) / unit, _width(batch, b // _TILE)
        plane = 4 * (count // halves)
        space = np.empty(PIECES * plane, np.int8)
        numbers = space.view(np.int32)
        first = b // _TILE * STREAMS * count + b % _TILE * PIECES
        streams = int32_at(digits.ctypes.data + 4 * first, width * count)
        for half in range(halves):
            planes(x, half, halves, each, space[:plane], space[plane : 2 * plane], space[2 * plane :])
            for piece in range(PIECES):
                begin, total = piece * plane // 4, np.int64(0)
                for i in range(plane // 4):
                    streams[(halves * i + half) * width + piece] = numbers[begin + i]
                for i in range(plane):
                    total += space[piece * plane + i]
                sums[b * PIECES + piece] = total


@compiled()
def several(
    step: Array, batch: int, first: int, count: int, floats: Array, digits: Array, sums: Array, steps: Array
) -> None:
    """Columns `first` to `first + count` of TARGET, for all vectors that `arrange` has written as streams."""
    if WIDTH:
        depth, groups = _steps(step), step[C.GROUPS]
        # as an array, not as an address, since Numba frees arrays after their last use
        packed = np.empty(depth * 2 * WIDTH + _LINE, np.uint8)
        found, rest = np.empty(STREAMS * _WIDE, np.int32), np.zeros(LANES * WIDTH, np.uint8)
        if step[C.BITS] == 8:
            for o in range(0, count, _WIDE):
                rows = min(_WIDE, count - o)
                _pack(step, first + o, rows, packed, rest)
                _int8(step, batch, first + o, rows, packed, depth, digits, sums, steps, found)
        else:
            totals = np.zeros((batch + _TILE) * groups, Number)
            _group_sums(step, batch, floats, steps, totals)
            scales, shifts = np.empty(groups * _WIDE, Number), np.empty(groups * _WIDE, Number)
            for o in range(0, count, _WIDE):
                rows = min(_WIDE, count - o)
                _pack(step, first + o, rows, packed, rest)
                _scales(step, first + o, rows, scales, shifts)
                _int4(step, batch, first + o, rows, packed, depth, digits, totals, scales, shifts, steps, found)


@compiled()
def _pack(step: Array, first: int, rows: int, packed: Array, rest: Array) -> None:
    """Rows of the weight as vectors: four columns of LANES rows, then of the LANES rows after them."""
    stride, whole = step[C.STRIDE], step[C.STRIDE] // WIDTH * WIDTH
    each = 4 * _WIDE * LANES * (1 if step[C.BITS] == 8 else 2)  # bytes for WIDTH bytes of each row
    for half in range(2):
        at = min(half * LANES, rows - 1)
        base, there = step[C.WEIGHT] + (first + at) * stride, min(LANES, rows - at)
        place = _aligned(packed) + half * WIDTH
        for start in range(0, whole, WIDTH):
            if step[C.BITS] == 8:
                pack_int8(base + start, stride, there, place)
            else:
                pack_int4(base + start, stride, there, place)
            place += each
        if whole < stride:  # what is left of each row, and zeros behind it
            for row in range(LANES):
                part = uint8_at(base + min(row, there - 1) * stride + whole, stride - whole)
                for i in range(part.size):
                    rest[row * WIDTH + i] = part[i]
            if step[C.BITS] == 8:
                pack_int8(rest.ctypes.data, WIDTH, LANES, place)
            else:
                pack_int4(rest.ctypes.data, WIDTH, LANES, place)


@compiled()
def _aligned(packed: Array) -> int:
    """The first line of the cache in an array."""
    return (packed.ctypes.data + _LINE - 1) // _LINE * _LINE


@compiled()
def _multiply(width: int, packed: int, streams: int, depth: int, found: Array) -> None:
    if width == STREAMS:
        dot_streams(packed, streams, depth, found.ctypes.data)
    else:
        dot_streams_half(packed, streams, depth, found.ctypes.data)


@compiled()
def _int8(
    step: Array, batch: int, first: int, rows: int, packed: Array, depth: int,
    digits: Array, sums: Array, steps: Array, found: Array,
) -> None:  # fmt: skip
    """`unit * scale * sum(code * x)`, where the sum is an exact integer, with the bits of `products.py`."""
    scales = float32_at(step[C.SCALE] + 4 * first, rows)
    for start in range(0, batch, _TILE):
        tile = start // _TILE
        _multiply(_width(batch, tile), _aligned(packed), digits.ctypes.data + 4 * tile * STREAMS * depth, depth, found)
        for b in range(start, min(batch, start + _TILE)):
            raised = np.int64(0)  # codes are multiplied as code + 128
            for piece in range(PIECES - 1, -1, -1):
                raised = raised * 256 + 128 * sums[b * PIECES + piece]
            out, unit = float32_at(step[C.TARGET] + 4 * (b * step[C.OUTPUTS] + first), rows), np.float64(steps[b])
            whole = found[(b - start) * PIECES * _WIDE : ((b - start) + 1) * PIECES * _WIDE]
            low, middle, high = whole[:_WIDE], whole[_WIDE : 2 * _WIDE], whole[2 * _WIDE :]
            less = np.float64(raised)
            for i in range(rows):  # below 2^53, so float64 is exact
                upper = np.float64(high[i]) * np.float64(65536) + np.float64(middle[i]) * np.float64(256)
                out[i] = Number((upper + np.float64(low[i]) - less) * unit) * scales[i]


# --- int4: each group of columns has a scale, and a zero point that is multiplied with the sum of its inputs


@compiled("reassoc")
def _group_sums(step: Array, batch: int, floats: Array, steps: Array, totals: Array) -> None:
    """Sums of the inputs of each group in units of the vector's step: (tiles, groups, _TILE)."""
    inputs, groups = step[C.INPUTS], step[C.GROUPS]
    width = 2 * step[C.STRIDE] // groups
    for b in range(batch):
        x = floats[b * inputs : (b + 1) * inputs]
        for group in range(groups):
            part = x[group * width : min((group + 1) * width, inputs)]
            total = NONE
            for i in range(part.size):
                total += part[i]
            totals[(b // _TILE * groups + group) * _TILE + b % _TILE] = total / steps[b]


@compiled()
def _scales(step: Array, first: int, rows: int, scales: Array, shifts: Array) -> None:
    """Scales, and scales times zero points, of all rows of a tile for one group after another."""
    groups = step[C.GROUPS]
    given = float32_at(step[C.SCALE] + 4 * first * groups, rows * groups)
    zeros = uint8_at(step[C.ZERO] + first * groups, rows * groups)
    for row in range(_WIDE):
        at = min(row, rows - 1) * groups
        for group in range(groups):
            scales[group * _WIDE + row] = given[at + group]
            shifts[group * _WIDE + row] = given[at + group] * Number(zeros[at + group])


@compiled()
def _int4(
    step: Array, batch: int, first: int, rows: int, packed: Array, depth: int,
    digits: Array, totals: Array, scales: Array, shifts: Array, steps: Array, found: Array,
) -> None:  # fmt: skip
    groups = step[C.GROUPS]
    each = step[C.STRIDE] // groups // 2  # of the steps, of which 4 bytes are two
    sums = found.view(Number)
    for start in range(0, batch, _TILE):
        tile = start // _TILE
        width = _width(batch, tile)
        streams = digits.ctypes.data + 4 * tile * STREAMS * depth
        sums[:] = NONE
        for group in range(groups):
            weights, numbers = _aligned(packed) + group * each * 2 * WIDTH, streams + 4 * group * each * width
            scale = scales.ctypes.data + 4 * group * _WIDE
            shift = shifts.ctypes.data + 4 * group * _WIDE
            total = totals.ctypes.data + 4 * (tile * groups + group) * _TILE
            if width == STREAMS:
                dot_group(weights, numbers, each, scale, shift, total, found.ctypes.data)
            else:
                dot_group_half(weights, numbers, each, scale, shift, total, found.ctypes.data)
        for b in range(start, min(batch, start + _TILE)):
            out = float32_at(step[C.TARGET] + 4 * (b * step[C.OUTPUTS] + first), rows)
            part = sums[(b - start) * _WIDE : (b - start + 1) * _WIDE]
            for i in range(rows):
                out[i] = part[i] * steps[b]
