"""Module 01, tensor: the arithmetic. Each op here works on every element by itself, and broadcasts its inputs.

Comparisons return booleans. `dtypes.py` says which dtype a result has.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.dispatch import Array, op, wrap
from tt_core.engine.errors import ArgumentError
from tt_core.tensor.dtypes import DOUBLE as DOUBLE
from tt_core.tensor.dtypes import HALF as HALF
from tt_core.tensor.dtypes import float32_by_default, to_default_float
from tt_core.tensor.dtypes import floating as floating
from tt_core.tensor.dtypes import half_in_float32 as half_in_float32
from tt_core.tensor.dtypes import on_floats as on_floats
from tt_core.tensor.dtypes import through_float32 as through_float32

if TYPE_CHECKING:
    from tt_core.tensor.tensor import Tensor

# --- arithmetic of two


@op
@float32_by_default
def add(a: Array, b: Array, /) -> Array:
    """`a + b`; raises `ShapeError` for shapes that do not broadcast, as all ops of two inputs do.

    >>> add(np.array([[10], [20]]), np.array([1, 2, 3]))
    tensor([[11, 12, 13],
            [21, 22, 23]])
    """
    return np.add(a, b)


@op
@float32_by_default
def sub(a: Array, b: Array, /) -> Array:
    """`a - b`; raises `ShapeError` for shapes that do not broadcast, `DTypeError` for two tensors of booleans.

    >>> sub(np.array([3, 4]), 1)
    tensor([2, 3])
    """
    return np.subtract(a, b)  # NumPy refuses two booleans, whose difference could mean several things


@op
@float32_by_default
def mul(a: Array, b: Array, /) -> Array:
    """`a * b`; raises `ShapeError` for shapes that do not broadcast.

    >>> mul(np.array([[10], [20]]), np.array([1, 2, 3])).shape
    (2, 3)
    """
    return np.multiply(a, b)


def scaled(x: Tensor | Array | float, factor: float) -> Any:
    """`factor * x`; Python's numbers stay Python's, so that they do not decide the dtype of a sum.

    >>> scaled(1, 2), scaled(np.array([1.0]), 2)
    (2, tensor([2.], dtype=float64))
    """
    if factor == 1:
        return x
    return x * factor if isinstance(x, (int, float)) else mul(x, factor)


@op
@float32_by_default
def div(a: Array, b: Array, /) -> Array:
    """`a / b`, inf or nan where `b` is 0, as in PyTorch; integers give float32.

    Raises `ShapeError` for shapes that do not broadcast.

    >>> div(np.array([-1, 0, 1], np.float32), np.float32(0))
    tensor([-inf,  nan,  inf])
    """
    return np.divide(a, b)


def check_divisor(a: Array, b: Array, /) -> None:
    """Raises `ArgumentError` for integers divided by 0: integers have neither infinity nor nan."""
    if np.result_type(a, b).kind != "f" and not np.all(b):
        raise ArgumentError("integers cannot be divided by 0; convert one of them with float()")


@op(check=check_divisor)
@float32_by_default
def floor_divide(a: Array, b: Array, /) -> Array:
    """`a // b`, rounded towards minus infinity.

    Raises `ShapeError` for shapes that do not broadcast, `ArgumentError` for integers divided by 0.

    >>> floor_divide(np.array([7, -7]), 2)
    tensor([ 3, -4])
    """
    return np.floor_divide(a, b)


@op(check=check_divisor)
@float32_by_default
def remainder(a: Array, b: Array, /) -> Array:
    """`a % b`, with the sign of `b`.

    Raises `ShapeError` for shapes that do not broadcast, `ArgumentError` for integers divided by 0.

    >>> remainder(np.array([7, -7]), 3)
    tensor([1, 2])
    """
    return np.remainder(a, b)


@op
@float32_by_default
def pow(a: Array, b: Array | float, /) -> Array:
    """`a ** b`; raises `ShapeError` for shapes that do not broadcast, and for integers to a negative power.

    >>> pow(np.array([1, 2, 3]), 2)
    tensor([1, 4, 9])
    """
    return a**b  # the operator, since np.power lacks its short cuts for 2 and 0.5


@op
@float32_by_default
def maximum(a: Array, b: Array, /) -> Array:
    """The larger of each pair, nan where either is nan; raises `ShapeError` for shapes that do not broadcast.

    >>> maximum(np.array([1, 5]), 3)
    tensor([3, 5])
    """
    return np.maximum(a, b)  # np.fmax would hide a nan, and with it the error that made it


@op
@float32_by_default
def minimum(a: Array, b: Array, /) -> Array:
    """The smaller of each pair, nan where either is nan; raises `ShapeError` for shapes that do not broadcast.

    >>> minimum(np.array([1, 5]), 3)
    tensor([1, 3])
    """
    return np.minimum(a, b)


# --- comparison and logic


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
    """Whether `a != b`, true for nan and itself; raises `ShapeError` for shapes that do not broadcast.

    >>> ne(np.array([1.0, np.nan]), np.array([1.0, np.nan]))
    tensor([False,  True])
    """
    return np.not_equal(a, b)  # nan differs from everything (IEEE 754), so x != x finds it


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


@op
def logical_and(a: Array, b: Array, /) -> Array:
    """Whether both are true (not zero); raises `ShapeError` for shapes that do not broadcast, `DTypeError` for None.

    >>> logical_and(np.array([0, 1, 2]), np.array([True, True, False]))
    tensor([False,  True, False])
    """
    return np.logical_and(a, b)


@op
def logical_or(a: Array, b: Array, /) -> Array:
    """Whether either is true (not zero); raises `ShapeError` for shapes that do not broadcast, `DTypeError` for None.

    >>> logical_or(np.array([0, 1, 2]), np.array([False, False, True]))
    tensor([False,  True,  True])
    """
    return np.logical_or(a, b)


@op
def logical_not(x: Array, /) -> Array:
    """Whether `x` is false (zero); raises `DTypeError` for None and text.

    >>> logical_not(np.array([0, 1, 2]))
    tensor([ True, False, False])
    """
    return np.logical_not(x)


@op
def isnan(x: Array, /) -> Array:
    """Whether each element is nan; raises `DTypeError` for anything but numbers.

    >>> isnan(np.array([1.0, np.nan, np.inf]))
    tensor([False,  True, False])
    """
    return np.isnan(x)


@op
def isfinite(x: Array, /) -> Array:
    """Whether each element is neither nan nor infinite; raises `DTypeError` for anything but numbers.

    >>> isfinite(np.array([1.0, np.nan, np.inf]))
    tensor([ True, False, False])
    """
    return np.isfinite(x)


# --- functions of one


@op
def neg(x: Array, /) -> Array:
    """`-x`; raises `DTypeError` for booleans, which have `logical_not`.

    >>> neg(np.array([1, -2]))
    tensor([-1,  2])
    """
    return np.negative(x)


@op
def abs(x: Array, /) -> Array:
    """`|x|`; raises `DTypeError` for anything but numbers.

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
    """`e ** x`, inf where it overflows; integers give float32. Raises `DTypeError` for anything but numbers.

    >>> exp(np.array([0, 1, 1000], np.float32))
    tensor([1.    , 2.7183,    inf])
    """
    return np.exp(floating(x))


