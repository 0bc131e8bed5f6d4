"""Beside module 18: the product of two matrices by tiles, which `products.py` compiles and shares over the cores.

This is what BLAS does (Goto and van de Geijn 2008): a *panel*, a few columns of `b`, is copied so that its rows lie one
after the other and stay in the first-level cache; then each `ROWS` rows of `a` are multiplied by it, where they lie.
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.kernels.arrays import In1, Out2, StridedIn2
from tt_perf.kernels.tiles import LANES, ROWS, tiles

Number = np.float32
Place = np.uint64
ZERO = Number(0)

PANEL = 2 * LANES
"""Columns of a panel: those of a tile."""
DEEP = 256
"""Rows of a panel: 32 kB with vectors of 512 bits."""

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
    places, rows = np.arange(LANES) * PANEL, np.arange(ROWS) * down
    last_rows = np.minimum(np.arange(ROWS), (end - begin - 1) % ROWS) * down
    results = out.reshape(-1)
    for p in range(first, last):
        left = p * PANEL
        some = min(PANEL, columns - left)
        for i in range(begin, end):
            at = Place(i * columns + left)
            for j in range(Place(some)):
                results[at + j] = bias[Place(left) + j]
        for top in range(0, depth, DEEP):
            deep = min(DEEP, depth - top)
            pack(b, top, deep, left, some, places, panel)
            for i in range(begin, end, ROWS):
                high, place = min(ROWS, end - i), i * down + top * right
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
