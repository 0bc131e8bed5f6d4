"""Beside module 18: sums as loops over numbers, which `jit.py` compiles.

A few hundred numbers at a time are added in float32, in vectors, and their sums in float64. So a long sum is as exact
as NumPy's pairwise one, or more so, in one pass over memory.
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.kernels.arrays import In2, In3, Out1, Out2, any_order
from tt_perf.kernels.views import line

Number = np.float32
Place = np.uint64
ZERO = Number(0)
ROW = 512
"""Numbers of a row that are added in float32."""
ROWS = 32
"""Rows that are added in float32."""


@any_order
def part_of(x: Array, begin: int, end: int) -> Number:
    """The sum of numbers `begin` to `end`."""
    total = ZERO
    for i in range(Place(begin), Place(end)):
        total += x[i]
    return total


def row_sums(x: In2, out: Out1) -> None:
    """The sum of each row."""
    columns = x.shape[1]
    for i in range(len(x)):
        row = line(x, i)
        if columns <= ROW:
            out[i] = part_of(row, 0, columns)
            continue
        total = np.float64(0)
        for begin in range(0, columns, ROW):
            total += np.float64(part_of(row, begin, min(begin + ROW, columns)))
        out[i] = total


def stacked_column_sums(x: In3, out: Out2, first: int, last: int) -> None:
    """The sums over the rows of each matrix, in columns `first` to `last`: (N, rows, columns) to (N, columns)."""
    matrices, rows, columns = x.shape
    numbers, results = x.reshape(-1), out.reshape(-1)
    width = Place(last - first)
    part, total = np.empty(last - first, np.float32), np.empty(last - first, np.float64)
    for n in range(matrices):
        total[:] = 0
        for begin in range(0, rows, ROWS):
            part[:] = ZERO
            for row in range(begin, min(begin + ROWS, rows)):
                at = Place((n * rows + row) * columns + first)
                for j in range(width):
                    part[j] += numbers[at + j]
            for j in range(width):
                total[j] += np.float64(part[j])
        to = Place(n * columns + first)
        for j in range(width):
            results[to + j] = total[j]
