"""Beside module 18, decoding: rows of a weight times the vectors of a batch, compiled; the weight is read once.

Weights are float32, or integers (module 15). With integers, where the processor multiplies bytes (VNNI), the input is
written as integers too: x = step * (d2 256^2 + d1 256 + d0) with digits from -128 to 127, so that each sum is exact and
three instructions multiply 64 weights. The step is 2^-23 of the largest x: what float32 itself resolves. Layers that
round their input to 8 bits have one digit. Elsewhere integers become floats in registers.
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.kernels.decoding import columns as C
from tt_perf.kernels.decoding.intrinsics import (
    PIECES,
    ROWS,
    WIDTH,
    compiled,
    dot_int4_1,
    dot_int4_2,
    dot_int4_4,
    dot_int8,
    float32_at,
    int8_at,
    uint8_at,
)  # fmt: skip
from tt_perf.kernels.decoding.several import arrange, planes, several

Number = np.float32
SEVERAL = 3
"""Vectors from which they are multiplied together (`several.py`)."""
NONE = Number(0)
_LARGEST = Number(127 * 256 * 256)  # leaves room for a quotient that rounds up
_INFINITE, _SIGN = np.int32(0x7F800000), np.int32(0x7FFFFFFF)
_TINY = Number(np.finfo(np.float32).tiny)
_NEAREST = Number(1.5 * 2**23)  # added and taken off again, it leaves no digits behind the point


@compiled()
def _largest(x: Array) -> int:
    """The bits of the largest absolute value; those of infinity and nan are larger than all others."""
    words, found = x.view(np.int32), np.int32(0)
    for i in range(words.size):
        found = max(found, np.int32(words[i] & _SIGN))
    return found  # type: ignore[return-value,unused-ignore]


@compiled()
def round_input(
    step: Array, numbers: Array, batch: int, floats: Array, digits: Array, sums: Array, steps: Array
) -> None:
    """Writes the input as integers: `steps` (batch), digits, and for int8 `sums` of the digits (batch, PIECES).

    A step of 0 says that the input stays float: it is not finite, or the processor has no use for digits.
    """
    inputs, how = step[C.INPUTS], step[C.ROUND]
    for b in range(batch):
        x = floats[b * inputs : (b + 1) * inputs]
        bits = _largest(x)
        largest = np.int32(bits).view(Number)
        if how == C.EXACT:
            unit = max(largest / _LARGEST, _TINY) if WIDTH and bits < _INFINITE and _in_vectors(step) else NONE
        elif bits > _INFINITE or (bits == _INFINITE and how == C.DYNAMIC):
            unit = Number(np.nan)
        elif how == C.DYNAMIC:
            unit = max(Number(np.float64(largest) / 127.0), _TINY) if bits else Number(1)
        else:
            unit = numbers[C.INPUT_SCALE]
        steps[b] = unit
    for b in range(batch):
        x, unit = floats[b * inputs : (b + 1) * inputs], steps[b]
        if how != C.EXACT:
            zero = Number(step[C.INPUT_ZERO])
            for i in range(inputs):  # x becomes the integers, as floats
                q = x[i] / unit
                q = min(max(((q + _NEAREST) - _NEAREST) + zero, Number(-128)), Number(127)) if q == q else q
                x[i] = q - zero
        if WIDTH and unit > NONE and _in_vectors(step):
            unit = unit if how == C.EXACT else Number(1)
            if batch >= SEVERAL:
                arrange(x, unit, step, batch, b, digits, sums)
            else:
                _digits(x, unit, step, digits, b, sums)


@compiled()
def _in_vectors(step: Array) -> bool:
    """Whether there are instructions for the weight: all of int8, and int4 in groups of a power of 2, 32 or more."""
    if step[C.BITS] == 8:
        return True
    width = 2 * step[C.STRIDE] // step[C.GROUPS]
    return width >= max(32, WIDTH // 2) and width & (width - 1) == 0


@compiled()
def _digits(x: Array, unit: Number, step: Array, digits: Array, b: int, sums: Array) -> None:
    """The digits of round(x / unit): planes of columns for int8, of even and of odd columns for int4."""
    plane, each = step[C.STRIDE], Number(1) / unit
    if step[C.BITS] == 8:
        space = digits[b * PIECES * plane : (b + 1) * PIECES * plane]
        planes(x, 0, 1, each, space[:plane], space[plane : 2 * plane], space[2 * plane :])
        for piece in range(PIECES):
            total = np.int64(0)
            for i in range(plane // 4 * 4):
                total += space[piece * plane + i]
            sums[b * PIECES + piece] = total
    else:
        for odd in range(2):
            first = (2 * b + odd) * PIECES * plane
            space = digits[first : first + PIECES * plane]
            planes(x, odd, 2, each, space[:plane], space[plane : 2 * plane], space[2 * plane :])


@compiled()
def product(
    step: Array, batch: int, first: int, count: int, floats: Array, digits: Array, sums: Array, steps: Array
) -> None:
    """Columns `first` to `first + count` of TARGET: `x @ weight.T` without bias."""
    if step[C.BITS] == 32:
        _floats(step, batch, first, count, floats)
        return
    together = WIDTH and batch >= SEVERAL and _in_vectors(step)
    if together:
        several(step, batch, first, count, floats, digits, sums, steps)
    for b in range(batch):
        exact = step[C.ROUND] == C.EXACT
        vectors = WIDTH and steps[b] > NONE and _in_vectors(step)
        if together and vectors:
            continue
        x = floats[b * step[C.INPUTS] : (b + 1) * step[C.INPUTS]]
        out = float32_at(step[C.TARGET] + 4 * (b * step[C.OUTPUTS] + first), count)
        if vectors and step[C.BITS] == 8:
            _int8(step, first, count, digits, sums, b, out, steps[b])
        elif vectors:
            _int4(step, first, count, digits, b, x, out, steps[b])
        elif step[C.BITS] == 8:
            for o in range(count):
                out[o] = _row_int8(step, first + o, x) * (Number(1) if exact else steps[b])
        else:
            for o in range(count):
                out[o] = _row_int4(step, first + o, x)


@compiled("reassoc")
def _floats(step: Array, batch: int, first: int, count: int, floats: Array) -> None:
    """Four rows of the weight times one vector, or one row times four vectors."""
    inputs = step[C.INPUTS]
    if batch == 1:
        x = floats[:inputs]
        out = float32_at(step[C.TARGET] + 4 * first, count)
        whole = count // 4 * 4
        for o in range(0, whole, 4):
            rows = float32_at(step[C.WEIGHT] + 4 * (first + o) * inputs, 4 * inputs)
            r0, r1, r2, r3 = rows[:inputs], rows[inputs : 2 * inputs], rows[2 * inputs : 3 * inputs], rows[3 * inputs :]
            s0 = s1 = s2 = s3 = NONE
            for i in range(inputs):
                s0 += r0[i] * x[i]
                s1 += r1[i] * x[i]
                s2 += r2[i] * x[i]
                s3 += r3[i] * x[i]
            out[o], out[o + 1], out[o + 2], out[o + 3] = s0, s1, s2, s3
        for o in range(whole, count):
            out[o] = _dot(float32_at(step[C.WEIGHT] + 4 * (first + o) * inputs, inputs), x)
        return
    outputs = step[C.OUTPUTS]
    out = float32_at(step[C.TARGET], batch * outputs)
    whole = batch // 4 * 4
    for o in range(first, first + count):
        row = float32_at(step[C.WEIGHT] + 4 * o * inputs, inputs)
        for b in range(0, whole, 4):
            xs = floats[b * inputs : (b + 4) * inputs]
            x0, x1, x2, x3 = xs[:inputs], xs[inputs : 2 * inputs], xs[2 * inputs : 3 * inputs], xs[3 * inputs :]
            s0 = s1 = s2 = s3 = NONE
            for i in range(inputs):
                s0 += row[i] * x0[i]
                s1 += row[i] * x1[i]
                s2 += row[i] * x2[i]
                s3 += row[i] * x3[i]
            at = b * outputs + o
            out[at], out[at + outputs] = s0, s1
            out[at + 2 * outputs], out[at + 3 * outputs] = s2, s3
        for b in range(whole, batch):
            out[b * outputs + o] = _dot(row, floats[b * inputs : (b + 1) * inputs])


@compiled("reassoc")
def _dot(a: Array, b: Array) -> Number:
    total = NONE
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@compiled("reassoc")
def _row_int8(step: Array, o: int, x: Array) -> Number:
    """A row of int8 times floats."""
    codes = int8_at(step[C.WEIGHT] + o * step[C.STRIDE], x.size)
    total = NONE
    for i in range(x.size):
        total += x[i] * Number(codes[i])
    return total * float32_at(step[C.SCALE] + 4 * o, 1)[0]


@compiled("reassoc")
def _row_int4(step: Array, o: int, x: Array) -> Number:
    """A row of int4 times floats."""
    groups = step[C.GROUPS]
    width = step[C.STRIDE] // groups
    pairs = uint8_at(step[C.WEIGHT] + o * step[C.STRIDE], step[C.STRIDE])
    scales, zeros = float32_at(step[C.SCALE] + 4 * o * groups, groups), uint8_at(step[C.ZERO] + o * groups, groups)
    whole = NONE
    for group in range(groups):
        zero = Number(zeros[group])
        total = NONE
        for i in range(group * width, min((group + 1) * width, x.size // 2)):
            total += x[2 * i] * (Number(pairs[i] & 15) - zero) + x[2 * i + 1] * (Number(pairs[i] >> 4) - zero)
        whole += total * scales[group]
    if x.size % 2:
        i = x.size // 2
        whole += x[2 * i] * (Number(pairs[i] & 15) - Number(zeros[i // width])) * scales[i // width]
    return whole


@compiled()
def _int8(step: Array, first: int, count: int, digits: Array, sums: Array, b: int, out: Array, unit: Number) -> None:
    """ROWS rows at a time by digits: `unit * scale * sum(code * x)`, where the sum is an exact integer."""
    if WIDTH:
        plane, scales = step[C.STRIDE], float32_at(step[C.SCALE] + 4 * first, count)
        columns, found = plane // 4 * 4, np.empty(ROWS, np.int64)
        space = digits[b * PIECES * plane : (b + 1) * PIECES * plane]
        raised = np.int64(0)  # codes are multiplied as code + 128
        for piece in range(PIECES - 1, -1, -1):
            raised = raised * 256 + 128 * sums[b * PIECES + piece]
        for o in range(0, count, ROWS):
            base, rows = step[C.WEIGHT] + (first + o) * plane, min(ROWS, count - o)
            dot_int8(base, plane, rows, space.ctypes.data, plane, columns, found.ctypes.data)
            for row in range(rows):
                total = found[row] - raised
                codes = int8_at(base + row * plane, plane)
                for i in range(columns, plane):
                    x = (np.int64(space[2 * plane + i]) * 256 + space[plane + i]) * 256 + space[i]
                    total += codes[i] * x
                out[o + row] = Number(np.float64(total) * np.float64(unit)) * scales[o + row]


@compiled("reassoc")
def _int4(step: Array, first: int, count: int, digits: Array, b: int, x: Array, out: Array, unit: Number) -> None:
    """The same for int4: each group has a scale, and a zero point that is multiplied with the sum of its inputs."""
    if WIDTH:
        plane, groups = step[C.STRIDE], step[C.GROUPS]
        width, shift = 2 * plane // groups, 0
        while 1 << shift < width:
            shift += 1
        parts, totals, found = 2 * WIDTH >> shift, np.zeros(groups, Number), np.empty(ROWS, Number)
        for group in range(groups):
            part = x[group * width : min((group + 1) * width, x.size)]
            total = NONE
            for i in range(part.size):
                total += part[i]
            totals[group] = total
        space = digits[b * 2 * PIECES * plane : (b + 1) * 2 * PIECES * plane].ctypes.data
        for o in range(0, count, ROWS):
            scales = step[C.SCALE] + 4 * (first + o) * groups
            base, rows, place = step[C.WEIGHT] + (first + o) * plane, min(ROWS, count - o), found.ctypes.data
            if parts == 4:
                dot_int4_4(base, plane, rows, space, scales, groups, shift, place)
            elif parts == 2:
                dot_int4_2(base, plane, rows, space, scales, groups, shift, place)
            else:
                dot_int4_1(base, plane, rows, space, scales, groups, shift, place)
            for row in range(rows):
                its, zeros = (
                    float32_at(scales + 4 * row * groups, groups),
                    uint8_at(step[C.ZERO] + (first + o + row) * groups, groups),
                )
                shifted = NONE
                for group in range(groups):
                    shifted += its[group] * Number(zeros[group]) * totals[group]
                out[o + row] = found[row] * unit - shifted
