"""Module 01, tensor: the dtype of a result, and the dtype in which it is computed.

Dtypes follow NumPy's promotion, in which a Python scalar takes the dtype of the array beside it, with one exception:
if no array holds floats, a floating-point result is float32 as in PyTorch, and not float64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from tt_core.engine.dispatch import Array

if TYPE_CHECKING:
    from tt_core.engine.hints import ArrayLike

F = TypeVar("F", bound=Callable[..., Any])
DOUBLE = np.dtype(np.float64)
HALF = np.dtype(np.float16)


def floating(x: ArrayLike) -> Array:
    """Returns arrays and NumPy numbers of floats unchanged; integers, booleans and Python numbers become float32.

    Raises `TypeError` for anything but numbers.

    >>> floating(np.array([1, 2], np.int8)).dtype
    dtype('float32')
    """
    if isinstance(x, (np.ndarray, np.floating)) and x.dtype.kind == "f":
        return cast(Array, x)
    if np.asarray(x).dtype.kind not in "fiub":  # NumPy converts None to nan
        raise TypeError("x must be a tensor or an array of numbers")
    return np.asarray(x, dtype=np.float32)


def to_default_float(result: object, *operands: Any) -> Any:
    """Converts a float64 result to float32, unless an operand is an array of float64; other results stay unchanged.

    NumPy returns float64 for an array of integers beside a Python float.

    >>> to_default_float(np.arange(2) * 0.5, np.arange(2), 0.5).dtype
    dtype('float32')
    """
    if getattr(result, "dtype", DOUBLE) is not DOUBLE:
        return result
    types = [_type_of(x) for x in operands if x is not None]
    if any(isinstance(t, np.dtype) and t.kind == "f" for t in types):
        return np.asarray(result, np.result_type(*types))
    result = np.asarray(result)  # of a Python number
    return result.astype(np.float32) if result.dtype is DOUBLE else result


def _type_of(x: Any) -> Any:
    """The dtype of an operand, or a float for a number that takes the dtype of the array beside it."""
    if isinstance(x, (int, float)):
        return float(x)  # np.float64 is a float too
    dtype = np.asarray(x).dtype
    return 0.0 if dtype is DOUBLE and isinstance(x, (list, tuple)) else dtype


def float32_by_default(kernel: F) -> F:
    """Decorates a kernel so that Python floats beside integers give float32, and not float64 as in NumPy.

    >>> @float32_by_default
    ... def twice(x, factor=2.0):
    ...     return x * factor
    >>> twice(np.array([1, 2])).dtype
    dtype('float32')
    """

    @functools.wraps(kernel)
    def compute(*operands: Any) -> Any:
        return to_default_float(kernel(*operands), *operands)

    return cast(F, compute)


def through_float32(kernel: Callable[..., Any], *arrays: Any, **attributes: Any) -> Any:
    """Runs a kernel with its float16 arrays as float32, and rounds the float32 results to float16.

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


def _rounded(result: Any) -> Any:
    return result.astype(HALF) if result.dtype == np.float32 else result


def half_in_float32(kernel: F) -> F:
    """Decorates a kernel so that it computes in float32 if an array is float16, and rounds its results once.

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
    """Decorates a function of one array: integers become float32; float16 is computed in float32 and rounded once.

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
