"""Beside module 18: steps of optimizers as loops over numbers, which `jit.py` compiles.

A group of parameters is a table of rows. Row r has `begins[r + 1] - begins[r]` numbers: the parameter at the address
`p[r]`, its gradient at `g[r]`, its state from `starts[r]` in arrays over all parameters of the group. Numbers `first`
to `last` of all rows together are one thread's share. So a step of many small parameters is one call a core.

Numbers are float32; parameters and states change in place. What this file does not do: check, or hold the arrays.
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.kernels.arrays import In1, Labels, LabelsOut, Out1, as_written
from tt_perf.kernels.atomics import atomics
from tt_perf.kernels.team_loops import run_pieces
from tt_perf.kernels.tiles import tiles

Number = np.float32
ZERO, ONE = Number(0), Number(1)
WHOLE = 256
"""A multiple of the numbers that a compiled loop computes at a time."""

integers_at, numbers_at = atomics()["integers_at"], tiles()["numbers_at"]


@as_written
def decayed(g: Number, p: Number, decay: Number) -> Number:
    """`g + decay p`, and `g` without decay also where p is infinite: 0 times that would be nan."""
    return g + decay * p if decay != ZERO else g


@as_written
def adam(p: Array, g: Array, m: Array, v: Array, largest: Array, amsgrad: bool, how: Array) -> None:
    """`m += rate1 (d - m)`, `v = beta2 v + rate2 d^2`, `p = shrink p - lr m / (sqrt(v) + eps)`, d = sign g + decay p.

    The rates are 1 - beta, which float32 would round to five digits; bias corrections are in `eps` and `lr`. With
    `amsgrad`, the largest v so far takes the place of v.
    """
    rate1, beta2, rate2, eps = how[0], how[1], how[2], how[3]
    lr, decay, shrink, sign = how[4], how[5], how[6], how[7]
    if amsgrad:
        for i in range(p.size):
            d = decayed(sign * g[i], p[i], decay)
            m[i] += (d - m[i]) * rate1
            v[i] = v[i] * beta2 + d * d * rate2
            largest[i] = v[i] if not v[i] <= largest[i] else largest[i]
            p[i] = p[i] * shrink - lr * (m[i] / (np.sqrt(largest[i]) + eps))
    else:
        for i in range(p.size):
            d = decayed(sign * g[i], p[i], decay)
            m[i] += (d - m[i]) * rate1
            v[i] = v[i] * beta2 + d * d * rate2
            p[i] = p[i] * shrink - lr * (m[i] / (np.sqrt(v[i]) + eps))


@as_written
def sgd(p: Array, g: Array, how: Array) -> None:
    """`p -= lr (sign g + decay p)`."""
    lr, decay, sign = how[0], how[1], how[2]
    for i in range(p.size):
        p[i] -= lr * decayed(sign * g[i], p[i], decay)


@as_written
def sgd_momentum(p: Array, g: Array, b: Array, how: Array, nesterov: bool) -> None:
    """`b = momentum b + fresh d` and `p -= lr b`, or `p -= lr (d + ahead b)` with `nesterov`; d = sign g + decay p."""
    lr, decay, sign = how[0], how[1], how[2]
    momentum, fresh, ahead = how[3], how[4], how[5]
    for i in range(p.size):
        d = decayed(sign * g[i], p[i], decay)
        b[i] = momentum * b[i] + fresh * d
        p[i] -= lr * (d + ahead * b[i] if nesterov else b[i])


def edge(at: int, begin: int, end: int) -> int:
    """Where a share that is cut at `at` is cut in a row: a number of whole vectors after the row begins.

    A vector and the single numbers at the end of a loop may round differently, so cutting elsewhere changes bits.
    """
    return begin + (at - begin) // WHOLE * WHOLE if begin < at < end else min(max(at, begin), end)


def adam_group(
    ps: Labels,
    gs: Labels,
    begins: Labels,
    starts: Labels,
    m: Out1,
    v: Out1,
    largest: Out1,
    amsgrad: bool,
    how: In1,
    first: int,
    last: int,
) -> None:
    """`adam` for numbers `first` to `last` of all rows; `largest` is read with `amsgrad` only."""
    for row in range(len(starts)):
        begin, end = edge(first, begins[row], begins[row + 1]), edge(last, begins[row], begins[row + 1])
        if begin < end:
            skipped, count = begin - begins[row], end - begin
            p, g = numbers_at(ps[row] + 4 * skipped, count), numbers_at(gs[row] + 4 * skipped, count)
            at = starts[row] + skipped
            other = largest[at : at + count] if amsgrad else largest
            adam(p, g, m[at : at + count], v[at : at + count], other, amsgrad, how)


def sgd_group(
    ps: Labels,
    gs: Labels,
    begins: Labels,
    starts: Labels,
    b: Out1,
    momentum: bool,
    nesterov: bool,
    how: In1,
    first: int,
    last: int,
) -> None:
    """`sgd`, or with `momentum` `sgd_momentum`, for numbers `first` to `last` of all rows."""
    for row in range(len(starts)):
        begin, end = edge(first, begins[row], begins[row + 1]), edge(last, begins[row], begins[row + 1])
        if begin < end:
            skipped, count = begin - begins[row], end - begin
            p, g = numbers_at(ps[row] + 4 * skipped, count), numbers_at(gs[row] + 4 * skipped, count)
            at = starts[row] + skipped
            if momentum:
                sgd_momentum(p, g, b[at : at + count], how, nesterov)
            else:
                sgd(p, g, how)


# --- shared out over the cores


def adam_job(
    mail: LabelsOut, function: int, pieces: int, ps: Labels, gs: Labels, begins: Labels, starts: Labels,
    m: Out1, v: Out1, largest: Out1, amsgrad: bool, how: In1,
) -> None:  # fmt: skip
    """`adam_group` for all numbers, in pieces that the helpers take as well; `function` is `adam_piece`."""
    a = np.empty(12, np.int64)
    a[0], a[1], a[2], a[3] = ps.ctypes.data, gs.ctypes.data, begins.ctypes.data, starts.ctypes.data
    a[4], a[5], a[6], a[7] = m.ctypes.data, v.ctypes.data, largest.ctypes.data, how.ctypes.data
    a[8], a[9], a[10], a[11] = len(starts), m.size, amsgrad, pieces
    run_pieces(mail, function, a, pieces)


def adam_piece(arguments: int, piece: int) -> None:
    """A piece of an `adam_job`."""
    a = integers_at(arguments, 12)
    rows, size, pieces = a[8], a[9], a[11]
    begins = integers_at(a[2], rows + 1)
    table = integers_at(a[0], rows), integers_at(a[1], rows), begins, integers_at(a[3], rows)
    states = numbers_at(a[4], size), numbers_at(a[5], size), numbers_at(a[6], size)
    first, last = piece * begins[rows] // pieces, (piece + 1) * begins[rows] // pieces
    adam_group(*table, *states, a[10] != 0, numbers_at(a[7], 8), first, last)


def sgd_job(
    mail: LabelsOut, function: int, pieces: int, ps: Labels, gs: Labels, begins: Labels, starts: Labels,
    b: Out1, momentum: bool, nesterov: bool, how: In1,
) -> None:  # fmt: skip
    """`sgd_group` for all numbers, in pieces that the helpers take as well; `function` is `sgd_piece`."""
    a = np.empty(11, np.int64)
    a[0], a[1], a[2], a[3] = ps.ctypes.data, gs.ctypes.data, begins.ctypes.data, starts.ctypes.data
    a[4], a[5], a[6], a[7], a[8] = b.ctypes.data, how.ctypes.data, len(starts), b.size, momentum
    a[9], a[10] = nesterov, pieces
    run_pieces(mail, function, a, pieces)


def sgd_piece(arguments: int, piece: int) -> None:
    """A piece of an `sgd_job`."""
    a = integers_at(arguments, 11)
    rows, pieces = a[6], a[10]
    begins = integers_at(a[2], rows + 1)
    table = integers_at(a[0], rows), integers_at(a[1], rows), begins, integers_at(a[3], rows)
    first, last = piece * begins[rows] // pieces, (piece + 1) * begins[rows] // pieces
    sgd_group(*table, numbers_at(a[4], a[7]), a[8] != 0, a[9] != 0, numbers_at(a[5], 6), first, last)
