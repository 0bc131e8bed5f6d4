"""Beside module 18: matrix products in float32 by the loops of `product_loops.py`, where they are faster than BLAS.

OpenBLAS reaches 120 GFLOP/s on one core of a processor whose vectors of 512 bits can do 260, and tiles 230. With
shorter vectors it is as near to the limit as tiles are, so there products stay with it. The result does not depend on
the number of threads.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tt_core import layers
from tt_core.engine.dispatch import Array
from tt_core.engine.mutation import owner
from tt_core.engine.threads import at_once, get_num_threads, split
from tt_core.kernels.products import LONG
from tt_core.tensor import products as P
from tt_learn.rules import products as R
from tt_perf.acceleration.blas import blas_of_numpy
from tt_perf.acceleration.capture.tape import Arrays, Job
from tt_perf.acceleration.uncovered import unfit
from tt_perf.kernels.product_loops import NOTHING, PANEL
from tt_perf.kernels.team import has_team, job, team
from tt_perf.kernels.tiles import LANES, ROWS

Call = Callable[..., Any]
number = np.float32

FASTER = LANES == 16
"""Whether tiles are faster than BLAS: with vectors of 512 bits."""

SMALL, LARGE = 1 << 16, 4_000_000
"""Multiplications from which tiles are faster than BLAS, and from which a product is shared out by Python."""
SHARED, PIECE = 2_000_000, 500_000
"""Multiplications from which a product is worth a helper (25 us of one core), and of one piece."""


@dataclass(frozen=True)
class Then:
    """What follows a product: `what` of `product_loops.py`, another matrix that it reads, and its result."""

    what: int
    out: Array
    other: Array | None = None


def covers(a: Array, b: Array) -> bool:
    """Whether tiles multiply these matrices faster than BLAS: float32, and enough rows to make a panel worth it."""
    kind = type(a) is type(b) is np.ndarray and a.dtype == b.dtype == number and a.ndim == b.ndim == 2
    if not (FASTER and kind and a.shape[1] == b.shape[0] and len(a) >= 2 * ROWS and b.shape[1] >= LANES):
        return False
    steps = (*a.strides, *b.strides)
    fine = min(steps) > 0 and not any(step % 4 for step in steps) and a.flags.aligned and b.flags.aligned
    return fine and min(a.strides) == min(b.strides) == 4 and len(a) * b.size >= SMALL


def is_bias(bias: Array | None, weight: Array) -> bool:
    """Whether a product by tiles can begin with this bias."""
    return bias is None or (bias.dtype == number and bias.shape == weight.shape[:1] and bias.flags.c_contiguous)


def multiply(
    loop: Mapping[str, Call], a: Array, b: Array, bias: Array | None = None, then: Then | None = None
) -> Array:
    """`a b + bias` for matrices that `covers` admits, shared over the cores if it is large, and what follows it.

    The thread that has computed a block of the product computes what follows on it.
    """
    (m, k), n = a.shape, b.shape[1]
    out = np.empty((m, n), number)
    shift = np.zeros(n, number) if bias is None else bias
    if m * k * n >= SHARED and has_team(loop):
        _by_team(loop, a, b, shift, out, then)
        return out
    panels, threads = -(-n // PANEL), get_num_threads() if m * k * n >= LARGE else 1
    pieces = min(4, 1 + m * k * n // (threads * LARGE)) * threads

    def block(columns: slice, rows: slice) -> None:
        loop["matrix_product"](a, b, shift, out, columns.start, columns.stop, rows.start, rows.stop)
        if then is not None:
            place = rows.start, rows.stop, columns.start * PANEL, min(n, columns.stop * PANEL)
            loop["follow"](then.what, out, out if then.other is None else then.other, then.out, *place)

    everything = slice(0, panels), slice(0, m)
    if threads == 1:
        block(*everything)
    elif panels >= pieces:
        at_once(lambda columns: block(columns, everything[1]), split(panels, pieces))
    else:  # each piece copies all panels
        at_once(lambda rows: block(everything[0], rows), split(m, pieces, ROWS))
    return out


def _by_team(loop: Any, a: Array, b: Array, bias: Array, out: Array, then: Then | None) -> None:
    pieces, by_rows = _shares(len(a), *b.shape)
    ends = (NOTHING, out, out) if then is None else (then.what, out if then.other is None else then.other, then.out)
    how = loop.address("product_piece"), pieces, by_rows
    loop["product_job"](team().ready(loop, pieces), *how, a, b, bias, out, *ends)


def _shares(m: int, k: int, n: int) -> tuple[int, bool]:
    """The number of pieces of a product that the team computes, and whether rows are split rather than columns."""
    threads, panels = get_num_threads(), -(-n // PANEL)
    by_rows = panels < threads
    pieces = max(threads, min(4 * threads, m * k * n // PIECE))
    return min(pieces, m // ROWS if by_rows else panels), by_rows


# --- products as jobs of a program (`job_loops.py`)


def product_job(loop: Any, a: Array, b: Array, bias: Array | None, out: Array, then: Then | None = None) -> Job | None:
    """`multiply` as a job that writes to `out`; None for matrices that `covers` refuses."""
    if not covers(a, b) or (bias is not None and unfit(bias)):
        return None
    (m, k), n = a.shape, b.shape[1]
    pieces, by_rows = _shares(m, k, n) if m * k * n >= SHARED else (1, False)
    shift = np.zeros(n, number) if bias is None else bias
    what, other, result = (NOTHING, out, out) if then is None else (then.what, then.other, then.out)
    ends = shift, out, by_rows, what, out if other is None else other, result
    return job(loop, "product_piece", (m, k, n, pieces, *_matrix(a), *_matrix(b), *ends), pieces)


def blas_job(loop: Any, a: Array, b: Array, bias: Array | None, out: Array) -> Job | None:
    """`out = a b + bias` by the BLAS function that NumPy calls, as a job; None where NumPy does something else.

    NumPy calls other functions of BLAS for a single row or column and for a matrix times itself, and it splits a large
    product across threads.
    """
    blas = blas_of_numpy()
    small = a.ndim == b.ndim == 2 and min(*a.shape, b.shape[1]) > 1 and len(a) * b.size < LONG
    small = small and owner(a) is not owner(b)
    if blas is None or not small or not (_is_for_blas(a) and _is_for_blas(b)) or (bias is not None and unfit(bias)):
        return None
    (m, k), n = a.shape, b.shape[1]
    return job(loop, "blas_piece", (*blas, m, k, n, *_matrix(a), *_matrix(b), out, 0 if bias is None else bias))


def any_job(loop: Any, a: Array, b: Array, bias: Array | None, out: Array) -> Job | None:
    """A job for the product: by tiles if they cover it, else by BLAS."""
    return product_job(loop, a, b, bias, out) if covers(a, b) else blas_job(loop, a, b, bias, out)


def _matrix(x: Array) -> tuple[Array, int, int]:
    """A matrix as the arguments of a job: its address and its strides, counted in elements."""
    return x, x.strides[0] // 4, x.strides[1] // 4


def _is_for_blas(x: Array) -> bool:
    return x.dtype == number and (x.flags.c_contiguous or x.flags.f_contiguous) and x.flags.aligned


def products_from(loop: dict[str, Call]) -> dict[str, Call]:
    """Kernels of matrix products, by the ops' names."""

    product = functools.partial(multiply, loop)

    def linear(x: Any, weight: Any, bias: Any = None, /) -> Array:
        if isinstance(x, np.ndarray) and x.ndim >= 2 and weight.ndim == 2:
            rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
            if is_bias(bias, weight) and covers(rows, weight.T):
                return product(rows, weight.T, bias).reshape(*x.shape[:-1], len(weight))
        found: Array = layers.linear.kernel(x, weight, bias)
        return found

    def matmul(a: Any, b: Any, /) -> Array:
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.ndim >= 2 and b.ndim == 2:
            rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1]) if a.ndim > 2 else a
            if covers(rows, b):
                return product(rows, b).reshape(*a.shape[:-1], b.shape[-1])
        found: Array = P.matmul.kernel(a, b)
        return found

    def rows_product(a: Any, b: Any, /) -> Array:
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.ndim >= 2 and b.ndim >= 2:
            m = math.prod(a.shape[:-1])
            if m == math.prod(b.shape[:-1]):
                left, right = a.reshape(m, a.shape[-1]).T, b.reshape(m, b.shape[-1])
                if covers(left, right):
                    return product(left, right)
        found: Array = R.rows_product.kernel(a, b)
        return found

    def linear_job(inputs: Arrays, results: Arrays, attributes: Any, failed: Array) -> Job | None:
        x, weight, bias = (*inputs, None)[:3]
        if x.ndim != 2 or weight.ndim != 2 or not is_bias(bias, weight):
            return None
        return any_job(loop, x, weight.T, bias, *results)

    def matmul_job(inputs: Arrays, results: Arrays, attributes: Any, failed: Array) -> Job | None:
        a, b = inputs
        return any_job(loop, a, b, None, *results) if a.ndim == b.ndim == 2 else None

    def rows_product_job(inputs: Arrays, results: Arrays, attributes: Any, failed: Array) -> Job | None:
        a, b = inputs
        return any_job(loop, a.T, b, None, *results) if a.ndim == b.ndim == 2 else None

    made: tuple[Call, ...] = (linear, matmul, rows_product)
    for kernel, as_job in zip(made, (linear_job, matmul_job, rows_product_job)):
        kernel.as_job = as_job  # type: ignore[attr-defined]
    return {kernel.__name__: kernel for kernel in made}
