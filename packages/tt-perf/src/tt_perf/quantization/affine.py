"""Module 15, quantization: the lesson. Numbers as small integers, a scale, and an integer that stands for zero.

    q = clamp(round(x / scale) + zero_point, quant_min, quant_max)        quantize
    x ~ (q - zero_point) * scale                                          dequantize

`scale` is the step between two neighbouring values, so rounding is off by half of it at most. `zero_point` is the
integer that means 0, so zeros (padding, ReLU) stay exact. What lies outside the range *saturates* at its ends: the one
error that can be large. Everything else in this module chooses the range, or computes with the integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.arguments import explained
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import DTypeError, TinyTorchError
from tt_core.tensor import as_array
from tt_learn.autograd import GradientError, gradient

if TYPE_CHECKING:
    from tt_core.engine.hints import ArrayLike


class QuantizationError(TinyTorchError, ValueError):
    """A model, range or file that cannot be quantized, or was damaged."""


@explained
def choose_qparams(
    low: ArrayLike, high: ArrayLike, quant_min: int = -128, quant_max: int = 127, symmetric: bool = False
) -> tuple[Array, Array]:
    """Scale (float32) and zero point (int32) that map the range from `low` to `high` to integers.

    The range is widened to hold 0, which becomes an integer exactly; a range of zeros alone gets the scale 1.
    `symmetric` makes the range equally wide on both sides and the zero point 0. Arrays give one pair per element.
    Raises `QuantizationError` for a range that is not finite, such as the range of an observer that saw no numbers.

    >>> scale, zero_point = choose_qparams(-1.0, 3.0)
    >>> round(float(scale), 5), int(zero_point)
    (0.01569, -64)
    """
    if not -(1 << 31) <= quant_min < quant_max < 1 << 31 or (symmetric and not quant_min < 0 < quant_max):
        around = " around 0" * symmetric
        raise QuantizationError(f"choose_qparams: quant_min {quant_min} to quant_max {quant_max} is no range{around}")
    low, high = np.broadcast_arrays(_ends("low", low), _ends("high", high))
    lowest, highest = np.minimum(low, 0), np.maximum(high, 0)  # padding and ReLU's zeros must be exact
    if not (np.isfinite(lowest).all() and np.isfinite(highest).all()):
        raise QuantizationError(f"choose_qparams: the range is {_span(low, high)}, expected finite numbers")
    if (low > high).any():
        raise QuantizationError(f"choose_qparams: the range is {_span(low, high)}, its ends are the wrong way round")
    if symmetric:  # for weights: without a zero point, a product of integers needs no correction
        scale = usable_scale(symmetric_scale(lowest, highest, quant_min, quant_max))
        return scale, np.zeros(scale.shape, np.int32)
    scale = usable_scale(affine_scale(lowest, highest, quant_min, quant_max))
    return scale, affine_zero_point(lowest, scale, quant_min)


def affine_scale(lowest: Array, highest: Array, quant_min: int, quant_max: int) -> Array:
    """The step between neighbouring values when the range from `lowest` to `highest` uses every integer.

    >>> float(affine_scale(np.float64(-1), np.float64(3), 0, 8))
    0.5
    """
    return np.asarray((highest - lowest) / (quant_max - quant_min))


def symmetric_scale(lowest: Array, highest: Array, quant_min: int, quant_max: int) -> Array:
    """The smallest step with which the range, made equally wide on both sides of 0, has integers from end to end.

    >>> float(symmetric_scale(np.float64(-1), np.float64(4), -8, 7)), float(symmetric_scale(-8.0, 1.0, -8, 7))
    (0.5714285714285714, 1.1428571428571428)
    """
    return np.asarray(np.maximum(-lowest, highest) / min(-quant_min, quant_max))


def affine_zero_point(lowest: Array, scale: Array, quant_min: int) -> Array:
    """The integer (int32) that stands for 0 when `lowest` is stored as `quant_min`.

    >>> int(affine_zero_point(np.float64(-1), np.float32(0.5), -128))
    -126
    """
    return np.asarray(quant_min - np.rint(lowest / scale.astype(np.float64))).astype(np.int32)


def usable_scale(scale: Array) -> Array:
    """`scale` as float32, 1 where it is 0, and no smaller than the smallest normal number."""
    return np.where(scale > 0, np.maximum(scale, np.finfo(np.float32).tiny), 1).astype(np.float32)


def _ends(name: str, value: Any) -> Array:
    array = as_array(value, what=name)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"choose_qparams: {name} is a number or an array of them, got {array.dtype} {array.shape}")
    return array.astype(np.float64)


def _span(low: ArrayLike, high: ArrayLike) -> str:
    return f"{np.min(low):.4g} to {np.max(high):.4g}"


@op
def quantize_affine(
    x: Array,
    scale: Array,
    zero_point: Array,
    /,
    quant_min: int = -128,
    quant_max: int = 127,
    dtype: str = "int8",
) -> Array:
    """`clamp(round(x / scale) + zero_point, quant_min, quant_max)` as integers of `dtype`, the shape of `x`.

    `scale` and `zero_point` broadcast: numbers for one range, (out, 1) for one range per row. Halves go to the even
    neighbour. Infinities saturate. Raises `ShapeError` for nan, which no integer represents, and for a range that the
    dtype cannot hold.

    >>> quantize_affine(np.array([-1.0, 0.0, 0.26, 99.0]), np.float32(0.5), np.int32(0))
    tensor([ -2,   0,   1, 127], dtype=int8)
    """
    info = np.iinfo(dtype)
    if not info.min <= quant_min < quant_max <= info.max:
        raise ValueError(f"{quant_min} to {quant_max} is no range of {dtype}, which holds {info.min} to {info.max}")
    q = to_grid(x, scale, zero_point, quant_min, quant_max)
    if np.isnan(q).any():  # NumPy would give it any integer
        raise ValueError("nan has no integer; look where it comes from before quantizing")
    return q.astype(dtype)


def to_grid(x: Array, scale: Array, zero_point: Array, quant_min: int, quant_max: int) -> Array:
    """The nearest integers from `quant_min` to `quant_max`, still as floats; nan stays nan.

    >>> to_grid(np.array([-1.0, 0.26, 99.0], np.float32), np.float32(0.5), np.int32(3), -128, 127)
    array([  1.,   4., 127.], dtype=float32)
    """
    q = np.rint(_divided(x, scale))
    q += zero_point
    return np.clip(q, quant_min, quant_max, out=q)


def _divided(x: Array, scale: Array) -> Array:
    """`x / scale` in float32 or float64, without warnings; the caller checks for nan."""
    # float16 overflows above 65504, and x / scale can be large
    with np.errstate(all="ignore"):
        floats = x.dtype if x.dtype in (np.float32, np.float64) else np.dtype(np.float32)
        return np.asarray(np.divide(x, scale, dtype=np.result_type(floats, np.float32)))


@op
def dequantize_affine(q: Array, scale: Array, zero_point: Array, /) -> Array:
    """`(q - zero_point) * scale` as float32, the shape of `q`.

    The difference is taken in floats: of two int8, 127 - (-128) would wrap round to -1.

    >>> dequantize_affine(np.array([-2, 0, 18], np.int8), np.float32(0.5), np.int32(0))
    tensor([-1.,  0.,  9.])
    """
    wide = np.float64 if q.dtype.itemsize > 2 else np.float32  # float32 holds integers up to 2^24
    return (np.subtract(q, zero_point, dtype=wide) * scale).astype(np.float32)


# --- quantization-aware training: the model learns to live with rounded numbers while it can still change


@op
def fake_quantize(x: Array, scale: Array, zero_point: Array, /, quant_min: int = -128, quant_max: int = 127) -> Array:
    """`x` as it comes back from `quantize_affine` and `dequantize_affine`: floats on the grid, to train with.

    Rounding has the slope 0 nearly everywhere, so no gradient would reach the weights. The straight-through estimator
    (Bengio, Leonard & Courville 2013, arXiv:1308.3432) takes the slope 1 inside the range and 0 where `x` saturates.

    >>> fake_quantize(np.array([0.26, 99.0], np.float32), np.float32(0.5), np.int32(0))
    tensor([ 0.5, 63.5])
    """
    q = to_grid(x, scale, zero_point, quant_min, quant_max)
    return ((q - zero_point) * scale).astype(x.dtype)


@op
def fake_quantize_backward(
    g: Array, x: Array, scale: Array, zero_point: Array, /, quant_min: int = -128, quant_max: int = 127
) -> Array:
    """`g` where `x` lies inside the range, 0 where it saturates."""
    q = np.rint(_divided(x, scale)) + zero_point
    return g * ((q >= quant_min) & (q <= quant_max))


# scale and zero point get no gradient: observers set them, training does not
@gradient(fake_quantize)
def _(out: Any, x: Any, scale: Any, zero_point: Any, **ends: int) -> Any:
    return lambda g: fake_quantize_backward(g, x, scale, zero_point, **ends), None, None


@gradient(fake_quantize_backward)
def _(out: Any, g: Any, x: Any, scale: Any, zero_point: Any, **ends: int) -> Any:
    return lambda gg: fake_quantize_backward(gg, x, scale, zero_point, **ends), None, None, None


def no_gradient(name: str) -> Callable[[Any], Any]:
    """The gradient of an op that rounds its input: an error that says what to do."""

    def refuse(g: Any) -> Any:
        raise GradientError(
            f"{name}: the integers have no gradient; train the float model, with fake_quantize for "
            "quantization-aware training, or dequantize_() it first"
        )

    return refuse


def refusing(name: str) -> Callable[..., Any]:
    """The gradient rule of an op that rounds its input: the call is recorded, its backward raises `GradientError`."""
    return lambda out, *inputs, **how: (no_gradient(name),) * len(inputs)


gradient(quantize_affine, refusing("quantize_affine"))
gradient(dequantize_affine, refusing("dequantize_affine"))
