"""Beside module 18: a step of Muon for one matrix as one loop, which `jit.py` compiles.

The Newton-Schulz iterations are matrix products, by the tiles of `product_loops.py`. Two of the three products of each
iteration are symmetric, so that half of them is computed and mirrored, which BLAS does not know of `x @ x.T`. Each
matrix is one thread's work. What this file does not do: check, or hold the arrays.
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.kernels.arrays import In2, Int64_2, Labels, Out1
from tt_perf.kernels.atomics import atomics
from tt_perf.kernels.attention_loops import product_of
from tt_perf.kernels.product_loops import PANEL, matrix_product
from tt_perf.kernels.tiles import LANES, tiles

Number = np.float32
Place = np.uint64
ZERO = Number(0)

matrix_at, numbers_at, transpose_tile = atomics()["matrix_at"], tiles()["numbers_at"], tiles()["transpose_tile"]


def transpose(x: Array, at: int, rows: int, columns: int, ld: int, out: Array, to: int, ld_out: int) -> None:
    """Write the transpose of a matrix (rows, columns) that begins at `x[at]` to `out[to]`; lines are `ld` apart."""
    places = np.arange(LANES) * ld_out
    down, right = rows // LANES * LANES, columns // LANES * LANES
    for i in range(0, down, LANES):
        for j in range(0, right, LANES):
            transpose_tile(x, at + i * ld + j, ld, out, to + j * ld_out + i, places)
    for i in range(rows):
        for j in range(right if i < down else 0, columns):
            out[to + j * ld_out + i] = x[at + i * ld + j]


def symmetric_product(a: Array, b: Array, bias: Array, out: Array) -> None:
    """`out = a b`, if that is symmetric: what is below the blocks of the diagonal is computed, the rest mirrored."""
    n, numbers = len(out), out.reshape(-1)
    for p in range((n + PANEL - 1) // PANEL):
        top, end = p * PANEL, min(n, (p + 1) * PANEL)
        matrix_product(a, b, bias, out, p, p + 1, top, n)
        transpose(numbers, end * n + top, n - end, end - top, n, numbers, top * n + end, n)


def orthogonalize(x: Array, other: Array, gram: Array, square: Array, how: Array, steps: int) -> None:
    """`x = a x + b (x x^T) x + c (x x^T)^2 x`, `steps` times, for x (rows, columns) of length 1, rows <= columns."""
    a, b, c = how[0], how[1], how[2]
    rows, columns = x.shape
    nothing = np.zeros(columns, np.float32)
    flat, results, powers, squares = x.reshape(-1), other.reshape(-1), gram.reshape(-1), square.reshape(-1)
    upright = matrix_at(x.ctypes.data, rows, columns, columns, 1)
    turned = matrix_at(x.ctypes.data, columns, rows, 1, columns)
    whole, factor = matrix_at(gram.ctypes.data, rows, rows, rows, 1), matrix_at(square.ctypes.data, rows, rows, rows, 1)
    for _ in range(steps):
        symmetric_product(upright, turned, nothing, gram)
        symmetric_product(whole, whole, nothing, square)
        for i in range(squares.size):
            squares[i] = c * squares[i] + b * powers[i]
        matrix_product(factor, upright, nothing, other, 0, (columns + PANEL - 1) // PANEL, 0, rows)
        for i in range(flat.size):
            flat[i] = a * flat[i] + results[i]


def muon(
    p: Array, g: Array, m: Array, rows: int, columns: int, nesterov: bool, steps: int, how: Array, room: Array
) -> None:
    """`m += fresh (g - m)`, `u = g + momentum (m - g)` or m, and `p = shrink p - rate orthogonalize(u / |u|)`.

    `how`: the three coefficients of the iteration, eps, fresh = 1 - momentum, momentum, shrink, rate. `room` holds two
    matrices of this size, and two of its shorter side squared.
    """
    eps, fresh, momentum, shrink, rate = how[3], how[4], how[5], how[6], how[7]
    short, long = min(rows, columns), max(rows, columns)
    size, small = p.size, short * short
    x, turned = room[:size], room[size : 2 * size]
    u, other = x.reshape(short, long), turned.reshape(short, long)
    gram = room[2 * size : 2 * size + small].reshape(short, short)
    square = room[2 * size + small : 2 * (size + small)].reshape(short, short)
    wide = rows <= columns
    first = x if wide else turned
    for i in range(p.size):
        m[i] += (g[i] - m[i]) * fresh
        first[i] = g[i] + (m[i] - g[i]) * momentum if nesterov else m[i]
    if not wide:
        transpose(turned, 0, rows, columns, columns, x, 0, rows)
    length = np.sqrt(product_of(x, x))
    length = eps if length < eps else length
    for i in range(x.size):
        x[i] /= length
    orthogonalize(u, other, gram, square, how, steps)
    if not wide:
        transpose(x, 0, short, long, long, turned, 0, short)
    direction = x if wide else turned
    for i in range(p.size):
        p[i] = p[i] * shrink - rate * direction[i]


def muon_group(
    ps: Labels,
    gs: Labels,
    begins: Labels,
    starts: Labels,
    sizes: Int64_2,
    m: Out1,
    nesterov: bool,
    steps: int,
    how: In2,
    room: Out1,
    first: int,
    last: int,
) -> None:
    """`muon` for matrices `first` to `last` of a table of rows (`update_loops.py`), of `sizes` (rows, columns)."""
    for row in range(first, last):
        count, at = begins[row + 1] - begins[row], starts[row]
        p, g = numbers_at(ps[row], count), numbers_at(gs[row], count)
        muon(p, g, m[at : at + count], sizes[row, 0], sizes[row, 1], nesterov, steps, how[row], room)
