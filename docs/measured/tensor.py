"""Numbers and pictures of lesson 01, tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

import tt_core as tt
from measured import fastest, number, picture
from measured._memory import kept_bytes
from tt_learn.svg import drawing, rectangle, text

X = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)


@number(20, 100_000, ",.0f")
def copy_times_view() -> float:
    """How many times as long it takes to copy a transposed matrix as to transpose it."""
    x = tt.from_numpy(X)
    copy, view = fastest(lambda: x.T.contiguous(), lambda: x.T)
    return copy / view


@number(0, 5000, ".0f")
def view_bytes() -> float:
    """Bytes that a transposed matrix allocates."""
    x = tt.from_numpy(X)
    return kept_bytes(lambda: x.T)


@number(4.1, 4.3, ".1f")
def copy_megabytes() -> float:
    """Megabytes that its copy allocates."""
    x = tt.from_numpy(X)
    return kept_bytes(lambda: x.T.contiguous()) / 1e6


@number(1.1, 500, ".1f")
def columns_times_rows() -> float:
    """How many times as long summing each column by itself takes as summing each row by itself."""

    def rows() -> None:
        for row in X:
            row.sum()

    def columns() -> None:
        for column in X.T:
            column.sum()

    down, across = fastest(columns, rows, rounds=9)
    return down / across


@number(20, 100_000, ",.0f")
def loops_times_product() -> float:
    """How many times as long three loops of Python take as NumPy's product, for matrices of 48 by 48."""
    a, b = X[:48, :48].copy(), X[48:96, :48].copy()
    rows, columns = a.tolist(), b.T.tolist()

    def loops() -> Any:
        return [[sum(x * y for x, y in zip(row, column, strict=True)) for column in columns] for row in rows]

    slow, fast = fastest(loops, lambda: tt.matmul.kernel(a, b), rounds=9)
    return slow / fast


@number(0, 0, ".0f")
def expanded_bytes() -> float:
    """The step in memory along a dimension that `expand` repeats."""
    return float(tt.from_numpy(X[:1]).expand(1000, 1024).stride()[0])


@picture
def strides_of_a_transpose() -> str:
    """A matrix and its transpose are the same memory, read with other steps; each cell tells its place in memory."""
    colours = ("#cfe3f5", "#f9d8c9")
    x = np.arange(6).reshape(2, 3)
    parts = [text(20, 24, "memory"), text(20, 104, "x: strides (3, 1)"), text(300, 104, "x.T: strides (1, 3)")]

    def cells(table: np.ndarray, left: int, top: int) -> None:
        for (row, column), place in np.ndenumerate(table):
            at = left + 44 * column, top + 36 * row
            parts.append(rectangle(at[0], at[1], 44, 36, colours[int(place) // 3]))
            parts.append(text(at[0] + 22, at[1] + 23, str(place), anchor="middle"))

    cells(x.reshape(1, 6), 20, 34)
    cells(x, 20, 114)
    cells(x.T, 300, 114)
    return drawing(parts, 480, 240)
