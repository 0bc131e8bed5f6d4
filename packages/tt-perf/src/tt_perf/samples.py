"""Calls to try the ops of Act V with, for `tt plugins check`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tt_core.samples import Arguments, Draw, Samples
from tt_perf.quantization.packed import pack_int4, pack_int8


def _weights(draw: Draw) -> Iterator[tuple[int, Any]]:
    """Float weights (out, in), and how many rows they are multiplied by."""
    for rows, out, inputs in ((4, 512, 512),) if draw.large else ((1, 3, 70), (5, 2, 40), (20, 3, 33), (0, 2, 5)):
        yield rows, draw.rng.standard_normal((out, inputs)).astype(np.float32)


def _quantized_linear(draw: Draw) -> Iterable[Arguments]:
    for rows, weight in _weights(draw):
        x, bias = draw.normal(rows, weight.shape[1]), draw.normal(len(weight))
        yield (x, *pack_int8(weight), None), {}
        yield (x, *pack_int8(weight), bias), {}
        yield (x, *pack_int4(weight, 32), bias), {}


def _integer_product(draw: Draw) -> Iterable[Arguments]:
    for rows, weight in _weights(draw):
        for high in (128, 256):
            a = draw.integers(2 * high - 1, rows, weight.shape[1]) - (high - 1)
            yield (a.astype(np.int8 if high == 128 else np.int16), pack_int8(weight).codes), {}


def _int8_linear_dynamic(draw: Draw) -> Iterable[Arguments]:
    for rows, weight in _weights(draw):
        codes, scale, _ = pack_int8(weight)
        yield (draw.normal(rows, weight.shape[1]), codes, scale, None), {}
        yield (draw.normal(rows, weight.shape[1]), codes, scale, draw.normal(len(weight))), {}


def _int8_linear_static(draw: Draw) -> Iterable[Arguments]:
    for (x, codes, scale, bias), _ in _int8_linear_dynamic(draw):
        yield (x, codes, scale, np.float32(0.05), np.int32(-3), bias), {}


SAMPLES: dict[str, Samples] = {
    "quantized_linear": _quantized_linear,
    "integer_product": _integer_product,
    "int8_linear_dynamic": _int8_linear_dynamic,
    "int8_linear_static": _int8_linear_static,
}
"""Calls by the name of the op."""
