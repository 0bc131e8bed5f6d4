"""Module 01, tensor: the ops that work on each element by itself, with broadcasting.

Dtypes follow NumPy's promotion, in which a Python scalar takes the dtype of the array beside it, with one exception:
where no array holds floats, a floating-point result is float32 as in PyTorch, and not float64.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from tt_core.engine.dispatch import Array, op

F = TypeVar("F", bound=Callable[..., Any])
DOUBLE = np.dtype(np.float64)
HALF = np.dtype(np.float16)


def floating(x: Any) -> Array:
    """Arrays and NumPy numbers of floats as they are; integers, booleans and Python numbers as float32.

    Raises `TypeError` for what is no number.

    >>> floating(np.array([1, 2], np.int8)).dtype
    dtype('float32')
    """
    if isinstance(x, (np.ndarray, np.floating)) and x.dtype.kind == "f":
        return cast(Array, x)
    if np.asarray(x).dtype.kind not in "fiub":  # of None, as a forward without a return gives it, NumPy makes nan
        raise TypeError("x must be a tensor or an array of numbers")
    return np.asarray(x, dtype=np.float32)


def _not_doubled(result: Any, *operands: Any) -> Any:
    """A float64 result in the dtype that it should have: Python's floats and lists never make float64 of an array."""
    types = [_type_of(x) for x in operands]
    if any(isinstance(t, np.dtype) and t.kind == "f" for t in types):
        return np.asarray(result, np.result_type(*types))
    return np.asarray(result, np.float32)


def _type_of(x: Any) -> Any:
    """The dtype of an operand, or the number itself where NumPy lets it take the dtype of the array beside it."""
    if isinstance(x, (int, float)):
        return float(x)  # np.float64 is a float too
    dtype = np.asarray(x).dtype
    return 0.0 if dtype is DOUBLE and isinstance(x, (list, tuple)) else dtype


def through_float32(kernel: Any, *arrays: Any, **attributes: Any) -> Any:
    """Run a kernel with its float16 arrays as float32, and round the float32 results.

    float16 overflows above 65504 and cannot represent 2049, so sums and intermediate results need more.

    >>> ones = np.ones(5000, np.float16)
    >>> float(np.add.accumulate(ones)[-1]), float(through_float32(np.add.accumulate, ones)[-1])
    (2048.0, 5000.0)
    """
    dtypes = [getattr(x, "dtype", None) for x in arrays]
    wide = [x.astype(np.float32) if dtype == HALF else x for x, dtype in zip(arrays, dtypes)]
    result = kernel(*wide, **attributes)
    if any(dtype is not None and dtype.kind == "f" and dtype != HALF for dtype in dtypes):
        return result  # promotion makes it float32 or float64
    return tuple([_rounded(part) for part in result]) if type(result) is tuple else _rounded(result)


def half_in_float32(kernel: F) -> F:
    """Decorate a kernel so that it computes in float32 where an array is float16, and rounds its results once.

    >>> @half_in_float32
    ... def length(x):
    ...     return np.sqrt((x * x).sum())
    >>> length(np.array([300, 400], np.float16))
    np.float16(500.0)
    """

    @functools.wraps(kernel)
    def compute(*arrays: Any, **attributes: Any) -> Any:
        for x in arrays:
            if getattr(x, "dtype", None) == HALF:
                return through_float32(kernel, *arrays, **attributes)
        return kernel(*arrays, **attributes)

    return cast(F, compute)


def on_floats(function: F) -> F:
    """Decorate a function of one array: integers become float32; float16 is computed in float32 and rounded once.

    >>> @on_floats
    ... def half(x):
    ...     return x / 2
    >>> half(np.array([1, 2])).dtype, half(np.array([1, 2], np.float16)).dtype
    (dtype('float32'), dtype('float16'))
    """

    @functools.wraps(function)
    def compute(x: Any, /, *more: Any, **attributes: Any) -> Any:
        x = floating(x)
        if x.dtype == HALF:
            return function(x.astype(np.float32), *more, **attributes).astype(HALF)
        return function(x, *more, **attributes)

    return cast(F, compute)


def _rounded(result: Any) -> Any:
    return result.astype(HALF) if result.dtype == np.float32 else result


# --- arithmetic of two


@op
def add(a: Array, b: Array, /) -> Array:
    """`a + b`; raises `ShapeError` for shapes that do not broadcast, as all ops of two do.

    >>> add(np.array([[10], [20]]), np.array([1, 2, 3]))
    tensor([[11, 12, 13],
            [21, 22, 23]])
    """
    result = np.add(a, b)
    return _not_doubled(result, a, b) if result.dtype is DOUBLE else result


