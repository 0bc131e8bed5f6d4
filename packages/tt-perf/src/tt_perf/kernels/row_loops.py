"""Beside module 18: loops over rows, and formulas of several ops in one loop, written to be compiled as `loops.py` is.

Softmax, its logarithm, RMS normalization, cross entropy with all options, the sum of rows for each id (the gradient of
an embedding), dropout, SiLU and rotary positions are kernels of ops. `bias_gelu` computes what two ops compute one
after the other: what goes through memory once for each op goes through once for both.
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.acceleration.loops import ONE, ZERO, Number, exp_below_0, gelu_tanh, total_of
from tt_perf.kernels.arrays import In1, In2, Labels, Out1, Out2, Out4, StridedIn4, any_order
from tt_perf.kernels.attention_loops import exponentials, largest_of, product_of, scale_row, subtract
from tt_perf.kernels.views import line

_CHUNK = 4096
"""Numbers whose exponentials are computed at a time, in the first-level cache; short rows share a loop."""
_INFINITE = Number(np.inf)

# --- softmax


def _copy(x: Array, out: Array) -> None:
    for j in range(x.size):
        out[j] = x[j]


def softmax(x: In2, out: Out2) -> bool:
    """`exp(x - max) / sum`, for each row; False if the largest of a row, or a number, is not finite."""
    rows, columns = x.shape
    step = max(1, _CHUNK // columns)
    for start in range(0, rows, step):
        end = min(start + step, rows)
        for i in range(start, end):
            _copy(line(x, i), line(out, i))
            peak = largest_of(line(x, i))
            if not abs(peak) < _INFINITE:
                return False
            subtract(line(out, i), peak)
        exponentials(out[start:end].reshape(-1))
        for i in range(start, end):
            total = total_of(line(out, i))
            if not total < _INFINITE:
                return False
            scale_row(line(out, i), ONE / total)
    return True


def log_softmax(x: In2, out: Out2) -> bool:
    """`x - max - log(sum(exp(x - max)))`, for each row; False as in `softmax`."""
    rows, columns = x.shape
    step = max(1, _CHUNK // columns)
    room = np.empty(min(step, rows) * columns, np.float32)
    for start in range(0, rows, step):
        end = min(start + step, rows)
        part = room[: (end - start) * columns].reshape(end - start, columns)
        for i in range(start, end):
            _copy(line(x, i), line(out, i))
            peak = largest_of(line(x, i))
            if not abs(peak) < _INFINITE:
                return False
            subtract(line(out, i), peak)
            _copy(line(out, i), line(part, i - start))
        exponentials(part.reshape(-1))
        for i in range(start, end):
            total = total_of(line(part, i - start))
            if not total < _INFINITE:
                return False
            subtract(line(out, i), np.log(total))
    return True


def softmax_backward(g: In2, out: In2, result: Out2) -> None:
    """`out (g - sum(g out))`, for each row."""
    for i in range(g.shape[0]):
        total = product_of(line(g, i), line(out, i))
        for j in range(g.shape[1]):
            result[i, j] = out[i, j] * (g[i, j] - total)


def log_softmax_backward(g: In2, out: In2, result: Out2) -> None:
    """`g - exp(out) sum(g)`, for each row."""
    for i in range(g.shape[0]):
        total = total_of(line(g, i))
        for j in range(g.shape[1]):
            result[i, j] = g[i, j] - exp_below_0(out[i, j]) * total


# --- RMS normalization


@any_order
def rms_norm(x: In2, weight: In1, eps: Number, out: Out2, rstd: Out2) -> None:
    """`x rstd weight` with `rstd = 1 / sqrt(mean(x^2) + eps)`, for each row; `rstd` is (rows, 1)."""
    rows, columns = x.shape
    each = ONE / Number(columns)
    for i in range(rows):
        squares = ZERO
        for j in range(columns):
            squares += x[i, j] * x[i, j]
        scale = ONE / np.sqrt(squares * each + eps)
        for j in range(columns):
            out[i, j] = x[i, j] * scale * weight[j]
        rstd[i, 0] = scale


@any_order
def rms_norm_backward(g: In2, x: In2, rstd: In2, weight: In1, dx: Out2, dweight: Out1) -> None:
    """`dx = rstd (u - n mean(u n))` with u = g weight and n = x rstd; adds `g n` to `dweight`."""
    rows, columns = x.shape
    each = ONE / Number(columns)
    for i in range(rows):
        scale, projection = rstd[i, 0], ZERO
        for j in range(columns):
            n = x[i, j] * scale
            projection += g[i, j] * weight[j] * n
            dweight[j] += g[i, j] * n
        projection *= each
        for j in range(columns):
            dx[i, j] = scale * (g[i, j] * weight[j] - x[i, j] * scale * projection)


# --- cross entropy with weights of classes, classes that do not count, and smoothed labels


def shared_cross_entropy(
    x: In2, labels: Labels, weight: In1, ignored: int, smoothing: Number,
    loss: Out1, counted: Out1, peak: Out1, total: Out1,
) -> bool:  # fmt: skip
    """`-sum(share log(softmax(x)))` of each row.

    The share of a class is `weight smoothing / C`, and for the label `weight (1 - smoothing)` more. `counted` is the
    weight of the label. Loss and weight are 0 where the label is `ignored`. False at a label that is no class, and
    where a number is not finite.
    """
    rows, classes = x.shape
    shifted, room = np.empty(classes, np.float32), np.empty(classes, np.float32)
    spread = smoothing / Number(classes)
    all_weights = total_of(weight)
    for i in range(rows):
        largest = largest_of(line(x, i))
        _copy(line(x, i), shifted)
        subtract(shifted, largest)
        _copy(shifted, room)
        exponentials(room)
        sums = total_of(room)
        if not sums + abs(largest) < _INFINITE:
            return False
        peak[i], total[i] = largest, sums
        label = labels[i]
        if label == ignored:
            loss[i] = counted[i] = ZERO
            continue
        if label < 0 or label >= classes:
            return False
        log_sum = np.log(sums)
        counted[i] = weight[label]
        value = (ONE - smoothing) * weight[label] * (log_sum - shifted[label])
        if smoothing > ZERO:
            value += spread * (all_weights * log_sum - product_of(weight, shifted))
        if not abs(value) < _INFINITE:
            return False
        loss[i] = value
    return True


def shared_cross_entropy_backward(
    g: In1, x: In2, labels: Labels, weight: In1, ignored: int, smoothing: Number, peak: In1, total: In1, out: Out2
) -> bool:
    """`g (softmax(x) sum(shares) - shares)` of each row, shares as in forward; False at a label that is no class."""
    rows, classes = x.shape
    spread = smoothing / Number(classes)
    all_weights = total_of(weight)
    for i in range(rows):
        label = labels[i]
        if label == ignored:
            out[i, :] = ZERO
            continue
        if label < 0 or label >= classes:
            return False
        sharp = (ONE - smoothing) * weight[label]
        factor = g[i] * (sharp + spread * all_weights) / total[i]
        flat = g[i] * spread
        for j in range(classes):
            out[i, j] = exp_below_0(x[i, j] - peak[i]) * factor - flat * weight[j]
        out[i, label] -= g[i] * sharp
    return True


# --- embedding and dropout


def add_rows(g: In2, ids: Labels, out: Out2) -> bool:
    """Adds each row of `g` to the row of `out` that its id names, in order; False at an id that has no row."""
    for i in range(g.shape[0]):
        row = ids[i]
        if row < 0 or row >= out.shape[0]:
            return False
        source, target = line(g, i), line(out, row)
        for j in range(source.size):
            target[j] += source[j]
    return True


def dropout(x: In1, p: Number, factor: Number, scale: Out1, out: Out1) -> None:
    """`x scale`, where `scale` becomes `factor` if the number drawn in it is at least p, and 0 otherwise."""
    for i in range(x.size):
        scale[i] = factor if scale[i] >= p else ZERO
        out[i] = x[i] * scale[i]


# --- of Llama's layers


def silu(x: In1, out: Out1) -> None:
    """`x sigmoid(x)`."""
    for i in range(x.size):
        e = exp_below_0(-abs(x[i]))
        out[i] = x[i] * ((ONE if x[i] > ZERO else e) / (ONE + e))


def silu_backward(g: In1, x: In1, out: Out1) -> None:
    """`g s (1 + x (1 - s))` with `s = sigmoid(x)`; both s and 1 - s come from one exponential."""
    for i in range(x.size):
        e = exp_below_0(-abs(x[i]))
        near, far = ONE / (ONE + e), e / (ONE + e)
        s, rest = (near, far) if x[i] > ZERO else (far, near)
        out[i] = g[i] * s * (ONE + x[i] * rest)


def rotary(x: StridedIn4, cos: In2, sin: In2, out: Out4, first: int, last: int) -> None:
    """`(a cos - b sin, b cos + a sin)` for the halves a and b of each row, for heads `first` to `last` of all B * H."""
    heads = x.shape[1]
    for pair in range(first, last):
        given, result = x[pair // heads, pair % heads], out[pair // heads, pair % heads]
        for t in range(x.shape[2]):
            row, turned, c, s = line(given, t), line(result, t), line(cos, t), line(sin, t)
            half = c.size
            for j in range(half):
                turned[j] = row[j] * c[j] - row[half + j] * s[j]
                turned[half + j] = row[half + j] * c[j] + row[j] * s[j]


# --- several ops in one loop


def bias_gelu(x: Out2, bias: In1, out: Out2) -> None:
    """`x += bias` in place, which the gradient needs, and `out = gelu(x)` in its tanh form."""
    for i in range(x.shape[0]):
        row = line(x, i)
        for j in range(row.size):
            row[j] += bias[j]
        gelu_tanh(row, line(out, i))
