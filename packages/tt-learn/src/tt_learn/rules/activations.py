"""Derivatives of `tt_core.activations`: a backward op for each, which has a derivative too.

A backward op takes the gradient `g` of the result and what the derivative needs, all of one shape, and gives the
gradient of `x`. Its faster form is in `tt_learn/kernels/activations.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core import activations as A
from tt_core.engine.dispatch import Array, op
from tt_core.tensor import elementwise as E
from tt_core.tensor.elementwise import half_in_float32
from tt_learn.autograd import formula, gradient, wide

# --- backward ops


@op
def relu_backward(g: Array, out: Array, /) -> Array:
    """Gradient of `relu`: `g` where the result is above 0, or nan, which a gradient of 0 would hide."""
    return np.where(out != 0, g, 0)


@op
def leaky_relu_backward(g: Array, x: Array, /, negative_slope: float = 0.01) -> Array:
    """Gradient of `leaky_relu`: `g` above 0, `negative_slope * g` elsewhere."""
    return np.where(x > 0, g, negative_slope * g)


@op
@half_in_float32
def softplus_backward(g: Array, x: Array, /, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """Gradient of `softplus`: `g sigmoid(beta x)`, and `g` where `beta x > threshold`."""
    return g * np.where(beta * x > threshold, 1, 1 / (1 + np.exp(-beta * x)))


@op
@half_in_float32
def sigmoid_backward(g: Array, out: Array, /) -> Array:
    """Gradient of `sigmoid`: `g out (1 - out)`."""
    return g * out * (1 - out)


@op
@half_in_float32
def tanh_backward(g: Array, out: Array, /) -> Array:
    """Gradient of `tanh`: `g (1 - out^2)`."""
    return g * (1 - out * out)


@op
@half_in_float32
def silu_backward(g: Array, x: Array, /) -> Array:
    """Gradient of `silu`: with s = sigmoid(x), `g s (1 + x (1 - s))`."""
    s = 1 / (1 + np.exp(-x))
    return g * s * (1 + x * (1 - s))


SATURATED = 16.0
"""Beyond it the gate of GELU's tanh form is 0 or 1 in float64 too; limiting x there prevents 0 times infinity."""


@op
@half_in_float32
def gelu_backward(g: Array, x: Array, out: Array, /, approximate: str = "none") -> Array:
    """Gradient of `gelu`, which is `x gate`: `g (gate + x gate')`. The formula does not need the result `out`."""
    if approximate == "none":
        density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return g * ((1 + E.erf.kernel(x / math.sqrt(2))) / 2 + x * density)
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    t = np.tanh(scale * (x + cubic * x**3))
    slope = scale * (1 + 3 * cubic * np.clip(x, -SATURATED, SATURATED) ** 2)
    return g * ((1 + t) / 2 + x * (1 - t * t) / 2 * slope)


@op
@half_in_float32
def softmax_backward(g: Array, out: Array, /, dim: int = -1) -> Array:
    """Gradient of `softmax`: `out (g - sum(g out))`."""
    return out * (g - (g * out).sum(dim, keepdims=True))


@op
@half_in_float32
def log_softmax_backward(g: Array, out: Array, /, dim: int = -1) -> Array:
    """Gradient of `log_softmax`: `g - exp(out) sum(g)`."""
    return g - np.exp(out) * g.sum(dim, keepdims=True)


# --- rules

gradient(A.relu, lambda out, x: (lambda g: relu_backward(g, out),))
gradient(A.leaky_relu, lambda out, x, **a: (lambda g: leaky_relu_backward(g, x, **a),))
gradient(A.softplus, lambda out, x, **a: (lambda g: softplus_backward(g, x, **a),))
gradient(A.sigmoid, lambda out, x: (lambda g: sigmoid_backward(g, out),))
gradient(A.tanh, lambda out, x: (lambda g: tanh_backward(g, out),))
gradient(A.gelu, lambda out, x, **a: (lambda g: gelu_backward(g, x, out, **a),))
gradient(A.silu, lambda out, x: (lambda g: silu_backward(g, x),))
gradient(A.softmax, lambda out, x, dim: (lambda g: softmax_backward(g, out, dim=dim),))


@gradient(A.log_softmax)
def _(out: Any, x: Any, dim: int) -> Any:
    if x.dtype == E.HALF:  # rounded to float16, the result is too coarse for its exponential
        return (lambda g: log_softmax_backward(g, A.log_softmax(wide(x), dim=dim), dim=dim),)
    return (lambda g: log_softmax_backward(g, out, dim=dim),)


# --- second derivatives. A backward kernel is linear in `g`, so its derivative for `g` is often the kernel itself.

gradient(relu_backward, lambda _, g, out: (lambda u: relu_backward(u, out), None))
gradient(leaky_relu_backward, lambda _, g, x, **a: (lambda u: leaky_relu_backward(u, x, **a), None))


@gradient(sigmoid_backward)
def _(_: Any, g: Any, out: Any) -> Any:
    return lambda u: sigmoid_backward(u, out), lambda u: u * g * (1 - 2 * out)


@gradient(tanh_backward)
def _(_: Any, g: Any, out: Any) -> Any:
    return lambda u: tanh_backward(u, out), lambda u: u * g * out * -2


@gradient(softmax_backward)
def _(_: Any, g: Any, out: Any, dim: int) -> Any:
    def for_out(u: Any) -> Any:
        return u * (g - (g * out).sum(dim, keepdim=True)) - g * (u * out).sum(dim, keepdim=True)

    return lambda u: softmax_backward(u, out, dim=dim), for_out


@gradient(log_softmax_backward)
def _(_: Any, g: Any, out: Any, dim: int) -> Any:
    def for_g(u: Any) -> Any:
        return u - (u * E.exp(out)).sum(dim, keepdim=True)

    return for_g, lambda u: -u * E.exp(out) * g.sum(dim, keepdim=True)


@formula(silu_backward)
def _(g: Any, x: Any) -> Any:
    s = A.sigmoid(x)
    return g * s * (1 + x * (1 - s))


@formula(softplus_backward)
def _(g: Any, x: Any, beta: float, threshold: float) -> Any:
    return g * E.where(x * beta > threshold, 1.0, A.sigmoid(x * beta))


@formula(gelu_backward)
def _(g: Any, x: Any, out: Any, approximate: str) -> Any:
    """From `x` alone, because the result that the kernel receives depends on it too."""
    if approximate == "none":
        density = E.exp(x * x * -0.5) / math.sqrt(2 * math.pi)
        return g * ((1 + E.erf(x * math.sqrt(0.5))) / 2 + x * density)
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    gate = A.sigmoid(2 * scale * (x + cubic * x**3))
    return g * gate * (1 + 2 * x * (1 - gate) * scale * (1 + 3 * cubic * x * x))