@op
def sub(a: Array, b: Array, /) -> Array:
    """`a - b`; raises `ShapeError` for shapes that do not broadcast, `DTypeError` for two of booleans.

    >>> sub(np.array([3, 4]), 1)
    tensor([2, 3])
    """
    result = np.subtract(a, b)
    return _not_doubled(result, a, b) if result.dtype is DOUBLE else result


@op
def mul(a: Array, b: Array, /) -> Array:
    """`a * b`; raises `ShapeError` for shapes that do not broadcast.

    >>> mul(np.array([[10], [20]]), np.array([1, 2, 3])).shape
    (2, 3)
    """
    result = np.multiply(a, b)
    return _not_doubled(result, a, b) if result.dtype is DOUBLE else result


@op
def div(a: Array, b: Array, /) -> Array:
    """`a / b`, inf or nan where `b` is 0, as in PyTorch; integers give float32.

    Raises `ShapeError` for shapes that do not broadcast.

    >>> div(np.array([-1, 0, 1], np.float32), np.float32(0))
    tensor([-inf,  nan,  inf])
    """
    result = np.divide(a, b)
    return _not_doubled(result, a, b) if result.dtype is DOUBLE else result


def _whole_division(ufunc: Any, a: Array, b: Array) -> Array:
    """Floats divided by zero give inf or nan; integers have neither, so there it is an error."""
    with np.errstate(divide="ignore" if np.result_type(a, b).kind == "f" else "raise"):
        result = ufunc(a, b)
    return _not_doubled(result, a, b) if result.dtype is DOUBLE else result


@op
def floor_divide(a: Array, b: Array, /) -> Array:
    """`a // b`, rounded towards minus infinity; raises `ShapeError` for shapes that do not broadcast and integers by 0.

    >>> floor_divide(np.array([7, -7]), 2)
    tensor([ 3, -4])
    """
    return _whole_division(np.floor_divide, a, b)


@op
def remainder(a: Array, b: Array, /) -> Array:
    """`a % b`, with the sign of `b`; raises `ShapeError` for shapes that do not broadcast and integers by 0.

    >>> remainder(np.array([7, -7]), 3)
    tensor([1, 2])
    """
    return _whole_division(np.remainder, a, b)


@op
def pow(a: Array, b: Any, /) -> Array:
    """`a ** b`; raises `ShapeError` for shapes that do not broadcast and integers to a negative power.

    >>> pow(np.array([1, 2, 3]), 2)
    tensor([1, 4, 9])
    """
    cube = type(b) in (int, float) and b == 3 and getattr(a, "dtype", HALF) != HALF
    # C's pow takes 20 times as long as two products; NumPy's operator, unlike np.power, knows -1, 0.5, 1 and 2
    result = a * a * a if cube else a**b
    return _not_doubled(result, a, b) if np.asarray(result).dtype is DOUBLE else result


@op
def maximum(a: Array, b: Array, /) -> Array:
    """The larger of each pair, nan where either is nan; raises `ShapeError` for shapes that do not broadcast.

    >>> maximum(np.array([1, 5]), 3)
    tensor([3, 5])
    """
    result = np.maximum(a, b)
    return _not_doubled(result, a, b) if result.dtype is DOUBLE else result


@op
def minimum(a: Array, b: Array, /) -> Array:
    """The smaller of each pair, nan where either is nan; raises `ShapeError` for shapes that do not broadcast.

    >>> minimum(np.array([1, 5]), 3)
    tensor([1, 3])
    """
    result = np.minimum(a, b)
    return _not_doubled(result, a, b) if result.dtype is DOUBLE else result


# --- comparison and logic: boolean results, no gradients


@op
def eq(a: Array, b: Array, /) -> Array:
    """Whether `a == b`; raises `ShapeError` for shapes that do not broadcast.

    >>> eq(np.array([0, 1, 2]), np.array([[0], [2]]))
    tensor([[ True, False, False],
            [False, False,  True]])
    """
    return np.equal(a, b)


@op
def ne(a: Array, b: Array, /) -> Array:
    """Whether `a != b`, which nan does not equal; raises `ShapeError` for shapes that do not broadcast.

    >>> ne(np.array([1.0, np.nan]), np.array([1.0, np.nan]))
    tensor([False,  True])
    """
    return np.not_equal(a, b)


@op
def lt(a: Array, b: Array, /) -> Array:
    """Whether `a < b`; raises `ShapeError` for shapes that do not broadcast.

    >>> lt(np.array([0, 1, 2]), 1)
    tensor([ True, False, False])
    """
    return np.less(a, b)


