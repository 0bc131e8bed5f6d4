"""Tuned kernels of `tt_core.tensor.reductions`. The figures are shares of the formula's time."""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array, tuned
from tt_core.tensor import reductions as R
from tt_core.tensor.dtypes import HALF, half_in_float32
from tt_core.tensor.reductions import Dim, accumulator, axes, count

_LONG = 1 << 17


@tuned(R.sum)
def sum(x: Array, /, dim: Dim = None, keepdim: bool = False) -> Array:
    """Accumulates more than 131,072 float32 along a dimension in float64; at other sizes the same time.

    NumPy adds rows one by one, so that the variance of a million numbers would differ in its fourth digit.
    """
    if x.size > _LONG and dim is not None and x.dtype == np.float32 and count(x, dim) > _LONG:
        return np.asarray(np.sum(x, axis=axes(dim), dtype=np.float64, keepdims=keepdim), np.float32)
    if x.dtype == HALF:
        return np.asarray(sum(x.astype(np.float32), dim, keepdim), HALF)
    return np.sum(x, axis=axes(dim), dtype=accumulator(x), keepdims=keepdim)


@tuned(R.mean)
def mean(x: Array, /, dim: Dim = None, keepdim: bool = False) -> Array:
    """Accumulates as `sum` does; the same time."""
    if x.dtype == HALF:
        return np.asarray(mean(x.astype(np.float32), dim, keepdim), HALF)
    return sum(x, dim, keepdim) / x.dtype.type(count(x, dim))


@tuned(R.var)
@half_in_float32
def var(x: Array, /, dim: Dim = None, correction: int = 1, keepdim: bool = False) -> Array:
    """Accumulates as `sum` does, and squares in place: 0.9 of the time on (1024, 1024)."""
    centred = x - mean(x, dim, True)
    squares = np.multiply(centred, centred, out=centred) if centred.ndim else centred * centred
    return sum(squares, dim, keepdim) / x.dtype.type(max(count(x, dim) - correction, 0))


@tuned(R.std)
@half_in_float32
def std(x: Array, /, dim: Dim = None, correction: int = 1, keepdim: bool = False) -> Array:
    """The square root of the tuned variance."""
    return np.sqrt(var(x, dim, correction, keepdim))


@tuned(R.topk_indices)
def topk_indices(x: Array, /, k: int, dim: int = -1, largest: bool = True) -> Array:
    """Finds the `k`, and orders only these: 0.15 of the time for 40 of 50257."""
    size = x.shape[dim]
    if not k:
        return R.topk_indices.formula(x, k, dim, largest)
    parted = np.argpartition(x, size - k if largest else k - 1, axis=dim)
    chosen = np.take(parted, np.arange(size - k, size) if largest else np.arange(k), axis=dim)
    order = R.argsort.kernel(np.take_along_axis(x, chosen, axis=dim), dim=dim, descending=largest)
    return np.take_along_axis(chosen, order, axis=dim)
