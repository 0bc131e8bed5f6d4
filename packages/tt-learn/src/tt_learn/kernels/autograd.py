"""Tuned kernel of `sum_to`. The figure is a share of the formula's time."""

from __future__ import annotations

import math

import numpy as np

from tt_core.engine.dispatch import Array, tuned
from tt_core.kernels.products import product
from tt_core.tensor import reductions
from tt_core.tensor.elementwise import half_in_float32
from tt_learn.autograd import broadcasting


@tuned(broadcasting.sum_to)
@half_in_float32
def sum_to(x: Array, /, shape: tuple[int, ...]) -> Array:
    """BLAS adds rows faster than NumPy: 0.6 of the time for the gradient of a bias, (1024, 1024) to (1024,)."""
    lead = x.ndim - len(shape)
    if lead > 0 and shape and x.shape[lead:] == shape:
        rows = x.reshape(math.prod(x.shape[:lead]), math.prod(shape))
        return product(np.ones(len(rows), x.dtype), rows).reshape(shape)
    repeated = broadcasting.repeated_dims(x.shape, shape)
    total = reductions.sum.kernel(x, repeated, True) if repeated else x
    return total.astype(x.dtype, copy=False).reshape(shape)
