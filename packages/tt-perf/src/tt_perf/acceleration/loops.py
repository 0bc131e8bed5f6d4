"""Part of module 18: formulas as loops over single numbers, which `jit.py` compiles.

NumPy goes through memory once for each operation of a formula; a loop goes through it once for all of them, and keeps
what is between in registers. Plain Python runs these loops too, some thousand times slower, so they can be read, tested
and stepped through without a compiler.

Arrays are C-contiguous float32: x[i] of one dimension for formulas of single elements, x[row, column] where rows are
normalized. Numbers are float32 as well: a Python number beside them would make a compiled formula one of float64, at
half the speed. What this file does not do: check, allocate results, or know about threads.
"""

from __future__ import annotations

import math

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.kernels.arrays import (
    Bytes2,
    In1,
    In2,
    In3,
    Int8_2,
    Int16_2,
    Labels,
    Out1,
    Out2,
    StridedInt32Out2,
    StridedOut2,
    any_order,
)

Number = np.float32

ZERO, ONE = Number(0), Number(1)

# --- the exponential function: 2^n e^r with n whole and |r| <= log(2) / 2, e^r by a polynomial (Moshier 1989, Cephes)

_SMALLEST = Number(-87.33654)  # below, e^x is no normal number
_PER_LN2 = Number(1 / math.log(2))
_LN2_HIGH, _LN2_LOW = Number(0.693359375), Number(-2.12194440e-4)  # their sum; n times the first is exact
_ROUND = Number(1.5 * 2**23)  # added and taken off again, it leaves no digits behind the point
_C0, _C1, _C2 = Number(1.9875691500e-4), Number(1.3981999507e-3), Number(8.3334519073e-3)
_C3, _C4, _C5 = Number(4.1665795894e-2), Number(1.6666665459e-1), Number(5.0000001201e-1)


def exp_below_0(x: Number) -> Number:
    """`e^x` for x <= 0, to 2e-7 of itself; 0 where it is no normal number any more."""
    n = (x * _PER_LN2 + _ROUND) - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = ((((_C0 * r + _C1) * r + _C2) * r + _C3) * r + _C4) * r + _C5
    power = np.int32((np.int32(n) + 127) << 23).view(np.float32)  # 2^n by its bits
    return ZERO if x < _SMALLEST else (p * r * r + r + ONE) * power


# --- activations

_TWO_ROOT = Number(2 * math.sqrt(2 / math.pi))
_CUBIC = Number(0.044715)
_THREE_CUBIC = Number(3 * 0.044715)
_SATURATED = Number(16)  # beyond it the gate is 0 or 1 and its slope 0, which infinity times 0 is not


def gelu_tanh(x: In1, out: Out1) -> None:
    """`x gate`, where the gate is `(1 + tanh(u / 2)) / 2 = 1 / (1 + e^-u)` with `u = 2 sqrt(2/pi) (x + 0.0447 x^3)`."""
    for i in range(x.size):
        u = _TWO_ROOT * (x[i] + _CUBIC * x[i] * x[i] * x[i])
        e = exp_below_0(-abs(u))
        out[i] = x[i] * ((ONE if u > ZERO else e) / (ONE + e))


def gelu_tanh_backward(g: In1, x: In1, out: Out1) -> None:
    """`g (gate + x gate (1 - gate) u')`."""
    for i in range(x.size):
        u = _TWO_ROOT * (x[i] + _CUBIC * x[i] * x[i] * x[i])
        e = exp_below_0(-abs(u))
        share = ONE / (ONE + e)
        near = min(max(x[i], -_SATURATED), _SATURATED)
        slope = e * share * share * _TWO_ROOT * (ONE + _THREE_CUBIC * near * near)
        out[i] = g[i] * ((share if u > ZERO else e * share) + x[i] * slope)  # nan at infinity, as the formula


def relu_backward(g: In1, result: In1, out: Out1) -> None:
    """`g` where the result is above 0, or nan."""
    for i in range(g.size):
        out[i] = g[i] if result[i] != ZERO else ZERO


# --- layer normalization


@any_order
def layer_norm(x: In2, weight: In1, bias: In1, eps: Number, out: Out2, mean: Out2, rstd: Out2) -> None:
    """Rows of mean 0 and variance 1, scaled and shifted; `mean` and `rstd`, (rows, 1), are kept for the gradient."""
    rows, columns = x.shape
    each = ONE / Number(columns)
    for i in range(rows):
        total = ZERO
        for j in range(columns):
            total += x[i, j]
        middle = total * each
        squares = ZERO
        for j in range(columns):
            squares += (x[i, j] - middle) * (x[i, j] - middle)
        scale = ONE / np.sqrt(squares * each + eps)
        for j in range(columns):
            out[i, j] = (x[i, j] - middle) * scale * weight[j] + bias[j]
        mean[i, 0], rstd[i, 0] = middle, scale


