"""Derivatives of the ops of `tt_core.layers` (but for `linear`, which is a product)."""

from __future__ import annotations

from typing import Any

from tt_core import elementwise as E
from tt_core.layers import dropout, layer_norm, layer_norm_backward
from tt_learn.autograd import formula, gradient


@gradient(layer_norm)
def _(out: Any, x: Any, weight: Any, bias: Any, dims: int, eps: float, mean: Any = None, rstd: Any = None) -> Any:
    return lambda g: layer_norm_backward(g, x, mean, rstd, weight, dims=dims)


@formula(layer_norm_backward)
def _(g: Any, x: Any, mean: Any, rstd: Any, weight: Any, dims: int) -> Any:
    axes, leading = tuple(range(-dims, 0)), tuple(range(g.ndim - dims))
    rstd = rstd.reshape(*g.shape[: g.ndim - dims], *(1,) * dims)
    centred = x - x.mean(axes, keepdim=True)
    # eps is in rstd: 1/rstd^2 = variance + eps, so it is what the two differ by
    variance = (centred * centred).mean(axes, keepdim=True)
    eps = (1 / (rstd * rstd) - variance).detach()
    scale = 1 / E.sqrt(variance + eps)
    normalized = centred * scale
    u = g if weight is None else g * weight
    projected = normalized * (u * normalized).mean(axes, keepdim=True)
    return scale * (u - u.mean(axes, keepdim=True) - projected), (g * normalized).sum(leading), g.sum(leading)


@gradient(dropout)
def _(out: Any, x: Any, p: float, training: bool, scale: Any) -> Any:
    return (lambda g: g * scale,)
