"""Derivatives of `tt_core.activations`: each hands over to its fused backward kernel, which has a derivative too."""

from __future__ import annotations

import math
from typing import Any

from tt_core import activations as A
from tt_core import elementwise as E
from tt_learn.autograd import formula, gradient, wide

gradient(A.relu, lambda out, x: (lambda g: A.relu_backward(g, out),))
gradient(A.leaky_relu, lambda out, x, **a: (lambda g: A.leaky_relu_backward(g, x, **a),))
gradient(A.softplus, lambda out, x, **a: (lambda g: A.softplus_backward(g, x, **a),))
gradient(A.sigmoid, lambda out, x: (lambda g: A.sigmoid_backward(g, out),))
gradient(A.tanh, lambda out, x: (lambda g: A.tanh_backward(g, out),))
gradient(A.gelu, lambda out, x, **a: (lambda g: A.gelu_backward(g, x, out, **a),))
gradient(A.silu, lambda out, x: (lambda g: A.silu_backward(g, x),))
gradient(A.softmax, lambda out, x, dim: (lambda g: A.softmax_backward(g, out, dim=dim),))


@gradient(A.log_softmax)
def _(out: Any, x: Any, dim: int) -> Any:
    if x.dtype == E.HALF:  # rounded to float16, the result is too coarse for its exponential
        return (lambda g: A.log_softmax_backward(g, A.log_softmax(wide(x), dim=dim), dim=dim),)
    return (lambda g: A.log_softmax_backward(g, out, dim=dim),)


# --- second derivatives. A backward kernel is linear in `g`, so its derivative for `g` is often the kernel itself.

gradient(A.relu_backward, lambda _, g, out: (lambda u: A.relu_backward(u, out), None))
gradient(A.leaky_relu_backward, lambda _, g, x, **a: (lambda u: A.leaky_relu_backward(u, x, **a), None))


@gradient(A.sigmoid_backward)
def _(_: Any, g: Any, out: Any) -> Any:
    return lambda u: A.sigmoid_backward(u, out), lambda u: u * g * (1 - 2 * out)


@gradient(A.tanh_backward)
def _(_: Any, g: Any, out: Any) -> Any:
    return lambda u: A.tanh_backward(u, out), lambda u: u * g * out * -2


@gradient(A.softmax_backward)
def _(_: Any, g: Any, out: Any, dim: int) -> Any:
    def for_out(u: Any) -> Any:
        return u * (g - (g * out).sum(dim, keepdim=True)) - g * (u * out).sum(dim, keepdim=True)

    return lambda u: A.softmax_backward(u, out, dim=dim), for_out


@gradient(A.log_softmax_backward)
def _(_: Any, g: Any, out: Any, dim: int) -> Any:
    def for_g(u: Any) -> Any:
        return u - (u * E.exp(out)).sum(dim, keepdim=True)

    return for_g, lambda u: -u * E.exp(out) * g.sum(dim, keepdim=True)


@formula(A.silu_backward)
def _(g: Any, x: Any) -> Any:
    s = A.sigmoid(x)
    return g * s * (1 + x * (1 - s))


@formula(A.softplus_backward)
def _(g: Any, x: Any, beta: float, threshold: float) -> Any:
    return g * E.where(x * beta > threshold, 1.0, A.sigmoid(x * beta))


@formula(A.gelu_backward)
def _(g: Any, x: Any, out: Any, approximate: str) -> Any:
    """From `x` alone: the result that the kernel takes ready-made depends on it too."""
    if approximate == "none":
        density = E.exp(x * x * -0.5) / math.sqrt(2 * math.pi)
        return g * ((1 + E.erf(x * math.sqrt(0.5))) / 2 + x * density)
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    gate = A.sigmoid(2 * scale * (x + cubic * x**3))
    return g * gate * (1 + 2 * x * (1 - gate) * scale * (1 + 3 * cubic * x * x))