@op
def le(a: Array, b: Array, /) -> Array:
    """Whether `a <= b`; raises `ShapeError` for shapes that do not broadcast.

    >>> le(np.array([0, 1, 2]), 1)
    tensor([ True,  True, False])
    """
    return np.less_equal(a, b)


@op
def gt(a: Array, b: Array, /) -> Array:
    """Whether `a > b`; raises `ShapeError` for shapes that do not broadcast.

    >>> gt(np.array([0, 1, 2]), 1)
    tensor([False, False,  True])
    """
    return np.greater(a, b)


@op
def ge(a: Array, b: Array, /) -> Array:
    """Whether `a >= b`; raises `ShapeError` for shapes that do not broadcast.

    >>> ge(np.array([0, 1, 2]), 1)
    tensor([False,  True,  True])
    """
    return np.greater_equal(a, b)


_NO_TRUTH = "None is neither true nor false; leave a mask that is not there out"
"""NumPy would take it for false, and hand back an array of objects."""


@op
def logical_and(a: Any, b: Any, /) -> Array:
    """Whether both are true (not zero); raises `ShapeError` for shapes that do not broadcast, `DTypeError` for None.

    >>> logical_and(np.array([0, 1, 2]), np.array([True, True, False]))
    tensor([False,  True, False])
    """
    if a is None or b is None:
        raise TypeError(_NO_TRUTH)
    return np.logical_and(a, b)


@op
def logical_or(a: Any, b: Any, /) -> Array:
    """Whether either is true (not zero); raises `ShapeError` for shapes that do not broadcast, `DTypeError` for None.

    >>> logical_or(np.array([0, 1, 2]), np.array([False, False, True]))
    tensor([False,  True,  True])
    """
    if a is None or b is None:
        raise TypeError(_NO_TRUTH)
    return np.logical_or(a, b)


@op
def logical_not(x: Array, /) -> Array:
    """Whether `x` is false (zero); raises `DTypeError` for None and text.

    >>> logical_not(np.array([0, 1, 2]))
    tensor([ True, False, False])
    """
    if x is None:
        raise TypeError(_NO_TRUTH)
    return np.logical_not(x)


@op
def isnan(x: Array, /) -> Array:
    """Whether each element is nan; raises `DTypeError` for what is no number.

    >>> isnan(np.array([1.0, np.nan, np.inf]))
    tensor([False,  True, False])
    """
    return np.isnan(x)


@op
def isfinite(x: Array, /) -> Array:
    """Whether each element is neither nan nor infinite; raises `DTypeError` for what is no number.

    >>> isfinite(np.array([1.0, np.nan, np.inf]))
    tensor([ True, False, False])
    """
    return np.isfinite(x)


# --- functions of one


@op
def neg(x: Array, /) -> Array:
    """`-x`; raises `DTypeError` for booleans, whose opposite is `logical_not`.

    >>> neg(np.array([1, -2]))
    tensor([-1,  2])
    """
    return np.negative(x)


@op
def abs(x: Array, /) -> Array:
    """`|x|`; raises `DTypeError` for what is no number.

    >>> abs(np.array([1, -2]))
    tensor([1, 2])
    """
    return np.abs(x)


@op
def sign(x: Array, /) -> Array:
    """-1, 0 or 1; raises `DTypeError` for booleans.

    >>> sign(np.array([-3, 0, 5]))
    tensor([-1,  0,  1])
    """
    return np.sign(x)


@op
def exp(x: Array, /) -> Array:
    """`e ** x`, inf without a warning where that overflows; raises `DTypeError` for what is no number.

    >>> exp(np.array([0, 1, 1000], np.float32))
    tensor([1.    , 2.7183,    inf])
    """
    return np.exp(floating(x))


@op
def log(x: Array, /) -> Array:
    """Natural logarithm, -inf at 0 and nan below; raises `DTypeError` for what is no number.

    >>> log(np.array([-1, 0, 1], np.float32))
    tensor([nan, -inf, 0.])
    """
    return np.log(floating(x))


@op
def log1p(x: Array, /) -> Array:
    """`log(1 + x)`, exact near 0, -inf at -1 and nan below; raises `DTypeError` for what is no number.

    >>> log1p(np.float32(1e-9)), log(1 + np.float32(1e-9))
    (tensor(1.e-09), tensor(0.))
    """
    return np.log1p(floating(x))


@op
def expm1(x: Array, /) -> Array:
    """`exp(x) - 1`, exact near 0; raises `DTypeError` for what is no number.

    >>> expm1(np.float32(1e-9)), exp(np.float32(1e-9)) - 1
    (tensor(1.e-09), tensor(0.))
    """
    return np.expm1(floating(x))


