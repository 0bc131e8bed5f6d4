"""Derivatives of `tt_core.shapes`: each puts the gradient back where its element came from."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np

from tt_core import shapes as S
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
gradient(S.roll, lambda out, x, shifts, dim: (lambda g: S.roll(g, shifts=-shifts, dim=dim),))
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
    shape, at = x.shape, (slice(None),) * (dim % x.ndim)
    return lambda g: S.getitem_backward(g, index=(*at, np.asarray(index)), shape=shape), None


@gradient(S.concatenate)
def _(out: Any, *tensors: Any, dim: int) -> Any:
    sizes = [x.shape[dim] for x in tensors]
    starts = [0, *accumulate(sizes)]
    return tuple([lambda g, at=at, n=n: g.narrow(dim, at, n) for at, n in zip(starts, sizes)])


@gradient(S.stack_arrays)
def _(out: Any, *tensors: Any, dim: int) -> Any:
    at = (slice(None),) * (dim % (tensors[0].ndim + 1))
    return tuple([lambda g, i=i: g[(*at, i)] for i in range(len(tensors))])


@gradient(S.pad)
def _(out: Any, x: Any, pad: Any, value: float) -> Any:
    shape = x.shape
    starts = [0] * (len(shape) - len(pad) // 2) + list(pad[::2])[::-1]
    inner = tuple([slice(start, start + n) for start, n in zip(starts, shape)])
    return (lambda g: g[inner],)


@gradient(S.repeat_interleave)
def _(out: Any, x: Any, repeats: int, dim: int) -> Any:
    axis = dim % x.ndim
    shape = (*x.shape[:axis], x.shape[axis], repeats, *x.shape[axis + 1 :])
    return (lambda g: g.reshape(shape).sum(axis + 1),)
