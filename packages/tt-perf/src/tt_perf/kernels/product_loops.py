"""Beside module 18: the product of two matrices by tiles, which `products.py` compiles and shares over the cores.

This is what BLAS does (Goto and van de Geijn 2008): a *panel*, a few columns of `b`, is copied so that its rows lie one
after the other and stay in the first-level cache; then each `ROWS` rows of `a` are multiplied by it, where they lie.
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.acceleration.loops import gelu_tanh, relu_backward
from tt_perf.kernels.arrays import In1, In2, LabelsOut, Out2, StridedIn2
from tt_perf.kernels.atomics import atomics
from tt_perf.kernels.image_loops import relu
from tt_perf.kernels.team_loops import run_pieces
from tt_perf.kernels.tiles import LANES, ROWS, tiles
from tt_perf.kernels.views import line

Number = np.float32
Place = np.uint64
ZERO = Number(0)

PANEL = 2 * LANES
"""Columns of a panel: those of a tile."""
DEEP = 256
"""Rows of a panel: 32 kB with vectors of 512 bits."""

integers_at, matrix_at, numbers_at = atomics()["integers_at"], atomics()["matrix_at"], tiles()["numbers_at"]
gram_tile, transpose_tile = tiles()["gram_tile"], tiles()["transpose_tile"]


def pack(b: Array, top: int, rows: int, left: int, columns: int, places: Array, panel: Array) -> None:
    """Copy rows and columns of `b` into a panel, whose other columns are 0."""
    down, right = b.strides[0] // 4, b.strides[1] // 4
    if columns < PANEL:
        panel[:] = ZERO
    whole = (0, 0)
    if down == 1 and right > 1:  # a transposed matrix: squares are turned in registers
        whole = (rows // LANES * LANES, columns // LANES * LANES)
        for j in range(0, whole[1], LANES):
            for i in range(0, whole[0], LANES):
                transpose_tile(b, (left + j) * right + top + i, right, panel, i * PANEL + j, places)
    for i in range(rows):
        to = Place(i * PANEL)
        begin = whole[1] if i < whole[0] else 0
        for j in range(Place(begin), Place(columns)):
            panel[to + j] = b[Place(top + i), Place(left) + j]


def matrix_product(
    a: StridedIn2, b: StridedIn2, bias: In1, out: Out2, first: int, last: int, begin: int, end: int
) -> None:
    """`out = a b + bias` in rows `begin` to `end` and in the columns of panels `first` to `last`.

    `a` (m, k) and `b` (k, n) may have any strides, `out` (m, n) and `bias` (n,) are contiguous.
    """
    depth, columns = b.shape
    down, right = a.strides[0] // 4, a.strides[1] // 4
    panel, edge = np.empty(DEEP * PANEL, np.float32), np.empty(ROWS * PANEL, np.float32)
    places, rows, results = np.arange(LANES) * PANEL, np.arange(ROWS) * down, out.reshape(-1)
    last_rows = np.minimum(np.arange(ROWS), (end - begin - 1) % ROWS) * down
    for top in range(0, depth, DEEP):
        deep = min(DEEP, depth - top)
        for p in range(first, last):
            left = p * PANEL
            some = min(PANEL, columns - left)
            pack(b, top, deep, left, some, places, panel)
            for i in range(begin, end, ROWS):
                high, place = min(ROWS, end - i), i * down + top * right
                if top == 0:
                    for r in range(i, i + high):
                        at = Place(r * columns + left)
                        for j in range(Place(some)):
                            results[at + j] = bias[Place(left) + j]
                if high == ROWS and some == PANEL:
                    gram_tile(a, place, rows, right, panel, 0, PANEL, deep, results, i * columns + left, columns)
                else:
                    edge[:] = ZERO
                    which = rows if high == ROWS else last_rows
                    gram_tile(a, place, which, right, panel, 0, PANEL, deep, edge, 0, PANEL)
                    for r in range(high):
                        to = Place((i + r) * columns + left)
                        for j in range(Place(some)):
                            results[to + j] += edge[Place(r * PANEL) + j]


def tools() -> tuple[Array, Array, Array, Array]:
    """The memory that `strided_product` works in: a panel, a tile, places of rows, places of transposed squares."""
    places = np.empty(2 * ROWS, np.int64), np.arange(LANES) * PANEL
    return np.empty(DEEP * PANEL, np.float32), np.empty(ROWS * PANEL, np.float32), places[0], places[1]


def strided_product(
    a: Array, b: Array, out: Array, scale: Number, adds: bool, given: tuple[Array, Array, Array, Array]
) -> None:
    """`out = scale a b`, or with `adds` `out += scale a b`, for small matrices whose rows or columns are contiguous.

    `out` has contiguous rows. Rows of `b` are read where they lie, if they fill panels.
    """
    panel, edge, places, turns = given
    (m, depth), columns = a.shape, b.shape[1]
    down, right, ld, ldb = a.strides[0] // 4, a.strides[1] // 4, out.strides[0] // 4, b.strides[0] // 4
    for r in range(ROWS):
        places[r], places[ROWS + r] = r * down, min(r, (m - 1) % ROWS) * down
    if not adds:
        for i in range(m):
            line(out, i)[:] = ZERO
    results = numbers_at(out.ctypes.data, (m - 1) * ld + columns)
    direct = b.strides[1] == 4 and scale == Number(1) and columns % PANEL == 0
    source, start, step = panel, 0, PANEL
    if direct:
        source, step = numbers_at(b.ctypes.data, (depth - 1) * ldb + columns), ldb
    for top in range(0, depth, DEEP):
        deep = min(DEEP, depth - top)
        for left in range(0, columns, PANEL):
            some = min(PANEL, columns - left)
            if direct:
                start = top * ldb + left
            else:
                pack(b, top, deep, left, some, turns, panel)
                if scale != Number(1):
                    for i in range(deep * PANEL):
                        panel[i] *= scale
            for i in range(0, m, ROWS):
                high = min(ROWS, m - i)
                whole = high == ROWS and some == PANEL
                place = i * down + top * right
                if whole:
                    gram_tile(a, place, places, right, source, start, step, deep, results, i * ld + left, ld)
                else:
                    edge[:] = ZERO
                    rows = places[:ROWS] if high == ROWS else places[ROWS:]
                    gram_tile(a, place, rows, right, source, start, step, deep, edge, 0, PANEL)
                    for r in range(high):
                        result, at = line(out, i + r), Place(r * PANEL)
                        for j in range(Place(some)):
                            result[Place(left) + j] += edge[at + j]


NOTHING, GELU, RELU, RELU_BACKWARD = range(4)
"""What follows a product: gelu(product), relu(product), or the product where another matrix is not 0."""


def follow(what: int, x: In2, other: In2, out: Out2, top: int, bottom: int, left: int, right: int) -> None:
    """What follows the product `x`, in a block of rows and columns."""
    for i in range(top, bottom):
        row, result = line(x, i)[left:right], line(out, i)[left:right]
        if what == GELU:
            gelu_tanh(row, result)
        elif what == RELU:
            relu(row, result)
        else:
            relu_backward(row, line(other, i)[left:right], result)


def product_job(
    mail: LabelsOut, function: int, pieces: int, by_rows: bool, a: StridedIn2, b: StridedIn2, bias: In1, out: Out2,
    what: int, other: In2, result: Out2,
) -> None:  # fmt: skip
    """`out = a b + bias` and what follows, in pieces that the helpers take as well; `function` is `product_piece`."""
    (m, k), n = a.shape, b.shape[1]
    numbers = np.empty(16, np.int64)
    numbers[0], numbers[1], numbers[2], numbers[3] = m, k, n, pieces
    numbers[4], numbers[5], numbers[6] = a.ctypes.data, a.strides[0] // 4, a.strides[1] // 4
    numbers[7], numbers[8], numbers[9] = b.ctypes.data, b.strides[0] // 4, b.strides[1] // 4
    numbers[10], numbers[11], numbers[12], numbers[13] = bias.ctypes.data, out.ctypes.data, by_rows, what
    numbers[14], numbers[15] = other.ctypes.data, result.ctypes.data
    run_pieces(mail, function, numbers, pieces)


def product_piece(arguments: int, piece: int) -> None:
    """A piece of a `product_job`."""
    given = integers_at(arguments, 16)
    m, k, n, pieces = given[0], given[1], given[2], given[3]
    a = matrix_at(given[4], m, k, given[5], given[6])
    b = matrix_at(given[7], k, n, given[8], given[9])
    bias, out = numbers_at(given[10], n), numbers_at(given[11], m * n).reshape(m, n)
    panels = (n + PANEL - 1) // PANEL
    first, last, begin, end = 0, panels, 0, m
    if given[12]:  # rows are split; each piece copies all panels
        steps = m // ROWS
        begin, end = piece * steps // pieces * ROWS, (piece + 1) * steps // pieces * ROWS
        if piece == pieces - 1:
            end = m
    else:
        first, last = piece * panels // pieces, (piece + 1) * panels // pieces
    matrix_product(a, b, bias, out, first, last, begin, end)
    if given[13] != NOTHING:
        other, result = numbers_at(given[14], m * n).reshape(m, n), numbers_at(given[15], m * n).reshape(m, n)
        follow(given[13], out, other, result, begin, end, first * PANEL, min(n, last * PANEL))
