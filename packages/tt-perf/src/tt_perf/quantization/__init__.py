"""Module 15, quantization: models as small integers, a quarter or an eighth of the bytes, and what that costs.

The lesson is `affine.py`; this file is the module's front:

    affine.py       scale, zero point, rounding, saturation; fake_quantize for quantization-aware training
    observers.py    which range the integers should cover: min-max, moving average
    counting.py     the same by the distribution of the numbers: percentile, MSE, histogram
    packed.py       int8 and packed int4 weights, and exact products of integers
    layers.py       QuantizedLinear, QuantizedConv2d, QuantizedEmbedding
    calibration.py  observers that watch a model's layers
    convert.py      quantize_ and dequantize_
    report.py       bytes, error and measured time of each layer
    files.py        quantized models on disk
    plugin.py       the plugins `int8` and `int4`

Integers are held as integers: `nbytes` shows it. NumPy has no product of int8 that is faster than one of float32, so
they save memory; `quantize_` measures the time and shows it, faster or slower.
"""

from __future__ import annotations

from tt_perf.quantization.affine import (
    QuantizationError,
    choose_qparams,
    dequantize_affine,
    fake_quantize,
    quantize_affine,
)
from tt_perf.quantization.calibration import Calibration, calibrating
from tt_perf.quantization.convert import (
    Int4WeightOnly,
    Int8DynamicActivation,
    Int8Static,
    Int8WeightOnly,
    dequantize_,
    quantize_,
)
from tt_perf.quantization.counting import HistogramObserver, MSEObserver, PercentileObserver
from tt_perf.quantization.files import load_quantized, save_quantized
from tt_perf.quantization.layers import QuantizedConv2d, QuantizedEmbedding, QuantizedLayer, QuantizedLinear
from tt_perf.quantization.observers import MinMaxObserver, MovingAverageMinMaxObserver, Observer
from tt_perf.quantization.packed import integer_product
from tt_perf.quantization.report import Report

__all__ = [
    "Calibration",
    "HistogramObserver",
    "Int4WeightOnly",
    "Int8DynamicActivation",
    "Int8Static",
    "Int8WeightOnly",
    "MSEObserver",
    "MinMaxObserver",
    "MovingAverageMinMaxObserver",
    "Observer",
    "PercentileObserver",
    "QuantizationError",
    "QuantizedConv2d",
    "QuantizedEmbedding",
    "QuantizedLayer",
    "QuantizedLinear",
    "Report",
    "calibrating",
    "choose_qparams",
    "dequantize_",
    "dequantize_affine",
    "fake_quantize",
    "integer_product",
    "load_quantized",
    "quantize_",
    "quantize_affine",
    "save_quantized",
]
