"""Tuned kernels of `tt_language.transformers`. The figures are shares of the formula's time."""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array, tuned
from tt_language import transformers as T


@tuned(T.rms_norm, residuals=("rstd",))
def rms_norm(x: Array, weight: Array | None = None, /, eps: float | None = None) -> tuple[Array, Array]:
    """In place, means as `vecdot`: 0.6 of the time on (768, 128), 0.85 on (2048, 512).

    Residual: 1 / root mean square of each vector, (..., 1).
    """
    if x.dtype == np.float16:  # float16 overflows above 65504, so sums are accumulated in float32
        y, rstd = rms_norm(x.astype(np.float32), weight, eps)
        return y.astype(np.float16), rstd
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    mean_square = np.vecdot(x, x)[..., None] / x.dtype.type(x.shape[-1] or 1)
    rstd = 1 / np.sqrt(mean_square + x.dtype.type(eps))
    result = x * rstd
    if weight is not None:
        result *= weight
    return result, rstd


@tuned(T.rms_norm_backward)
def rms_norm_backward(
    g: Array, x: Array, rstd: Array | None = None, weight: Array | None = None, /, eps: float | None = None
) -> tuple[Array, Array]:
    """In place, sums as products, and the root mean square from forward: 0.5 of the time on (768, 128)."""
    if rstd is None:
        _, rstd = rms_norm(x, None, eps)
    normalized = x * rstd
    g = g.astype(rstd.dtype, copy=False)
    u = g if weight is None else g * weight
    slope = np.vecdot(u, normalized)[..., None] / u.dtype.type(x.shape[-1] or 1)
    weight_gradient = np.einsum("ni,ni->i", *[each.reshape(-1, x.shape[-1]) for each in (g, normalized)])
    normalized *= slope
    x_gradient = np.subtract(u, normalized, out=normalized)
    x_gradient *= rstd
    return x_gradient, weight_gradient