@any_order
def layer_norm_backward(
    g: In2, x: In2, mean: In2, rstd: In2, weight: In1, dx: Out2, dweight: Out1, dbias: Out1
) -> None:
    """`dx = rstd (u - mean(u) - n mean(u n))` with u = g weight and n = (x - mean) rstd; adds to `dweight`, `dbias`."""
    rows, columns = x.shape
    each = ONE / Number(columns)
    for i in range(rows):
        middle, scale = mean[i, 0], rstd[i, 0]
        total, projection = ZERO, ZERO
        for j in range(columns):
            n, u = (x[i, j] - middle) * scale, g[i, j] * weight[j]
            total += u
            projection += u * n
            dweight[j] += g[i, j] * n
            dbias[j] += g[i, j]
        total, projection = total * each, projection * each
        for j in range(columns):
            n = (x[i, j] - middle) * scale
            dx[i, j] = scale * (g[i, j] * weight[j] - total - n * projection)


# --- cross entropy


@any_order
def total_of(x: Array) -> Number:
    """The sum of a row; apart from what rests on the order of its operations, since this may be added in any."""
    total = ZERO
    for i in range(x.size):
        total += x[i]
    return total


def cross_entropy(x: In2, labels: Labels, loss: Out1, peak: Out1, total: Out1) -> bool:
    """`log(sum(exp(x))) - x[label]` of each row; False, with nothing said of the rest, at a label that is no class."""
    rows, classes = x.shape
    exponentials = np.empty(classes, np.float32)
    for i in range(rows):
        if labels[i] < 0 or labels[i] >= classes:
            return False
        largest = x[i, 0]
        nans = False
        for j in range(classes):
            largest = max(largest, x[i, j])
            nans |= x[i, j] != x[i, j]
        if nans:  # which max and exp_below_0 do not pass on
            largest = np.float32(np.nan)
        for j in range(classes):
            exponentials[j] = exp_below_0(x[i, j] - largest)
        peak[i], total[i] = largest, total_of(exponentials) + (largest - largest)  # nan for infinities too
        loss[i] = np.log(total[i]) - (x[i, labels[i]] - largest)
    return True


def cross_entropy_backward(x: In2, labels: Labels, peak: In1, total: In1, g: Number, out: Out2) -> bool:
    """`g (softmax(x) - onehot(label))` of each row; False at a label that is no class."""
    rows, classes = x.shape
    for i in range(rows):
        if labels[i] < 0 or labels[i] >= classes:
            return False
        share = g / total[i]
        for j in range(classes):
            out[i, j] = exp_below_0(x[i, j] - peak[i]) * share
        out[i, labels[i]] -= g
    return True


# --- products with few rows: the weight goes through memory as integers, and once


@any_order
def int8_linear(x: In2, codes: Int8_2, scale: In1, out: StridedOut2) -> None:
    """`x @ (codes scale).T` for x (rows, in) and int8 codes (out, in)."""
    rows, inputs = x.shape
    for o in range(codes.shape[0]):
        for r in range(rows):
            total = ZERO
            for i in range(inputs):
                total += x[r, i] * Number(codes[o, i])
            out[r, o] = total * scale[o]


@any_order
def int4_linear(x: In3, codes: Bytes2, scale: In2, zero_point: Bytes2, sums: In2, out: StridedOut2) -> None:
    """The same for codes (out, in / 2) of two numbers each, scale and zero point (out, groups).

    `x` (rows, 2, in / 2) has its even columns apart from its odd ones, `sums` (rows, groups) are its sums by group.
    """
    groups = scale.shape[1]
    width = codes.shape[1] // groups
    for o in range(codes.shape[0]):
        for r in range(x.shape[0]):
            whole = ZERO
            for group in range(groups):
                total = ZERO
                for i in range(group * width, (group + 1) * width):
                    total += x[r, 0, i] * Number(codes[o, i] & 15) + x[r, 1, i] * Number(codes[o, i] >> 4)
                whole += (total - sums[r, group] * Number(zero_point[o, group])) * scale[o, group]
            out[r, o] = whole


def integer_product(a: Int16_2, b: Int8_2, out: StridedInt32Out2) -> None:
    """`a @ b.T` in int32, which must hold the sums."""
    rows, inputs = a.shape
    for o in range(b.shape[0]):
        for r in range(rows):
            total = np.int32(0)
            for i in range(inputs):
                total = np.int32(total + np.int32(np.int32(a[r, i]) * np.int32(b[o, i])))
            out[r, o] = total
