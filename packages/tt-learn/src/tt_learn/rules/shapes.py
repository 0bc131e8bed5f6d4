"""Derivatives of `tt_core.tensor.shapes`: each puts the gradient back where its element came from."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import numpy as np

from tt_core.tensor import shapes as S
from tt_learn.autograd import gradient, sum_to


def _back_to_shape(out: Any, x: Any, **_: Any) -> Any:
    shape = x.shape
    return (lambda g: g.reshape(shape),)


for rearranging in (S.reshape, S.view, S.squeeze, S.unsqueeze):
    gradient(rearranging, _back_to_shape)

for copying in (S.contiguous, S.clone):
    gradient(copying, lambda out, x: (lambda g: g,))

gradient(S.transpose, lambda out, x, dim0, dim1: (lambda g: g.transpose(dim0, dim1),))
gradient(S.permute, lambda out, x, dims: (lambda g: g.permute(tuple(np.argsort([d % len(dims) for d in dims]))),))
gradient(S.flip, lambda out, x, dims: (lambda g: S.flip(g, dims=dims),))


@gradient(S.roll)
def _(out: Any, x: Any, shifts: Any, dims: Any) -> Any:
    back = tuple([-step for step in S.as_size("roll", (shifts,))])
    return (lambda g: S.roll(g, shifts=back, dims=dims),)


gradient(S.tril, lambda out, x, diagonal: (lambda g: S.tril(g, diagonal=diagonal),))
gradient(S.triu, lambda out, x, diagonal: (lambda g: S.triu(g, diagonal=diagonal),))


@gradient(S.expand)
def _(out: Any, x: Any, shape: Any) -> Any:
    own = x.shape
    return (lambda g: sum_to(g, shape=own),)


@gradient(S.cast)
def _(out: Any, x: Any, dtype: Any) -> Any:
    own = x.dtype
    return (lambda g: g.to(own),)


@gradient(S.getitem)
def _(out: Any, x: Any, index: Any) -> Any:
    shape = x.shape
    return (lambda g: S.getitem_backward(g, index=index, shape=shape),)


gradient(S.getitem_backward, lambda out, g, index, shape: (lambda gg: gg[index],))


@gradient(S.take_along_dim)
def _(out: Any, x: Any, indices: Any, dim: int) -> Any:
    shape = x.shape
    return lambda g: S.take_along_dim_backward(g, indices, dim=dim, shape=shape), None


@gradient(S.take_along_dim_backward)
def _(out: Any, g: Any, indices: Any, dim: int, shape: Any) -> Any:
    return lambda gg: S.take_along_dim(gg, indices, dim=dim), None


@gradient(S.index_select)
def _(out: Any, x: Any, index: Any, dim: int) -> Any:
    shape = x.shape
    if not shape:
        return lambda g: g, None
    at = (slice(None),) * (dim % x.ndim)
    return lambda g: S.getitem_backward(g, index=(*at, np.asarray(index)), shape=shape), None


@gradient(S.concatenate)
def _(out: Any, *tensors: Any, dim: int) -> Any:
    shapes = [x.shape for x in tensors]
    flat = all(len(shape) == 1 for shape in shapes)
    sizes = [shape[dim] if flat or shape != (0,) else 0 for shape in shapes]
    starts = [0, *accumulate(sizes)]

    def part(g: Any, at: int, size: int, shape: tuple[int, ...]) -> Any:
        piece = g.narrow(dim, at, size)
        return piece if piece.shape == shape else piece.reshape(shape)  # (0,) among tensors of more dimensions

    return tuple([lambda g, at=at, n=n, s=s: part(g, at, n, s) for at, n, s in zip(starts, sizes, shapes)])


@gradient(S.stack_arrays)
def _(out: Any, *tensors: Any, dim: int) -> Any:
    at = (slice(None),) * (dim % (tensors[0].ndim + 1))
    return tuple([lambda g, i=i: g[(*at, i)] for i in range(len(tensors))])


@gradient(S.pad)
def _(out: Any, x: Any, pad: Any, mode: str, value: float | None) -> Any:
    if mode != "constant":
        shape = x.shape
        return (lambda g: S.pad_backward(g, pad=pad, mode=mode, shape=shape),)
    back = tuple([-n for n in pad])
    return (lambda g: S.pad(g, pad=back),)


gradient(S.pad_backward, lambda out, g, pad, mode, shape: (lambda gg: S.pad(gg, pad=pad, mode=mode),))


@gradient(S.repeat_interleave)
def _(out: Any, x: Any, repeats: Any, dim: int | None) -> Any:
    shape, counts = x.shape, S.repeats_of(repeats)
    own = (math.prod(shape),) if dim is None or not shape else shape
    axis = 0 if dim is None else dim % len(own)

    def for_x(g: Any) -> Any:
        if counts.size == 1:
            n = int(counts.reshape(()))
            return g.reshape((*own[: axis + 1], n, *own[axis + 1 :])).sum(axis + 1).reshape(shape)
        index = (*(slice(None),) * axis, np.repeat(np.arange(own[axis]), counts))
        return S.getitem_backward(g, index=index, shape=own).reshape(shape)

    return (for_x,)