@op
def log(x: Array, /) -> Array:
    """Natural logarithm, -inf at 0 and nan below; integers give float32. Raises as `exp` does.

    >>> log(np.array([-1, 0, 1], np.float32))
    tensor([nan, -inf, 0.])
    """
    return np.log(floating(x))


@op
def log1p(x: Array, /) -> Array:
    """`log(1 + x)`, exact near 0, -inf at -1 and nan below; integers give float32. Raises as `exp` does.

    >>> log1p(np.float32(1e-9)), log(1 + np.float32(1e-9))
    (tensor(1.e-09), tensor(0.))
    """
    return np.log1p(floating(x))  # 1 + 1e-9 rounds to 1 in float32, whose logarithm is 0


@op
def expm1(x: Array, /) -> Array:
    """`exp(x) - 1`, exact near 0; integers give float32. Raises as `exp` does.

    >>> expm1(np.float32(1e-9)), exp(np.float32(1e-9)) - 1
    (tensor(1.e-09), tensor(0.))
    """
    return np.expm1(floating(x))


@op
def sqrt(x: Array, /) -> Array:
    """Square root, nan below 0; integers give float32. Raises as `exp` does.

    >>> sqrt(np.array([-1, 0, 9], np.float32))
    tensor([nan,  0.,  3.])
    """
    return np.sqrt(floating(x))


@op
def sin(x: Array, /) -> Array:
    """Sine of an angle in radians, nan at infinity; integers give float32. Raises as `exp` does.

    >>> sin(np.float32(math.pi / 6))
    tensor(0.5)
    """
    return np.sin(floating(x))


