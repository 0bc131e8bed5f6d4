"""Module 02, activations: the functions between linear maps, without which any depth collapses into one matrix.

Each is an op on arrays, its backward kernel is an op too, and a layer names it for `Sequential`. All are right at
any magnitude: what would overflow is written so that it saturates. The rules that connect an op with its backward
kernel belong to Act II; what a backward kernel needs stands at each op. It takes the gradient `g` and that, all of one
shape, and gives the gradient of `x`; autograd calls it, so it checks no shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tt_core.arguments import checked
from tt_core.dispatch import Array, op
from tt_core.elementwise import HALF, erf, floating, half_in_float32
from tt_core.errors import ArgumentError, check_floats
from tt_core.heap import BLOCK
from tt_core.layers import Layer


def _in_blocks(compute: Callable[..., Any], *arrays: Array) -> None:
    """Run `compute(*arrays)`, which writes into some of the arrays, slice by slice where they lie flat in memory."""
    if arrays[0].size <= BLOCK or not all(a.flags.c_contiguous for a in arrays):
        compute(*arrays)
        return
    flat = [a.reshape(-1) for a in arrays]
    for start in range(0, flat[0].size, BLOCK):
        compute(*[a[start : start + BLOCK] for a in flat])


# --- rectifiers


@op
def relu(x: Array, /) -> Array:
    """`max(x, 0)` (Nair and Hinton 2010). Its backward kernel needs the result.

    Raises `DTypeError` for what is no number.

    >>> relu(np.array([-1, 2], np.float32))
    tensor([0., 2.])
    """
    return np.maximum(x, 0)


@op
def relu_backward(g: Array, out: Array, /) -> Array:
    """Gradient of `relu`: `g` where the result is above 0, or nan, which no gradient of 0 is to hide."""
    return _only(g, out != 0)


def _only(g: Array, where: Array) -> Array:
    """`g` where `where`, else 0, in an eighth of the time of `np.where`: 0 or 1 times the bits of a number, since
    0 times an infinite number would be nan.
    """
    if g.itemsize > 8:
        return np.where(where, g, g.dtype.type(0))
    return (g.view(f"u{g.itemsize}") * where).view(g.dtype)


@op
def leaky_relu(x: Array, /, negative_slope: float = 0.01) -> Array:
    """`x` above 0, `negative_slope * x` below (Maas et al. 2013). Its backward kernel needs `x`.

    Raises `DTypeError` for what is no number.

    >>> leaky_relu(np.array([-1, 2], np.float32), negative_slope=0.1)
    tensor([-0.1,  2. ])
    """
    x = floating(x)
    result = np.minimum(x, 0) * negative_slope
    result += np.maximum(x, 0)
    return result


@op
def leaky_relu_backward(g: Array, x: Array, /, negative_slope: float = 0.01) -> Array:
    """Gradient of `leaky_relu`: `g` above 0, `negative_slope * g` elsewhere."""
    above = x > 0
    result = _only(g, ~above)
    result *= negative_slope
    result += _only(g, above)
    return result


@op
@half_in_float32
def softplus(x: Array, /, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """`log(1 + exp(beta x)) / beta`, a smooth `relu`; `x` itself where `beta x > threshold`.

    Raises `DTypeError` for what is no number. Its backward kernel needs `x`.

    >>> softplus(np.array([-30, 0, 30], np.float32))
    tensor([9.3576e-14, 6.9315e-01, 3.0000e+01])
    """
    x = floating(x)
    scaled = x * beta
    result = np.log1p(np.exp(-np.abs(scaled)))
    result += np.maximum(scaled, 0)
    result /= beta
    return result if threshold == math.inf else np.where(scaled > threshold, x, result)


@op
@half_in_float32
def softplus_backward(g: Array, x: Array, /, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """Gradient of `softplus`: `g sigmoid(beta x)`, and `g` where `beta x > threshold`."""
    scaled = x * beta
    slope = _sigmoid(scaled, np.empty_like(scaled))
    return g * (slope if threshold == math.inf else np.where(scaled > threshold, 1, slope))


# --- sigmoids


def _sigmoid(x: Array, out: Array) -> Array:
    """`1 / (1 + exp(-x))` written to `out`; exp overflows to inf far below 0, where the result is rightly 0."""
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    return np.divide(1, out, out=out)


@op
@half_in_float32
def sigmoid(x: Array, /) -> Array:
    """`1 / (1 + exp(-x))`, between 0 and 1; integers give float32. Its backward kernel needs the result.

    Raises `DTypeError` for what is no number.

    >>> sigmoid(np.array([-100, 0, 100]))
    tensor([0. , 0.5, 1. ])
    """
    x = floating(x)
    result = np.empty_like(x)
    _in_blocks(_sigmoid, x, result)
    return result


@op
@half_in_float32
def sigmoid_backward(g: Array, out: Array, /) -> Array:
    """Gradient of `sigmoid`: `g out (1 - out)`."""
    result = 1 - out
    result *= out
    result *= g
    return result


@op
def tanh(x: Array, /) -> Array:
    """Hyperbolic tangent, between -1 and 1; integers give float32. Its backward kernel needs the result.

    Raises `DTypeError` for what is no number.

    >>> tanh(np.array([-100, 0, 1]))
    tensor([-1.    ,  0.    ,  0.7616])
    """
    return np.tanh(floating(x))


@op
@half_in_float32
def tanh_backward(g: Array, out: Array, /) -> Array:
    """Gradient of `tanh`: `g (1 - out^2)`."""
    result = out * out
    result = np.subtract(1, result, out=_own(result))
    result *= g
    return result


def _own(x: Any) -> Array | None:
    """`x` to be written over; None where it is a NumPy scalar, which cannot be."""
    return x if isinstance(x, np.ndarray) else None


@op
@half_in_float32
def silu(x: Array, /) -> Array:
    """`x sigmoid(x)`, called swish too (Elfwing et al. 2017, arXiv:1702.03118).

    Raises `DTypeError` for what is no number. Its backward kernel needs `x` alone and computes the sigmoid again: that
    costs less than keeping it.

    >>> silu(np.array([-1, 0, 100]))
    tensor([ -0.2689,   0.    , 100.    ])
    """
    x = floating(x)
    result = np.empty_like(x)

    def compute(x: Array, out: Array) -> None:
        np.multiply(_sigmoid(x, out), x, out=out)

    _in_blocks(compute, x, result)
    return result


@op
@half_in_float32
def silu_backward(g: Array, x: Array, /) -> Array:
    """Gradient of `silu`: with s = sigmoid(x), `g s (1 + x (1 - s))`."""
    result = np.empty_like(x)

    def compute(g: Array, x: Array, out: Array) -> None:
        s = _sigmoid(x, np.empty_like(x))
        np.subtract(1, s, out=out)
        np.multiply(out, x, out=out)
        np.add(out, 1, out=out)
        np.multiply(out, s, out=out)
        np.multiply(out, g, out=out)

    _in_blocks(compute, g, x, result)
    return result


# --- GELU: x times a gate between 0 and 1. Exactly, the gate is the normal distribution's Phi(x), which is
# (1 + erf(x/sqrt 2))/2; approximately it is (1 + tanh(u))/2 with u = sqrt(2/pi) (x + 0.044715 x^3).

_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
_CUBIC = 0.044715
_SATURATED = 16.0
"""Beyond it the gate of the tanh form is 0 or 1 in float64 too; limiting x there keeps 0 times infinity away."""


def _gelu_exact(x: Array, out: Array) -> None:
    np.multiply(x, math.sqrt(0.5), out=out)
    np.add(erf.kernel(out), 1, out=out)
    np.multiply(out, 0.5, out=out)
    np.multiply(x, out, out=out)


def _gelu_tanh(x: Array, out: Array) -> None:
    np.multiply(x, x, out=out)
    np.multiply(out, _CUBIC * _SQRT_2_OVER_PI, out=out)
    np.add(out, _SQRT_2_OVER_PI, out=out)
    np.multiply(out, x, out=out)
    np.tanh(out, out=out)
    np.multiply(out, 0.5, out=out)
    np.add(out, 0.5, out=out)
    np.multiply(x, out, out=out)


def _gate(x: Array, result: Array) -> Array:
    """The gate again, from `result = x gate`: their ratio, kept off 0 / 0 by less than the dtype resolves."""
    gate = np.copysign(x.dtype.type(4) * np.finfo(x.dtype).tiny, x)
    divisor = x + gate
    gate *= 0.5
    gate += result
    gate /= divisor
    return gate


def _gelu_exact_backward(g: Array, x: Array, result: Array, out: Array) -> None:
    """g (gate + x phi(x)), with phi the density of the normal distribution."""
    np.multiply(x, x, out=out)
    np.multiply(out, -0.5, out=out)
    np.exp(out, out=out)
    np.multiply(out, 1 / math.sqrt(2 * math.pi), out=out)
    np.multiply(out, x, out=out)
    np.add(out, _gate(x, result), out=out)
    np.multiply(out, g, out=out)


def _gelu_tanh_backward(g: Array, x: Array, result: Array, out: Array) -> None:
    """g gate (1 + 2 x (1 - gate) u'), with u' = sqrt(2/pi) (1 + 3 * 0.044715 x^2)."""
    gate = _gate(x, result)
    x = np.clip(x, -_SATURATED, _SATURATED)
    np.multiply(x, x, out=out)
    np.multiply(out, 6 * _CUBIC * _SQRT_2_OVER_PI, out=out)
    np.add(out, 2 * _SQRT_2_OVER_PI, out=out)
    np.multiply(out, x, out=out)
    np.multiply(out, np.subtract(1, gate), out=out)
    np.add(out, 1, out=out)
    np.multiply(out, gate, out=out)
    np.multiply(out, g, out=out)


_GELU = {"none": (_gelu_exact, _gelu_exact_backward), "tanh": (_gelu_tanh, _gelu_tanh_backward)}


def _gelu_form(approximate: str) -> tuple[Callable[..., None], Callable[..., None]]:
    if approximate not in _GELU:
        raise ArgumentError(f"approximate is 'none' or 'tanh', got {approximate!r}")
    return _GELU[approximate]


@op
@half_in_float32
def gelu(x: Array, /, approximate: str = "none") -> Array:
    """`x Phi(x)`, Phi the normal distribution (Hendrycks and Gimpel 2016, arXiv:1606.08415).

    `approximate="tanh"` is the form GPT-2 was trained with: x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
    Raises `ShapeError` for any form but "none" and "tanh". Its backward kernel needs `x` and the result, of which the
    next layer keeps one anyway.

    >>> gelu(np.array([-1, 0, 1])), gelu(np.array([-1, 0, 1]), approximate="tanh")
    (tensor([-0.1587,  0.    ,  0.8413]), tensor([-0.1588,  0.    ,  0.8412]))
    """
    forward, _ = _gelu_form(approximate)
    x = floating(x)
    result = np.empty_like(x)
    _in_blocks(forward, x, result)
    return result


@op
def gelu_backward(g: Array, x: Array, out: Array, /, approximate: str = "none") -> Array:
    """Gradient of `gelu`: `g (gate + x gate')`, where the gate is `out / x`."""
    _, backward = _gelu_form(approximate)
    if HALF in (g.dtype, x.dtype):  # rounded to float16, `out / x` is too coarse for the gate
        g, x = np.asarray(g, np.float32), np.asarray(x, np.float32)
        return gelu_backward.kernel(g, x, gelu.kernel(x, approximate), approximate).astype(HALF)
    result = np.empty_like(x)
    _in_blocks(backward, g, x, out, result)
    return result


# --- distributions over a dimension


def _sum(x: Array, dim: int) -> Array:
    """Sum over `dim`, kept as 1. einsum adds short rows 3 times as fast as sum: 0.24 against 0.70 ms for 24576 x 64."""
    if x.ndim and dim in (-1, x.ndim - 1):
        return np.einsum("...i->...", x)[..., None]
    return np.sum(x, axis=dim, keepdims=True)


def _peak(x: Array, dim: int) -> Array:
    """Maximum over `dim`, kept as 1. Short rows are laid out as columns: NumPy's own loop starts anew for each row
    and takes 11 instead of 3 ms for 153600 x 10, 7 instead of 3 us for 64 x 10.
    """
    if x.ndim and dim in (-1, x.ndim - 1) and 1 <= x.shape[-1] <= 64:
        rows = x.reshape(-1, x.shape[-1])
        peak = np.empty(len(rows), x.dtype)
        step = BLOCK // x.shape[-1]
        for start in range(0, len(rows), step):
            columns = np.ascontiguousarray(rows[start : start + step].T)
            np.maximum.reduce(columns, axis=0, out=peak[start : start + step])
        return peak.reshape(*x.shape[:-1], 1)
    return np.amax(x, axis=dim, keepdims=True)


def _checked(x: Any, dim: int) -> Array:
    x = np.asarray(x)
    check_floats(x)
    if not -max(x.ndim, 1) <= dim < max(x.ndim, 1):
        raise IndexError(f"dim {dim} is out of range for {x.ndim} dimensions")
    return x


@op
@half_in_float32
def softmax(x: Array, /, dim: int = -1) -> Array:
    """`exp(x) / sum(exp(x))` over `dim`: positive numbers that add up to 1 (Bridle 1990).

    The largest element is subtracted first, which changes nothing but keeps exp from overflowing. Raises `DTypeError`
    for integers, `OutOfRangeError` for a dimension that is not there. Its backward kernel needs the result.

    >>> softmax(np.array([[1000, 1000], [0, -1000]], np.float32))
    tensor([[0.5, 0.5],
            [1. , 0. ]])
    """
    x = _checked(x, dim)
    if not x.size:
        return x.copy()
    result = np.subtract(x, _peak(x, dim), out=np.empty_like(x))
    np.exp(result, out=result)
    result /= _sum(result, dim)
    return result


@op
@half_in_float32
def softmax_backward(g: Array, out: Array, /, dim: int = -1) -> Array:
    """Gradient of `softmax`: `out (g - sum(g out))`."""
    product = g * out
    result = np.subtract(g, _sum(product, dim), out=_own(product))
    result *= out
    return result


@op
@half_in_float32
def log_softmax(x: Array, /, dim: int = -1) -> Array:
    """`log(softmax(x))` without the detour: `x - log(sum(exp(x)))`. Its backward kernel needs the result.

    Raises as `softmax` does.

    >>> log_softmax(np.array([0, 1000], np.float32))
    tensor([-1000.,     0.])
    """
    x = _checked(x, dim)
    if not x.size:
        return x.copy()
    result = np.subtract(x, _peak(x, dim), out=np.empty_like(x))
    result -= np.log(_sum(np.exp(result), dim))
    return result


@op
@half_in_float32
def log_softmax_backward(g: Array, out: Array, /, dim: int = -1) -> Array:
    """Gradient of `log_softmax`: `g - exp(out) sum(g)`."""
    result = np.exp(out)
    result *= _sum(g, dim)
    return np.subtract(g, result, out=_own(result))


# --- layers


class ReLU(Layer):
    """`max(x, 0)` for each element; raises as `relu` does.

    >>> from tt_core import tensor
    >>> ReLU()(tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    @checked
    def __init__(self, inplace: bool = False) -> None:  # accepted as in PyTorch, and saves nothing
        super().__init__()

    def forward(self, x: Any) -> Any:
        return relu(x)


class LeakyReLU(Layer):
    """`x` above 0, `negative_slope * x` below; raises as `leaky_relu` does.

    >>> from tt_core import tensor
    >>> LeakyReLU(0.1)(tensor([-1.0, 2.0]))
    tensor([-0.1,  2. ])
    """

    @checked
    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Any:
        return leaky_relu(x, negative_slope=self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class Sigmoid(Layer):
    """`1 / (1 + exp(-x))` for each element; raises as `sigmoid` does.

    >>> from tt_core import tensor
    >>> Sigmoid()(tensor([-1e4, 0.0, 1e4]))
    tensor([0. , 0.5, 1. ])
    """

    def forward(self, x: Any) -> Any:
        return sigmoid(x)


class Tanh(Layer):
    """Hyperbolic tangent of each element; raises as `tanh` does.

    >>> from tt_core import tensor
    >>> Tanh()(tensor([0.0, 1e4]))
    tensor([0., 1.])
    """

    def forward(self, x: Any) -> Any:
        return tanh(x)


class GELU(Layer):
    """`x Phi(x)` for each element; raises `ShapeError` unless `approximate` is "none" or "tanh".

    >>> from tt_core import tensor
    >>> GELU()(tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1587,  0.    ,  0.8413])
    """

    @checked
    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        _gelu_form(approximate)
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        return gelu(x, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Layer):
    """`x sigmoid(x)` for each element; raises as `silu` does.

    >>> from tt_core import tensor
    >>> SiLU()(tensor([-1.0, 0.0, 1.0]))
    tensor([-0.2689,  0.    ,  0.7311])
    """

    @checked
    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return silu(x)


class Softplus(Layer):
    """`log(1 + exp(beta x)) / beta` for each element; `x` itself where `beta x > threshold`. Raises as `softplus` does.

    >>> from tt_core import tensor
    >>> Softplus()(tensor([-1e4, 0.0, 1e4]))
    tensor([0.0000e+00, 6.9315e-01, 1.0000e+04])
    """

    @checked
    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, x: Any) -> Any:
        return softplus(x, beta=self.beta, threshold=self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Softmax(Layer):
    """Positive numbers that add up to 1 over `dim`; raises as `softmax` does.

    >>> from tt_core import tensor
    >>> Softmax()(tensor([[0.0, 0.0], [1e4, 0.0]]))
    tensor([[0.5, 0.5],
            [1. , 0. ]])
    """

    @checked
    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Any) -> Any:
        return softmax(x, dim=self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """Logarithm of `Softmax`; raises as `softmax` does.

    >>> from tt_core import tensor
    >>> LogSoftmax()(tensor([0.0, 0.0]))
    tensor([-0.6931, -0.6931])
    """

    def forward(self, x: Any) -> Any:
        return log_softmax(x, dim=self.dim)
