"""Module 01, tensor: the ops that reduce a dimension or order its elements.

`dim` is a dimension, several of them, or None for all; `keepdim` leaves a reduced dimension as 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import ArgumentError, check_floats
from tt_core.tensor.dtypes import floating, half_in_float32

Dim = int | Sequence[int] | None


def axes(dim: Dim) -> Any:
    """`dim` as NumPy takes it: a tuple in place of a list."""
    return tuple(dim) if isinstance(dim, list) else dim


def accumulator(x: Array) -> Any:
    """The dtype in which sums are accumulated: int64 for all integers, on every platform."""
    return None if x.dtype.kind == "f" else np.int64


def count(x: Array, dim: Dim) -> int:
    """The number of elements that are reduced to one."""
    if dim is None or not x.ndim:
        return x.size
    return math.prod([x.shape[d] for d in (dim if isinstance(dim, (tuple, list)) else (dim,))])


# --- sums and means


@op
@half_in_float32
def sum(x: Array, /, dim: Dim = None, keepdim: bool = False) -> Array:
    """Sum over `dim`, in int64 for integers and booleans.

    Raises `OutOfRangeError` for a dimension that does not exist.

    >>> sum(np.array([[1, 2], [3, 4]]), dim=0)
    tensor([4, 6])
    """
    return np.sum(x, axis=axes(dim), dtype=accumulator(x), keepdims=keepdim)


def _check_mean(x: Array, /, dim: Dim = None, keepdim: bool = False) -> None:
    check_floats(x)


@op(check=_check_mean)
@half_in_float32
def mean(x: Array, /, dim: Dim = None, keepdim: bool = False) -> Array:
    """Arithmetic mean, nan of nothing.

    Raises `DTypeError` for integers, `OutOfRangeError` for a dimension that does not exist.

    >>> mean(np.array([[1, 2], [3, 6]], np.float32), dim=1, keepdim=True)
    tensor([[1.5],
            [4.5]])
    """
    return sum.formula(x, dim, keepdim) / count(x, dim)  # 0 / 0 is nan for no elements


def _check_var(x: Array, /, dim: Dim = None, correction: int = 1, keepdim: bool = False) -> None:
    check_floats(x)


@op(check=_check_var)
@half_in_float32
def var(x: Array, /, dim: Dim = None, correction: int = 1, keepdim: bool = False) -> Array:
    """Variance `sum((x - mean)^2) / (n - correction)`; a correction of 1 is Bessel's. Raises as `mean` does.

    >>> var(np.array([1, 2, 3], np.float32)), var(np.array([1, 2, 3], np.float32), correction=0)
    (tensor(1.), tensor(0.6667))
    """
    # mean(x^2) - mean(x)^2 needs one pass only, but is a difference of large numbers: it loses the digits that matter
    centred = x - mean.formula(x, dim, keepdim=True)
    return sum.formula(centred**2, dim, keepdim) / max(count(x, dim) - correction, 0)


@op(check=_check_var)
@half_in_float32
def std(x: Array, /, dim: Dim = None, correction: int = 1, keepdim: bool = False) -> Array:
    """Standard deviation, the square root of the variance. Raises as `mean` does.

    >>> std(np.array([1, 3], np.float32), correction=0)
    tensor(1.)
    """
    return np.sqrt(var.formula(x, dim, correction, keepdim))  # in the unit of x


@op
@half_in_float32
def norm(x: Array, /, p: float | str = 2, dim: Dim = None, keepdim: bool = False) -> Array:
    """Length: Euclidean for 2 (or "fro"), the sum of magnitudes for 1, the largest of them for inf.

    Integers give float32. Raises `ArgumentError` for any other `p`.

    >>> norm(np.array([3, -4])), norm(np.array([3, -4]), p=1)
    (tensor(5.), tensor(7.))
    """
    x = floating(x)
    if p in (2, "fro"):
        return np.sqrt(sum.kernel(x * x, dim, keepdim))
    if p == 1:
        return sum.kernel(np.abs(x), dim, keepdim)
    if p == np.inf:
        return np.amax(np.abs(x), axis=axes(dim), keepdims=keepdim)
    raise ArgumentError(f"p is 1, 2, 'fro' or inf, got {p!r}")


@op
@half_in_float32
def prod(x: Array, /, dim: int | None = None, keepdim: bool = False) -> Array:
    """Product over one dimension or all, in int64 for integers.

    Raises `OutOfRangeError` for a dimension that does not exist.

    >>> prod(np.array([[1, 2], [3, 4]]), dim=1)
    tensor([ 2, 12])
    """
    return np.prod(x, axis=dim, dtype=accumulator(x), keepdims=keepdim)


@op
@half_in_float32
def logsumexp(x: Array, /, dim: Dim = None, keepdim: bool = False) -> Array:
    """`log(sum(exp(x)))`, safe at any magnitude, -inf of nothing; integers give float32.

    Raises `OutOfRangeError` for a dimension that does not exist.

    >>> logsumexp(np.array([1000, 1000], np.float32))
    tensor(1000.6932)
    """
    x = floating(x)
    # log(sum(exp(x))) = m + log(sum(exp(x - m))) for any m; with the largest, no exponential is above 1
    peak = np.amax(x, axis=axes(dim), keepdims=True, initial=-np.inf)
    peak = np.where(np.isfinite(peak), peak, 0)  # inf - inf would be nan
    total = np.log(np.sum(np.exp(x - peak), axis=axes(dim), keepdims=keepdim))
    return total + (peak if keepdim else np.squeeze(peak, axis=axes(dim)))


@op
def cumsum(x: Array, /, dim: int) -> Array:
    """Running sum along `dim`, in the shape of `x`; in int64 for integers.

    Raises `OutOfRangeError` for a dimension that does not exist.

    >>> cumsum(np.array([1, 2, 3]), dim=0)
    tensor([1, 3, 6])
    """
    running = np.cumsum(x, axis=dim, dtype=accumulator(x) or np.float64)  # each entry is the sum of many
    return running.astype(accumulator(x) or x.dtype, copy=False).reshape(x.shape)  # NumPy gives () a dimension


# --- extremes


@op
def amax(x: Array, /, dim: Dim = None, keepdim: bool = False) -> Array:
    """Largest element; raises `ShapeError` if there are none.

    >>> amax(np.array([[1, 5], [4, 2]]), dim=1)
    tensor([5, 4])
    """
    return np.amax(x, axis=axes(dim), keepdims=keepdim)


@op
def amin(x: Array, /, dim: Dim = None, keepdim: bool = False) -> Array:
    """Smallest element; raises `ShapeError` if there are none.

    >>> amin(np.array([[1, 5], [4, 2]]), dim=1)
    tensor([1, 2])
    """
    return np.amin(x, axis=axes(dim), keepdims=keepdim)


@op
def argmax(x: Array, /, dim: int | None = None, keepdim: bool = False) -> Array:
    """Index of the first largest element, without `dim` of the flattened tensor; raises `ShapeError` if there are none.

    >>> argmax(np.array([[1, 5], [4, 2]])), argmax(np.array([[1, 5], [4, 2]]), dim=1)
    (tensor(1), tensor([1, 0]))
    """
    return np.argmax(x, axis=dim, keepdims=keepdim)


@op
def argmin(x: Array, /, dim: int | None = None, keepdim: bool = False) -> Array:
    """Index of the first smallest element, without `dim` of the flattened tensor; raises as `argmax` does.

    >>> argmin(np.array([[1, 5], [4, 2]]), dim=1)
    tensor([0, 1])
    """
    return np.argmin(x, axis=dim, keepdims=keepdim)


@op
def all(x: Array, /, dim: Dim = None, keepdim: bool = False) -> Array:
    """Whether all elements are true (not zero); True for an empty tensor.

    Raises `OutOfRangeError` for a dimension that does not exist.

    >>> all(np.array([[1, 0], [2, 3]]), dim=1)
    tensor([False,  True])
    """
    return np.all(x, axis=axes(dim), keepdims=keepdim)


@op
def any(x: Array, /, dim: Dim = None, keepdim: bool = False) -> Array:
    """Whether any element is true (not zero); raises `OutOfRangeError` for a dimension that does not exist.

    >>> any(np.array([[0, 0], [0, 3]]), dim=1)
    tensor([False,  True])
    """
    return np.any(x, axis=axes(dim), keepdims=keepdim)


# --- order


@op
def argsort(x: Array, /, dim: int = -1, descending: bool = False, stable: bool = False) -> Array:
    """Indices that order `x` along `dim`; with `stable`, equal elements keep their order.

    Raises `OutOfRangeError` for a dimension that does not exist.

    >>> argsort(np.array([3, 1, 2]), descending=True)
    tensor([0, 2, 1])
    """
    kind: Any = "stable" if stable else None
    if not x.ndim:  # NumPy's argsort would return shape (1,)
        return np.argmax(x, axis=dim)
    if not descending:
        return np.argsort(x, axis=dim, kind=kind)
    # reversed twice, so that equal elements keep their order in a stable descending sort too
    last = x.shape[dim] - 1
    return np.flip(last - np.argsort(np.flip(x, axis=dim), axis=dim, kind=kind), axis=dim)


def _check_k(x: Array, /, k: int, dim: int = -1, largest: bool = True) -> None:
    if not 0 <= k <= x.shape[dim]:
        raise ValueError(f"k is {k}, but dimension {dim} has {x.shape[dim]} elements")


@op(check=_check_k)
def topk_indices(x: Array, /, k: int, dim: int = -1, largest: bool = True) -> Array:
    """Indices of the `k` largest (or smallest) along `dim`, best first; raises `ShapeError` if there are fewer.

    >>> topk_indices(np.array([3, 1, 4, 2]), k=2)
    tensor([2, 0])
    """
    return np.take(argsort.formula(x, dim, descending=largest), np.arange(k), axis=dim)
