"""Tuned kernel of `tt_core.tensor.products`. The figures are shares of the formula's time."""

from __future__ import annotations

import math

import numpy as np

from tt_core.engine.dispatch import Array, tuned
from tt_core.tensor import products as P
from tt_core.tensor.dtypes import HALF, through_float32


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
            return (rows @ b).reshape(*a.shape[:-1], b.shape[-1])
        return np.matmul(a, b)
    except ValueError as error:
        raise ValueError(P.misfit(a, b) or str(error)) from None
