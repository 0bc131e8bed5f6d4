"""Numbers and pictures of lesson 18, acceleration."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from measured import fastest, number, picture
from tt_core.engine import threads
from tt_learn.svg import line_chart
from tt_perf.acceleration import naive


def normal(*shape: int) -> Any:
    """Normally distributed float32 numbers."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@functools.cache
def product_times(n: int) -> tuple[float, float]:
    """The time of a product of two (n, n) matrices: three loops in Python, and NumPy."""
    a, b = normal(n, n), normal(n, n)
    rows, columns = a.tolist(), b.tolist()
    (loops,) = fastest(lambda: naive.product(rows, columns), rounds=3)
    (numpy,) = fastest(lambda: a @ b)
    return loops, numpy


@number(10, 2000, ".0f")
def nanoseconds_of_python() -> float:
    """Nanoseconds that a loop in Python takes for a multiplication and an addition."""
    return 1e9 * product_times(64)[0] / 64**3


@number(100, 100_000, ",.0f")
def numpy_faster() -> float:
    """How many times as fast as the loops NumPy is, for n = 64."""
    loops, numpy = product_times(64)
    return loops / numpy


@picture
def products_by_size() -> str:
    """MFLOP/s of a product of two (n, n) matrices, as powers of ten, by n: loops in Python, and NumPy."""
    sizes = (2, 4, 8, 16, 32, 64)
    rates = {n: [math.log10(2 * n**3 / t / 1e6) for t in product_times(n)] for n in sizes}
    curves = {name: [(n, rates[n][i]) for n in sizes] for i, name in enumerate(("loops", "NumPy"))}
    return line_chart(curves, x_label="n", y_label="log10 of MFLOP/s")


# --- memory

LINE = 16  # float32 numbers in a line of the cache: 64 bytes
COUNT = 1 << 20


@functools.cache
def strided(step: int) -> float:
    """The time of adding up a million numbers that lie `step` apart, over that of numbers side by side."""
    far, near = np.ones(COUNT * step, np.float32)[::step], np.ones(COUNT, np.float32)
    a, b = fastest(far.sum, near.sum)
    return a / b


@number(1.1, 300, ".1f")
def stride_of_a_line() -> float:
    """The same number of additions, each in a cache line of its own."""
    return strided(LINE)


@picture
def time_by_stride() -> str:
    """The time of adding up a million float32 numbers by their distance, over that of neighbours."""
    steps = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
    return line_chart({"sum": [(step, strided(step)) for step in steps]}, x_label="distance", y_label="times as long")


X = normal(1 << 22)


def polynomial(x: Any) -> Any:
    """1 + x + x^2 / 2 + x^3 / 6 + x^4 / 24: eight operations, eight passes over memory."""
    return 1 + x * (1 + x * (1 / 2 + x * (1 / 6 + x * (1 / 24))))


def in_blocks(x: Any, size: int = 1 << 14) -> Any:
    """The same, a block of 64 KB at a time: what is between stays in the cache."""
    out = np.empty_like(x)
    for start in range(0, x.size, size):
        out[start : start + size] = polynomial(x[start : start + size])
    return out


@number(0.7, 100, ".1f")
def blocks_faster() -> float:
    """How many times as fast the formula is in blocks."""
    whole, blocks = fastest(lambda: polynomial(X), lambda: in_blocks(X), rounds=9)
    return whole / blocks


@number(0, 1e-6, ".0g")
def blocks_differ() -> float:
    """The largest difference between the two."""
    return float(np.abs(polynomial(X) - in_blocks(X)).max())


# --- threads


@functools.cache
def threaded() -> float:
    """How many times as fast the formula in blocks is when the cores share it."""
    out = np.empty_like(X)

    def share(part: slice) -> None:
        out[part] = in_blocks(X[part])

    one, all_cores = fastest(lambda: in_blocks(X), lambda: threads.in_parallel(share, X.size, X.nbytes), rounds=25)
    return one / all_cores


@number(0.2, 64, ".1f")
def cores_faster() -> float:
    """How many times as fast it is with all cores."""
    return threaded()


@number(1, 256, ".0f")
def cores() -> float:
    """How many cores there are."""
    return threads.get_num_threads()