@op
def cos(x: Array, /) -> Array:
    """Cosine of an angle in radians, nan at infinity; integers give float32. Raises as `exp` does.

    >>> cos(np.float32(math.pi))
    tensor(-1.)
    """
    return np.cos(floating(x))


@op
def floor(x: Array, /) -> Array:
    """The largest integer that is not above `x`; raises `DTypeError` for booleans and for anything but numbers.

    >>> floor(np.array([-1.5, 1.5], np.float32))
    tensor([-2.,  1.])
    """
    return np.floor(x) if x.dtype.kind == "f" else np.positive(x)  # NumPy 2.0 would make floats of integers


@op
def ceil(x: Array, /) -> Array:
    """The smallest integer that is not below `x`; raises `DTypeError` for booleans and for anything but numbers.

    >>> ceil(np.array([-1.5, 1.5], np.float32))
    tensor([-1.,  2.])
    """
    return np.ceil(x) if x.dtype.kind == "f" else np.positive(x)


@op
def round(x: Array, /) -> Array:
    """The nearest integer, halves to the even one; raises `DTypeError` for anything but numbers.

    >>> round(np.array([0.5, 1.5, 2.6], np.float32))
    tensor([0., 2., 3.])
    """
    return np.round(x)  # halves always up would push sums of rounded numbers up


# NumPy has no error function; the tuned kernel approximates it by a quotient of polynomials
_erf_of_each = np.frompyfunc(math.erf, 1, 1)


@op
@on_floats
def erf(x: Array, /) -> Array:
    """The error function `2/sqrt(pi) * integral of exp(-t^2) from 0 to x`; integers give float32.

    Raises `DTypeError` for anything but numbers.

    >>> erf(np.array([0, 1, 9], np.float32))
    tensor([0.    , 0.8427, 1.    ])
    """
    return np.asarray(_erf_of_each(x), dtype=x.dtype)


# --- choosing


def _check_mask(mask: Array) -> None:
    """Raises `DTypeError` for a mask of floats or wide integers: it is almost always another tensor."""
    if np.asarray(mask).dtype.char not in "?B":  # bool and uint8, as in PyTorch
        raise TypeError(f"the mask must be boolean, got {np.asarray(mask).dtype}; write a comparison such as x > 0")


def _check_condition(condition: Array, a: Array, b: Array, /) -> None:
    _check_mask(condition)


def _chosen(condition: Array, a: Array, b: Array, /) -> Array:
    return to_default_float(np.where(condition, a, b), a, b)


@op(formula=_chosen, check=_check_condition)
def where(
    condition: Tensor | Array | bool,
    input: Tensor | Array | float | None = None,
    other: Tensor | Array | float | None = None,
) -> Tensor:
    """`input` where `condition` holds, `other` elsewhere.

    With the condition alone, the indices where it holds: a tensor for each dimension. Raises `ShapeError` for shapes
    that do not broadcast, `DTypeError` for None and for a condition that is not boolean.

    >>> where(np.array([True, False]), np.array([1, 2]), 0)
    tensor([1, 0])
    """
    if input is None and other is None:
        # (how many hold,) for each dimension
        return wrap(np.nonzero(np.atleast_1d(np.asarray(condition))))
    return where.call(condition, input, other)


def _check_filled(x: Array, mask: Array, value: Array | float, /) -> None:
    _check_mask(mask)


@op(check=_check_filled)
def masked_fill(x: Array, mask: Array, value: Array | float, /) -> Array:
    """`x` with `value` (a number) where `mask` holds.

    Raises `ShapeError` if the mask does not broadcast with `x`, `DTypeError` for None and for a mask of other numbers.

    >>> masked_fill(np.array([1, 2, 3]), np.array([False, True, False]), 0)
    tensor([1, 0, 3])
    """
    return np.where(mask, np.asarray(value, dtype=x.dtype), x)  # a Python float would make integers floats


@op
@float32_by_default
def clip(x: Array, min: Array | float | None = None, max: Array | float | None = None, /) -> Array:
    """`x` limited to [min, max], numbers or arrays; None leaves a side open. Raises `ArgumentError` if both are None.

    >>> clip(np.array([-2, 0, 2]), min=-1, max=1)
    tensor([-1,  0,  1])
    """
    if min is None and max is None:
        raise ArgumentError("needs min or max, got neither")
    return np.clip(x, min, max)
