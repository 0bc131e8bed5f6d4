"""Module 02, activations: the functions between linear maps, without which any depth collapses into one matrix.

Each is an op on arrays that reads as its formula. The faster forms of the same ops are in `kernels/activations.py`, the
layers `ReLU()`, `GELU()`, ... in module 03, and the gradients in Act II.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import ArgumentError, check_floats
from tt_core.tensor.elementwise import erf, on_floats

# --- rectifiers


@op
def relu(x: Array, /) -> Array:
    """`max(x, 0)` for each element (Nair and Hinton 2010).

    Raises `DTypeError` for anything but numbers.

    >>> relu(np.array([-1, 2], np.float32))
    tensor([0., 2.])
    """
    return np.maximum(x, 0)


@op
@on_floats
def leaky_relu(x: Array, /, negative_slope: float = 0.01) -> Array:
    """`x` above 0, `negative_slope * x` below (Maas et al. 2013); integers give float32.

    Raises `DTypeError` for anything but numbers.

    >>> leaky_relu(np.array([-1, 2], np.float32), negative_slope=0.1)
    tensor([-0.1,  2. ])
    """
    return np.where(x > 0, x, negative_slope * x)


@op
@on_floats
def softplus(x: Array, /, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """`log(1 + exp(beta x)) / beta`, a smooth `relu`; `x` itself where `beta x > threshold`. Integers give float32.

    Raises `DTypeError` for anything but numbers.

    >>> softplus(np.array([-30, 0, 30], np.float32))
    tensor([9.3576e-14, 6.9315e-01, 3.0000e+01])
    """
    # logaddexp(0, z) is log(exp(0) + exp(z)) without overflow
    return np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta)


# --- sigmoids. exp overflows to infinity far below 0, where the result is rightly 0.


@op
@on_floats
def sigmoid(x: Array, /) -> Array:
    """`1 / (1 + exp(-x))`, between 0 and 1; integers give float32.

    Raises `DTypeError` for anything but numbers.

    >>> sigmoid(np.array([-100, 0, 100]))
    tensor([0. , 0.5, 1. ])
    """
    return 1 / (1 + np.exp(-x))


@op
@on_floats
def tanh(x: Array, /) -> Array:
    """Hyperbolic tangent, between -1 and 1; integers give float32.

    Raises `DTypeError` for anything but numbers.

    >>> tanh(np.array([-100, 0, 1]))
    tensor([-1.    ,  0.    ,  0.7616])
    """
    return np.tanh(x)


@op
@on_floats
def silu(x: Array, /) -> Array:
    """`x sigmoid(x)`, also called swish (Elfwing et al. 2017, arXiv:1702.03118); integers give float32.

    Raises `DTypeError` for anything but numbers.

    >>> silu(np.array([-1, 0, 100]))
    tensor([ -0.2689,   0.    , 100.    ])
    """
    return x / (1 + np.exp(-x))


# --- GELU: x times a gate between 0 and 1


def _check_gelu(x: Any, /, approximate: str = "none") -> None:
    """Raise `ArgumentError` unless `approximate` is "none" or "tanh"."""
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f"approximate is 'none' or 'tanh', got {approximate!r}")


@op(check=_check_gelu)
@on_floats
def gelu(x: Array, /, approximate: str = "none") -> Array:
    """`x P(z < x)` for a normally distributed z (Hendrycks and Gimpel 2016, arXiv:1606.08415); integers give float32.

    `approximate="tanh"` is the form that GPT-2 was trained with. Raises `ArgumentError` for any other form.

    >>> gelu(np.array([-1, 0, 1])), gelu(np.array([-1, 0, 1]), approximate="tanh")
    (tensor([-0.1587,  0.    ,  0.8413]), tensor([-0.1588,  0.    ,  0.8412]))
    """
    if approximate == "tanh":
        return x * ((1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2)
    return x * ((1 + erf.kernel(x / math.sqrt(2))) / 2)


# --- distributions over a dimension


def _check_dim(x: Any, /, dim: int = -1) -> None:
    x = np.asarray(x)
    check_floats(x)
    if not -max(x.ndim, 1) <= dim < max(x.ndim, 1):
        raise IndexError(f"dim {dim} is out of range for {x.ndim} dimensions")


@op(check=_check_dim)
@on_floats
def softmax(x: Array, /, dim: int = -1) -> Array:
    """`exp(x) / sum(exp(x))` over `dim`: positive numbers that add up to 1 (Bridle 1990).

    Raises `DTypeError` for integers, `OutOfRangeError` for a dimension that does not exist.

    >>> softmax(np.array([[1000, 1000], [0, -1000]], np.float32))
    tensor([[0.5, 0.5],
            [1. , 0. ]])
    """
    e = np.exp(x - _largest(x, dim))  # subtracting a number changes nothing, but prevents overflow
    return e / e.sum(dim, keepdims=True)


@op(check=_check_dim)
@on_floats
def log_softmax(x: Array, /, dim: int = -1) -> Array:
    """`log(softmax(x))`, computed as `x - log(sum(exp(x)))`, which does not underflow; raises as `softmax` does.

    >>> log_softmax(np.array([0, 1000], np.float32))
    tensor([-1000.,     0.])
    """
    x = x - _largest(x, dim)
    # the logarithm of softmax's result would be -inf where exp(x) rounds to 0
    return x - np.log(np.exp(x).sum(dim, keepdims=True))


def _largest(x: Array, dim: int) -> Array:
    # -inf is the maximum of nothing, where NumPy would raise
    return x.max(dim, keepdims=True, initial=-np.inf)