@op
def sqrt(x: Array, /) -> Array:
    """Square root, nan below 0; raises `DTypeError` for what is no number.

    >>> sqrt(np.array([-1, 0, 9], np.float32))
    tensor([nan,  0.,  3.])
    """
    return np.sqrt(floating(x))


@op
def root(x: Array, /) -> Array:
    """Square root of a sum of squares: as `sqrt`, but its gradient at 0, the least length or deviation, is 0.

    >>> root(np.float32(9))
    tensor(3.)
    """
    return sqrt.kernel(x)


@op
def sin(x: Array, /) -> Array:
    """Sine of an angle in radians, nan at infinity; raises `DTypeError` for what is no number.

    >>> sin(np.float32(math.pi / 6))
    tensor(0.5)
    """
    return np.sin(floating(x))


@op
def cos(x: Array, /) -> Array:
    """Cosine of an angle in radians, nan at infinity; raises `DTypeError` for what is no number.

    >>> cos(np.float32(math.pi))
    tensor(-1.)
    """
    return np.cos(floating(x))


def _whole(x: Array) -> Array:
    """Integers rounded: unchanged. NumPy 2.0 made floats of them."""
    if x.dtype.kind not in "iu":
        raise TypeError(f"does not work on {x.dtype}")
    return x.copy()


@op
def floor(x: Array, /) -> Array:
    """The largest integer that is not above `x`; raises `DTypeError` for what is no number.

    >>> floor(np.array([-1.5, 1.5], np.float32))
    tensor([-2.,  1.])
    """
    return np.floor(x) if x.dtype.kind == "f" else _whole(x)


@op
def ceil(x: Array, /) -> Array:
    """The smallest integer that is not below `x`; raises `DTypeError` for what is no number.

    >>> ceil(np.array([-1.5, 1.5], np.float32))
    tensor([-1.,  2.])
    """
    return np.ceil(x) if x.dtype.kind == "f" else _whole(x)


@op
def round(x: Array, /) -> Array:
    """The nearest integer, halves to the even one; raises `DTypeError` for what is no number.

    >>> round(np.array([0.5, 1.5, 2.6], np.float32))
    tensor([0., 2., 3.])
    """
    return np.round(x)


# float32: x * P(x^2) / Q(x^2) on [-4, 4], where erf is +-1 beyond; minimax coefficients as used by Eigen and XLA.
_ERF_P = (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
          -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02)  # fmt: skip
_ERF_Q = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
          -1.42647390514189e-02)  # fmt: skip
_exact_erf = np.frompyfunc(math.erf, 1, 1)


@op
@half_in_float32
def erf(x: Array, /) -> Array:
    """The error function `2/sqrt(pi) * integral of exp(-t^2) from 0 to x`; raises `DTypeError` for what is no number.

    float16 and float32 take a rational approximation, right to 3e-7; float64, which is there for checks, asks the C
    library element by element.

    >>> erf(np.array([0, 1, 9], np.float32))
    tensor([0.    , 0.8427, 1.    ])
    """
    x = floating(x)
    if x.dtype != np.float32:
        return np.asarray(_exact_erf(x), dtype=x.dtype)
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
    """`a` where `condition` holds, `b` elsewhere.

    Raises `ShapeError` for shapes that do not broadcast, `DTypeError` where `condition` is None.

    >>> where(np.array([True, False]), np.array([1, 2]), 0)
    tensor([1, 0])
    """
    if condition is None:
        raise TypeError(_NO_TRUTH)
    result = np.where(condition, a, b)
    return _not_doubled(result, a, b) if result.dtype is DOUBLE else result


@op
def masked_fill(x: Array, mask: Array, value: Any, /) -> Array:
    """`x` with `value` (a number) where `mask` holds.

    Raises `ShapeError` where the mask does not broadcast with `x`, `DTypeError` where mask or value is None.

    >>> masked_fill(np.array([1, 2, 3]), np.array([False, True, False]), 0)
    tensor([1, 0, 3])
    """
    if value is None:  # NumPy would fill in nan
        raise TypeError("value must be a number")
    if mask is None:
        raise TypeError(_NO_TRUTH)
    return np.where(mask, np.asarray(value, dtype=x.dtype), x)


@op
def clip(x: Array, min: Any = None, max: Any = None, /) -> Array:
    """`x` limited to [min, max], numbers or arrays, None leaving a side open; raises `ShapeError` where both are None.

    >>> clip(np.array([-2, 0, 2]), min=-1, max=1)
    tensor([-1,  0,  1])
    """
    if min is None and max is None:
        raise ValueError("at least one of min and max must be given")
    result = np.clip(x, min, max)
    return _not_doubled(result, *[a for a in (x, min, max) if a is not None]) if result.dtype is DOUBLE else result
