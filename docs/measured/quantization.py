"""Numbers and pictures of lesson 15, quantization."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np

import tt_core
from measured import fastest, number, picture
from tt_core import Linear, Sequential
from tt_learn.svg import line_chart
from tt_perf.quantization import Int4WeightOnly, Int8DynamicActivation, Int8WeightOnly, choose_qparams, quantize_
from tt_perf.quantization.affine import dequantize_affine, fake_quantize, quantize_affine
from tt_perf.quantization.packed import exact_length, pack_int4, pack_int8, unpack_int4, unpack_int8


def normal(*shape: int) -> Any:
    """Normally distributed float32 numbers."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def error(x: Any, y: Any) -> float:
    """The length of the difference, in percent of the length of `x`."""
    return float(100 * np.linalg.norm(x - y) / np.linalg.norm(x))


def rounded(x: Any, bits: int, axis: int | None = None) -> Any:
    """`x` with so many bits: one symmetric range for all of it, or for each row."""
    most = 2 ** (bits - 1) - 1
    largest = np.abs(x).max(axis, keepdims=True)
    scale, zero = choose_qparams(-largest, largest, -most, most, symmetric=True)
    return fake_quantize.kernel(x, scale, zero, quant_min=-most, quant_max=most)


WEIGHT = normal(512, 512)


@number(3.9, 4, ".2f")
def int8_saves() -> float:
    """How many times smaller a float32 weight (512, 512) is as int8 with a scale a row."""
    return float(WEIGHT.nbytes / pack_int8(WEIGHT).nbytes)


@number(6, 8, ".1f")
def int4_saves() -> float:
    """How many times smaller it is as int4 with a scale and a zero point for each 32 numbers."""
    return float(WEIGHT.nbytes / pack_int4(WEIGHT, 32).nbytes)


@number(0.3, 2, ".1f")
def int8_error() -> float:
    """The error of an int8 weight in percent."""
    packed = pack_int8(WEIGHT)
    return error(WEIGHT, unpack_int8(packed.codes, packed.scale))


@number(3, 15, ".0f")
def int4_error() -> float:
    """The error of an int4 weight with groups of 32, in percent."""
    return error(WEIGHT, unpack_int4(*pack_int4(WEIGHT, 32), inputs=512))


def with_outlier() -> Any:
    """The weight with one number that is 100 times as large as the others."""
    x = WEIGHT.copy()
    x[0, 0] = 400
    return x


def error_of_others(x: Any, y: Any) -> float:
    """The error of all rows but the first."""
    return error(x[1:], y[1:])


@number(50, 100, ".0f")
def outlier_error_per_tensor() -> float:
    """With an outlier and one scale for the whole weight: the error of the other rows, in percent."""
    x = with_outlier()
    return error_of_others(x, rounded(x, 8))


@number(0.3, 2, ".1f")
def outlier_error_per_row() -> float:
    """The same with one scale a row."""
    x = with_outlier()
    return error_of_others(x, rounded(x, 8, axis=1))


@number(1040, 1040, ".0f")
def exact_products() -> float:
    """How many products of two int8 numbers float32 adds up exactly."""
    return exact_length(127, 127)


@functools.cache
def times(config: str, rows: int) -> float:
    """The time of a quantized Linear(1024, 1024) as a share of the float one's."""
    tt_core.manual_seed(0)
    model, x = Sequential(Linear(1024, 1024)), tt_core.randn(rows, 1024)
    with tt_core.no_grad():
        plain = copy.deepcopy(model)
        configs = {"int8": Int8WeightOnly(), "dynamic": Int8DynamicActivation(), "int4": Int4WeightOnly(32)}
        quantize_(model, configs[config], verbose=False)
        before, after = fastest(lambda: plain(x), lambda: model(x))
    return after / before


@number(0.05, 100, ".1f")
def int8_time_of_a_row() -> float:
    """Time of an int8 Linear(1024, 1024) on one row, as a multiple of the float one's."""
    return times("int8", 1)


@number(0.1, 50, ".1f")
def int8_time_of_many_rows() -> float:
    """The same for 256 rows."""
    return times("int8", 256)


@number(1.1, 2000, ".0f")
def int4_time_of_a_row() -> float:
    """Time of an int4 Linear(1024, 1024) on one row, as a multiple of the float one's."""
    return times("int4", 1)


@picture
def staircase() -> str:
    """Numbers from -2.5 to 2.5 with 3 bits and a range of -1.5 to 1.5: steps inside the range, saturation outside."""
    x = np.linspace(-2.5, 2.5, 501, dtype=np.float32)
    scale, zero = choose_qparams(-1.5, 1.5, 0, 7)
    how = {"quant_min": 0, "quant_max": 7, "dtype": "uint8"}
    y = dequantize_affine.kernel(quantize_affine.kernel(x, scale, zero, **how), scale, zero)
    points = {"x": (x, x), "quantized": (x, y)}
    return line_chart({name: list(zip(a.tolist(), b.tolist())) for name, (a, b) in points.items()})


@picture
def error_by_bits() -> str:
    """The error in percent of a normally distributed weight with 2 to 8 bits, one scale a row, in powers of ten."""
    bits = range(2, 9)
    return line_chart(
        {
            "one scale a row": [(b, float(np.log10(error(WEIGHT, rounded(WEIGHT, b, axis=1))))) for b in bits],
            "half for each bit": [
                (b, float(np.log10(error(WEIGHT, rounded(WEIGHT, 8, axis=1)))) + (8 - b) * float(np.log10(2)))
                for b in bits
            ],
        },
        x_label="bits",
        y_label="log10 of the error in percent",
    )
