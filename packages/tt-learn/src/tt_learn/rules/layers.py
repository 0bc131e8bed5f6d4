"""Derivatives of the ops of `tt_core.layers` except `linear`, which is a product."""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, op
from tt_core.layers import dropout, layer_norm
from tt_core.tensor import elementwise as E
from tt_learn.autograd import formula, gradient

# --- layer normalization


@op
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
    """Gradients of `layer_norm` for input, weight and bias; with u = g weight and n = (x - mean) rstd,

    dx = rstd (u - mean(u) - n mean(u n))

    `g` and `x` have one shape. `mean` and `rstd` (rows, 1) are the residuals of forward, which the formula does not
    need. float16 is computed in float32, and gives float32.
    """
    g, x = (array.astype(np.result_type(array, np.float32)) for array in (g, x))
    axes, leading = tuple(range(-dims, 0)), tuple(range(g.ndim - dims))
    scale = 1 / np.sqrt(x.var(axes, keepdims=True) + eps)
    n = (x - x.mean(axes, keepdims=True)) * scale
    u = g if weight is None else g * weight
    x_gradient = scale * (u - u.mean(axes, keepdims=True) - n * (u * n).mean(axes, keepdims=True))
    return x_gradient, (g * n).sum(leading), g.sum(leading)


@gradient(layer_norm)
def _(out: Any, x: Any, weight: Any, bias: Any, dims: int, eps: float, mean: Any = None, rstd: Any = None) -> Any:
    return lambda g: layer_norm_backward(g, x, mean, rstd, weight, dims=dims, eps=eps)


@formula(layer_norm_backward)
def _(g: Any, x: Any, mean: Any, rstd: Any, weight: Any, dims: int, eps: float) -> Any:
    """From `x` alone, because mean and rstd depend on it too."""
    axes, leading = tuple(range(-dims, 0)), tuple(range(g.ndim - dims))
    centred = x - x.mean(axes, keepdim=True)
    scale = 1 / E.sqrt((centred * centred).mean(axes, keepdim=True) + eps)
    normalized = centred * scale
    u = g if weight is None else g * weight
    projected = normalized * (u * normalized).mean(axes, keepdim=True)
    return scale * (u - u.mean(axes, keepdim=True) - projected), (g * normalized).sum(leading), g.sum(leading)


# --- dropout


@gradient(dropout)
def _(out: Any, x: Any, p: float, training: bool, scale: Any) -> Any:
    return (lambda g: g * scale,)
