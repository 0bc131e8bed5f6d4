"""Derivatives of `tt_core.tensor.reductions`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core.tensor import elementwise as E
from tt_core.tensor import reductions as R
from tt_core.tensor.creation import ones_like
from tt_core.tensor.shapes import cat
from tt_learn.autograd import gradient, non_differentiable, wide

non_differentiable(R.argmax, R.argmin, R.all, R.any, R.argsort, R.topk_indices)


def _dims(shape: tuple[int, ...], dim: Any) -> list[int]:
    """The dimensions that were reduced, from 0: all, or none where there are none to reduce."""
    return [*range(len(shape))] if dim is None or not shape else [int(d) % len(shape) for d in np.atleast_1d(dim)]


def _kept(g: Any, shape: tuple[int, ...], dim: Any, keepdim: bool) -> Any:
    """`g` in a shape that broadcasts to the input's: the reduced dimensions are 1."""
    if keepdim or dim is None:  # without dim, `g` has no dimensions and broadcasts as it is
        return g
    dims = _dims(shape, dim)
    return g.reshape(tuple([1 if i in dims else n for i, n in enumerate(shape)]))


def _count(shape: tuple[int, ...], dim: Any) -> int:
    return math.prod(shape[d] for d in _dims(shape, dim))


@gradient(R.sum)
def _(out: Any, x: Any, dim: Any, keepdim: bool) -> Any:
    shape = x.shape
    return (lambda g: _kept(g, shape, dim, keepdim).expand(shape),)


@gradient(R.mean)
def _(out: Any, x: Any, dim: Any, keepdim: bool) -> Any:
    shape = x.shape
    return (lambda g: (_kept(g, shape, dim, keepdim) / _count(shape, dim)).expand(shape),)


def _of_variance(g: Any, x: Any, dim: Any, correction: int) -> Any:
    """The gradient of `var`, `2 g (x - mean) / (n - correction)`; `g` has the reduced dimensions as 1."""
    left = _count(x.shape, dim) - correction
    scale = 2 / left if left > 0 else math.nan  # as the variance itself
    centred = wide(x) - wide(x).mean(dim, keepdim=True)
    return g * centred * scale


@gradient(R.var)
def _(out: Any, x: Any, dim: Any, correction: int, keepdim: bool) -> Any:
    return (lambda g: _of_variance(_kept(g, x.shape, dim, keepdim), x, dim, correction),)


def _over(g: Any, length: Any) -> Any:
    """`g / length`, and 0 where the length is 0: the gradient of a length or a deviation at its least value."""
    flat = E.eq(length, 0)
    return E.where(flat, 0.0, g) / E.where(flat, 1.0, length)


@gradient(R.std)
def _(out: Any, x: Any, dim: Any, correction: int, keepdim: bool) -> Any:
    def for_x(g: Any) -> Any:
        halved = _over(g, out * 2)
        return _of_variance(_kept(halved, x.shape, dim, keepdim), x, dim, correction)

    return (for_x,)


@gradient(R.norm)
def _(out: Any, x: Any, p: Any, dim: Any, keepdim: bool) -> Any:
    """Euclidean: `g x / |x|`; 0 where that length is 0. Of the largest, equals share the gradient."""

    def for_x(g: Any) -> Any:
        if p in (2, "fro"):
            return _kept(_over(g, out), x.shape, dim, keepdim) * x
        if p == 1:
            return _kept(g, x.shape, dim, keepdim) * E.sign(x)
        return _shared(g, out, E.abs(x), dim, keepdim) * E.sign(x)

    return (for_x,)


@gradient(R.prod)
def _(out: Any, x: Any, dim: Any, keepdim: bool) -> Any:
    """The product of all others, from the products before and after each entry, which is right for zeros too."""

    def for_x(g: Any) -> Any:
        flat = wide(x).reshape(-1) if dim is None or not x.ndim else wide(x)
        axis = 0 if dim is None or not x.ndim else dim % x.ndim
        others = _running_product(flat, axis) * _running_product(flat.flip(axis), axis).flip(axis)
        return _kept(g, x.shape, dim, keepdim) * others.reshape(x.shape)

    return (for_x,)


def _running_product(x: Any, axis: int) -> Any:
    """Product of all entries before each one along `axis`."""
    n = x.shape[axis]
    if n == 0:
        return x
    steps = [ones_like(x.narrow(axis, 0, 1))]
    for i in range(n - 1):
        steps.append(steps[-1] * x.narrow(axis, i, 1))
    return cat(steps, axis)


def _shared(g: Any, out: Any, x: Any, dim: Any, keepdim: bool) -> Any:
    """`g` shared evenly among the elements that are equal to the extreme `out`."""
    value = _kept(out, x.shape, dim, keepdim)
    chosen = E.eq(x, value) | (E.isnan(x) & E.isnan(value))  # if there is a nan, it is the result
    chosen = chosen.to(g.dtype)
    return chosen * (_kept(g, x.shape, dim, keepdim) / chosen.sum(dim, keepdim=True))


def _extreme(out: Any, x: Any, dim: Any, keepdim: bool) -> Any:
    return (lambda g: _shared(g, out, x, dim, keepdim),)


gradient(R.amax, _extreme)
gradient(R.amin, _extreme)


@gradient(R.logsumexp)
def _(out: Any, x: Any, dim: Any, keepdim: bool) -> Any:
    def for_x(g: Any) -> Any:
        total = R.logsumexp(wide(x), dim=dim, keepdim=True) if x.dtype == E.HALF else _kept(out, x.shape, dim, keepdim)
        return _kept(g, x.shape, dim, keepdim) * E.exp(x - total)

    return (for_x,)


@gradient(R.cumsum)
def _(out: Any, x: Any, dim: int) -> Any:
    return (lambda g: R.cumsum(g.flip(dim), dim=dim).flip(dim),) if x.ndim else (lambda g: g,)
