"""Tuned kernels of the backward ops in `tt_learn.rules.layers`. The figures are shares of the formula's time."""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array, tuned
from tt_core.kernels.layers import layer_norm, rows_of
from tt_core.kernels.products import column_sums, row_means
from tt_learn.rules import layers as R


@tuned(R.layer_norm_backward)
def layer_norm_backward(
    g: Array,
    x: Array,
    mean: Array | None = None,
    rstd: Array | None = None,
    weight: Array | None = None,
    /,
    dims: int = 1,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """In place, sums as products, and mean and rstd from forward: 0.7 of the time on (2048, 512)."""
    if mean is None or rstd is None:
        _, mean, rstd = layer_norm(x, None, None, dims, eps)
    shape = g.shape[g.ndim - dims :]
    rows = rows_of(g.astype(mean.dtype, copy=False), dims)
    normalized = x.reshape(rows.shape) - mean
    normalized *= rstd
    u = rows if weight is None else rows * weight.reshape(-1)
    projection = np.vecdot(u, normalized)[:, None] / u.dtype.type(rows.shape[1] or 1)
    x_gradient = normalized * projection
    np.subtract(u, x_gradient, out=x_gradient)
    x_gradient -= row_means(u)
    x_gradient *= rstd
    weight_gradient = column_sums(np.multiply(rows, normalized, out=normalized))
    return x_gradient.reshape(g.shape), weight_gradient.reshape(shape), column_sums(rows).reshape(shape)
