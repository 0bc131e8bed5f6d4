"""Derivatives of `tt_core.tensor.indexing`: `getitem` and `add_at` are each other's."""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core.tensor import indexing as I
from tt_learn.autograd import gradient


@gradient(I.getitem)
def _(out: Any, x: Any, index: Any) -> Any:
    shape = x.shape
    return (lambda g: I.add_at(g, index=index, shape=shape),)


gradient(I.add_at, lambda out, x, index, shape: (lambda g: I.getitem(g, index=index),))


@gradient(I.take_along_dim)
def _(out: Any, x: Any, indices: Any, dim: int) -> Any:
    shape = x.shape

    def for_x(g: Any) -> Any:
        return I.add_at(g, index=I.along_dim(np.asarray(indices), dim, shape, g.shape), shape=shape)

    return for_x, None


@gradient(I.index_select)
def _(out: Any, x: Any, index: Any, dim: int) -> Any:
    shape = x.shape
    if not shape:
        return lambda g: g, None
    at = (slice(None),) * (dim % x.ndim)
    return lambda g: I.add_at(g, index=(*at, np.asarray(index)), shape=shape), None
