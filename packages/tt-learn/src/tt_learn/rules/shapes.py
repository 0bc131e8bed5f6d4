"""Derivatives of `tt_core.tensor.shapes`: each puts the gradient back where its element came from."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import numpy as np

from tt_core.tensor import shapes as S
from tt_core.tensor.indexing import add_at
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


@gradient(S.cat)
def _(out: Any, *tensors: Any, dim: int) -> Any:
    shapes = [x.shape for x in tensors]
    flat = all(len(shape) == 1 for shape in shapes)
    sizes = [shape[dim] if flat or shape != (0,) else 0 for shape in shapes]
    starts = [0, *accumulate(sizes)]

    def part(g: Any, at: int, size: int, shape: tuple[int, ...]) -> Any:
        piece = g.narrow(dim, at, size)
        return piece if piece.shape == shape else piece.reshape(shape)  # (0,) among tensors of more dimensions

    return tuple([lambda g, at=at, n=n, s=s: part(g, at, n, s) for at, n, s in zip(starts, sizes, shapes)])


@gradient(S.stack)
def _(out: Any, *tensors: Any, dim: int) -> Any:
    at = (slice(None),) * (dim % (tensors[0].ndim + 1))
    return tuple([lambda g, i=i: g[(*at, i)] for i in range(len(tensors))])


@gradient(S.pad)
def _(out: Any, x: Any, pad: Any, mode: str, value: float | None) -> Any:
    if mode == "constant":
        return (lambda g: S.pad(g, pad=[-n for n in pad]),)
    shape = x.shape
    return (lambda g: add_at(g, index=np.ix_(*S.padded_places(shape, pad, mode)), shape=shape),)


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
        return add_at(g, index=index, shape=own).reshape(shape)

    return (for_x,)
