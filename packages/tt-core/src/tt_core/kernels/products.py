"""Tuned kernel of `tt_core.tensor.products`, and `product`, which decides where a matrix product is computed.

The figures are shares of the formula's time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tt_core.engine import blas
from tt_core.engine.dispatch import Array, tuned
from tt_core.engine.threads import at_once, get_num_threads, split
from tt_core.tensor import products as P
from tt_core.tensor.dtypes import HALF, through_float32

LARGE = 10_000_000
"""Multiplications (half the FLOPs) from which several threads share a product: about 0.1 ms on one core."""
LONG = 1 << 20
"""The same for products of up to `FEW` rows or columns, which read each element of the other matrix once or twice: 4 MB
of float32 take 0.1 to 0.4 ms on one core, depending on the cache that they are in."""
FEW = 8
PIECES = 4
"""The most pieces for each thread, so that a delayed thread leaves its work to others."""
SHORT = 4096
"""Elements up to which vectors of equal numbers are kept."""
WIDTH = 16
"""Pieces are multiples of this number of rows or columns, which BLAS computes at a time."""


def product(a: Array, b: Array, out: Array | None = None) -> Array:
    """`a @ b` for arrays, in `out` if it is given: small products on the calling core, large ones shared over threads.

    Raises `ValueError` for shapes that do not fit, as NumPy does.

    >>> product(np.ones((2, 3)), np.ones((3, 1)))
    array([[3.],
           [3.]])
    """
    if a.ndim > 1 and b.ndim > 1:
        size = a.size * b.shape[-1] if a.ndim >= b.ndim else LARGE
        if size < LONG or (size < LARGE and a.shape[-2] > FEW < b.shape[-1]):
            return np.matmul(a, b, out=out)
        return _shared(a, b, out)
    if b.ndim == 1 and a.ndim == 2 and a.size >= LONG:
        return _shared(a, b[:, None], None if out is None else out[:, None])[:, 0]
    if a.ndim == 1 and b.ndim == 2 and b.size >= LONG:
        return _shared(a[None], b, None if out is None else out[None])[0]
    return np.matmul(a, b, out=out)


def _shared(a: Array, b: Array, out: Array | None) -> Array:
    (m, k), n = a.shape[-2:], b.shape[-1]
    batch = a.shape[:-2] if b.ndim == 2 else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    pieces = _pieces(math.prod(batch) * m * k * n, min(m, n))
    if pieces == 1 or k != b.shape[-2]:
        return np.matmul(a, b, out=out)
    axis, parts = _axis((*batch, m, n), pieces)
    dtype = np.result_type(a, b)
    a, b = a.astype(dtype, copy=False), b.astype(dtype, copy=False)  # once, and not for each piece
    result = np.empty((*batch, m, n), dtype) if out is None else out

    def multiply(part: slice) -> None:
        left = a if axis == -1 else _part(a, axis, part)
        right = b if axis == -2 else _part(b, axis, part)
        np.matmul(left, right, out=_part(result, axis, part))

    at_once(multiply, parts)
    return result


def _pieces(multiplications: int, narrow: int) -> int:
    """The number of pieces to split a product into; 1 if other threads would cost more than they save."""
    threads = get_num_threads()
    least = LONG if narrow <= FEW else LARGE
    if threads == 1 or multiplications < least or not blas.LIMITED:
        return 1
    return threads * min(PIECES, max(1, multiplications // threads // least))


def _axis(shape: Sequence[int], pieces: int) -> tuple[int, list[slice]]:
    """The dimension of the result, counted from the end, that is split, and its slices.

    Entries of the batch if they are enough, since each is a product of its own; else rows or columns, of which there
    are more: what is not split is prepared by BLAS once for each piece.
    """
    *batch, rows, columns = shape
    longest = max(batch, default=0)
    if longest >= pieces or longest * WIDTH > max(rows, columns):
        return batch.index(longest) - len(shape), split(longest, pieces)
    return (-2, split(rows, pieces, WIDTH)) if rows >= columns else (-1, split(columns, pieces, WIDTH))


def _part(x: Array, axis: int, part: slice) -> Array:
    """The part of `x` along a dimension; all of it where that dimension is broadcast."""
    if x.ndim < -axis or x.shape[axis] == 1:
        return x
    index: list[Any] = [..., part, *[slice(None)] * (-axis - 1)]
    return x[tuple(index)]


# --- sums as products: BLAS adds up rows and columns several times as fast as NumPy


def column_sums(rows: Array) -> Array:
    """The sum of each column of a matrix, (m,).

    >>> column_sums(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([4., 6.])
    """
    return product(_filled(len(rows), 1.0, rows.dtype), rows)


def row_means(rows: Array) -> Array:
    """The mean of each row of a matrix, (n, 1); 0 where rows have no elements.

    >>> row_means(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[1.5],
           [3.5]])
    """
    m = rows.shape[1]
    return product(rows, _filled(m, 1 / m if m else 0.0, rows.dtype))[:, None]


def _filled(size: int, value: float, dtype: np.dtype[Any]) -> Array:
    """A vector of equal numbers; short ones are kept, since making one takes 1 us."""
    return _kept(size, value, dtype) if size <= SHORT else np.full(size, value, dtype)


@functools.lru_cache(maxsize=64)
def _kept(size: int, value: float, dtype: np.dtype[Any]) -> Array:
    vector = np.full(size, value, dtype)
    vector.flags.writeable = False
    return vector


@tuned(P.matmul)
def matmul(a: Array, b: Array, /) -> Array:
    """Folds a stack times one matrix into a single product: 0.7 of the time on (64, 32, 128) @ (128, 128).

    float16 is multiplied in float32, since BLAS has no product of float16: 0.01 of the time on (256, 256).
    """
    if HALF in (a.dtype, b.dtype):
        return through_float32(matmul, a, b)
    try:
        if b.ndim == 2 and a.ndim > 2:
            rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
            return product(rows, b).reshape(*a.shape[:-1], b.shape[-1])
        return product(a, b)
    except ValueError as error:
        raise ValueError(P.misfit(a, b) or str(error)) from None
