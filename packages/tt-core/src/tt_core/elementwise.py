"""Module 01, tensor: the ops that work on each element by itself, with broadcasting.

Dtypes follow NumPy's promotion, in which a Python scalar takes the dtype of the array beside it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core.dispatch import Array, op

# --- arithmetic of two


@op
def add(a: Array, b: Array, /) -> Array:
    """`a + b`."""
    return np.add(a, b)


@op
def sub(a: Array, b: Array, /) -> Array:
    """`a - b`."""
    return np.subtract(a, b)


@op
def mul(a: Array, b: Array, /) -> Array:
    """`a * b`."""
    return np.multiply(a, b)


@op
def div(a: Array, b: Array, /) -> Array:
    """`a / b`; division by zero gives inf or nan without a warning, as in PyTorch."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(a, b)


def _quiet_division(a: Array, b: Array) -> np.errstate:
    """Floats divided by zero give inf or nan; integers have neither, so there it is an error."""
    floats = np.result_type(a, b).kind == "f"
    return np.errstate(divide="ignore" if floats else "raise", invalid="ignore")


@op
def floor_divide(a: Array, b: Array, /) -> Array:
    """`a // b`, rounded towards minus infinity."""
    with _quiet_division(a, b):
        return np.floor_divide(a, b)


@op
def remainder(a: Array, b: Array, /) -> Array:
    """`a % b`, with the sign of `b`."""
    with _quiet_division(a, b):
        return np.remainder(a, b)


@op
def pow(a: Array, b: Any, /) -> Array:
    """`a ** b`."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if type(b) in (int, float) and b == 3:  # the C library's pow takes 20 times as long
            return a * a * a
        return a**b  # NumPy's operator, unlike np.power, knows -1, 0.5, 1 and 2


@op
def maximum(a: Array, b: Array, /) -> Array:
    """The larger of each pair; nan where either is nan."""
    return np.maximum(a, b)


@op
def minimum(a: Array, b: Array, /) -> Array:
    """The smaller of each pair; nan where either is nan."""
    return np.minimum(a, b)


# --- comparison and logic: boolean results, no gradients


@op
def eq(a: Array, b: Array, /) -> Array:
    """`a == b`."""
    return np.equal(a, b)


@op
def ne(a: Array, b: Array, /) -> Array:
    """`a != b`."""
    return np.not_equal(a, b)


@op
def lt(a: Array, b: Array, /) -> Array:
    """`a < b`."""
    return np.less(a, b)


@op
def le(a: Array, b: Array, /) -> Array:
    """`a <= b`."""
    return np.less_equal(a, b)


@op
def gt(a: Array, b: Array, /) -> Array:
    """`a > b`."""
    return np.greater(a, b)


@op
def ge(a: Array, b: Array, /) -> Array:
    """`a >= b`."""
    return np.greater_equal(a, b)


@op
def logical_and(a: Array, b: Array, /) -> Array:
    """Whether both are true (not zero)."""
    return np.logical_and(a, b)


@op
def logical_or(a: Array, b: Array, /) -> Array:
    """Whether either is true (not zero)."""
    return np.logical_or(a, b)


@op
def logical_not(x: Array, /) -> Array:
    """Whether `x` is false (zero)."""
    return np.logical_not(x)


@op
def isnan(x: Array, /) -> Array:
    """Whether each element is nan."""
    return np.isnan(x)


@op
def isfinite(x: Array, /) -> Array:
    """Whether each element is neither nan nor infinite."""
    return np.isfinite(x)


# --- functions of one


@op
def neg(x: Array, /) -> Array:
    """`-x`."""
    return np.negative(x)


@op
def abs(x: Array, /) -> Array:
    """`|x|`."""
    return np.abs(x)


@op
def sign(x: Array, /) -> Array:
    """-1, 0 or 1."""
    return np.sign(x)


@op
def exp(x: Array, /) -> Array:
    """`e ** x`; overflows to inf without a warning."""
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(x)


@op
def log(x: Array, /) -> Array:
    """Natural logarithm; -inf at 0, nan below."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(x)


@op
def log1p(x: Array, /) -> Array:
    """`log(1 + x)`, exact near 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log1p(x)


@op
def expm1(x: Array, /) -> Array:
    """`exp(x) - 1`, exact near 0."""
    with np.errstate(over="ignore", under="ignore"):
        return np.expm1(x)


@op
def sqrt(x: Array, /) -> Array:
    """Square root; nan below 0."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(x)


@op
def root(x: Array, /) -> Array:
    """Square root of a sum of squares: as `sqrt`, but flat at 0, where a length or a deviation is smallest."""
    return sqrt.kernel(x)


@op
def sin(x: Array, /) -> Array:
    """Sine of an angle in radians; nan at infinity."""
    with np.errstate(invalid="ignore"):
        return np.sin(x)


@op
def cos(x: Array, /) -> Array:
    """Cosine of an angle in radians; nan at infinity."""
    with np.errstate(invalid="ignore"):
        return np.cos(x)


@op
def floor(x: Array, /) -> Array:
    """The largest integer that is not above `x`."""
    return np.floor(x)


@op
def ceil(x: Array, /) -> Array:
    """The smallest integer that is not below `x`."""
    return np.ceil(x)


@op
def round(x: Array, /) -> Array:
    """The nearest integer, halves to the even one."""
    return np.round(x)


# float32: x * P(x^2) / Q(x^2) on [-4, 4], where erf is +-1 beyond; minimax coefficients as used by Eigen and XLA.
_ERF_P = (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
          -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02)  # fmt: skip
_ERF_Q = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
          -1.42647390514189e-02)  # fmt: skip
_exact_erf = np.frompyfunc(math.erf, 1, 1)


@op
def erf(x: Array, /) -> Array:
    """The error function `2/sqrt(pi) * integral of exp(-t^2) from 0 to x`.

    float32 takes a rational approximation, right to 3e-7; other dtypes ask the C library element by element,
    since float64 is there for checks.
    """
    x = np.asarray(x)
    if x.dtype != np.float32:
        return np.asarray(_exact_erf(x), dtype=x.dtype if x.dtype.kind == "f" else np.float32)
    x = np.clip(x, -4, 4)
    square = x * x
    return x * (_horner(_ERF_P, square) / _horner(_ERF_Q, square))


def _horner(coefficients: tuple[float, ...], x: Array) -> Array:
    """The polynomial with these coefficients, highest power first, at `x`, in one buffer."""
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += x.dtype.type(coefficient)
    return total


# --- choosing


@op
def where(condition: Array, a: Array, b: Array, /) -> Array:
    """`a` where `condition` holds, `b` elsewhere."""
    return np.where(condition, a, b)


@op
def masked_fill(x: Array, mask: Array, value: Any, /) -> Array:
    """`x` with `value` (a scalar) where `mask` holds."""
    if value is None:  # NumPy would fill in nan
        raise TypeError("value must be a number")
    return np.where(mask, np.asarray(value, dtype=x.dtype), x)


@op
def clip(x: Array, /, min: float | None = None, max: float | None = None) -> Array:
    """`x` limited to [min, max]; None leaves a side open."""
    if min is None and max is None:
        raise ValueError("at least one of min and max must be given")
    return np.clip(x, min, max)
