"""Part of module 01, tensor: mathematical functions that PyTorch has and the journey does not need.

Each is an op on its own, because no composition of other ops gives its value accurately. Integers give float32, as in
PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, Op, op
from tt_core.tensor.dtypes import float32_by_default, floating
from tt_core.tensor.elementwise import check_divisor
from tt_core.tensor.reductions import accumulator


def _named(kernel: Callable[..., Array], name: str, sentence: str) -> Op:
    kernel.__name__ = kernel.__qualname__ = name
    kernel.__doc__ = f"{sentence} Raises `DTypeError` for what is not a number."
    return op(kernel)


def _of_one(name: str, ufunc: Callable[[Any], Array], sentence: str) -> Op:
    def kernel(x: Array, /) -> Array:
        return ufunc(floating(x))

    return _named(kernel, name, sentence)


def _of_two(name: str, ufunc: Callable[[Any, Any], Array], sentence: str) -> Op:
    def kernel(a: Array | float, b: Array | float, /) -> Array:
        return ufunc(*[x if isinstance(x, (int, float)) else floating(x) for x in (a, b)])

    return _named(kernel, name, sentence)


def _of_integers(name: str, ufunc: Callable[..., Array], sentence: str) -> Op:
    def kernel(a: Array, b: Array, /) -> Array:
        return ufunc(a, b)

    return _named(kernel, name, sentence)


tan = _of_one("tan", np.tan, "Tangent of an angle in radians.")
asin = _of_one("asin", np.arcsin, "Inverse sine in radians, nan outside [-1, 1].")
acos = _of_one("acos", np.arccos, "Inverse cosine in radians, nan outside [-1, 1].")
atan = _of_one("atan", np.arctan, "Inverse tangent in radians.")
sinh = _of_one("sinh", np.sinh, "Hyperbolic sine.")
cosh = _of_one("cosh", np.cosh, "Hyperbolic cosine.")
asinh = _of_one("asinh", np.arcsinh, "Inverse hyperbolic sine.")
acosh = _of_one("acosh", np.arccosh, "Inverse hyperbolic cosine, nan below 1.")
atanh = _of_one("atanh", np.arctanh, "Inverse hyperbolic tangent, nan outside [-1, 1].")
log2 = _of_one("log2", np.log2, "Logarithm to base 2.")
log10 = _of_one("log10", np.log10, "Logarithm to base 10.")
exp2 = _of_one("exp2", np.exp2, "`2 ** x`.")
atan2 = _of_two("atan2", np.arctan2, "Angle of the point (b, a) in radians, between -pi and pi.")
hypot = _of_two("hypot", np.hypot, "`sqrt(a^2 + b^2)` without overflow.")
logaddexp = _of_two("logaddexp", np.logaddexp, "`log(exp(a) + exp(b))`, safe at any magnitude.")
bitwise_and = _of_integers("bitwise_and", np.bitwise_and, "Bits that are set in both integers.")
bitwise_or = _of_integers("bitwise_or", np.bitwise_or, "Bits that are set in either integer.")
bitwise_xor = _of_integers("bitwise_xor", np.bitwise_xor, "Bits that are set in exactly one of two integers.")


@op
def bitwise_not(x: Array, /) -> Array:
    """Every bit inverted; raises `DTypeError` for floats.

    >>> bitwise_not(np.array([0, 1]))
    tensor([-1, -2])
    """
    return np.invert(x)


@op
def trunc(x: Array, /) -> Array:
    """The integer part, rounded towards 0; raises `DTypeError` for what is not a number.

    >>> trunc(np.array([-1.5, 1.5], np.float32))
    tensor([-1.,  1.])
    """
    return np.trunc(x)


@op(check=check_divisor)
@float32_by_default
def fmod(a: Array, b: Array, /) -> Array:
    """Remainder of `a / b` with the sign of `a`; raises `ArgumentError` for integers divided by 0.

    >>> fmod(np.array([7, -7]), 3)
    tensor([ 1, -1])
    """
    return np.fmod(a, b)


@op
def cumprod(x: Array, /, dim: int) -> Array:
    """Running product along `dim`, of integers in int64; raises `OutOfRangeError` for a dimension that does not exist.

    >>> cumprod(np.array([1, 2, 3, 4]), dim=0)
    tensor([ 1,  2,  6, 24])
    """
    return np.cumprod(x, axis=dim, dtype=accumulator(x)).reshape(x.shape)  # NumPy gives () a dimension


@op
def running_extreme(x: Array, /, dim: int, largest: bool = True) -> Array:
    """Index along `dim` of the largest (or smallest) element so far, the last one among equals.

    Raises `OutOfRangeError` for a dimension that does not exist.

    >>> running_extreme(np.array([1, 3, 2, 3]), dim=0)
    tensor([0, 1, 1, 3])
    """
    if not x.ndim:
        return np.zeros((), np.int64)
    best = (np.maximum if largest else np.minimum).accumulate(x, axis=dim)
    places = np.expand_dims(np.arange(x.shape[dim]), tuple(d for d in range(x.ndim) if d != dim % x.ndim))
    found = (x == best) | (np.isnan(x) if x.dtype.kind == "f" else False)
    return np.maximum.accumulate(np.where(found, places, 0), axis=dim)
