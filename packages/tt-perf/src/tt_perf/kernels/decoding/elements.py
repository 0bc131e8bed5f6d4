"""Beside module 18, decoding: norms and activations of a single row, compiled."""

from __future__ import annotations

import math

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.acceleration import loops
from tt_perf.kernels.decoding.intrinsics import compiled, float32_at

Number = np.float32
ZERO, ONE, HALF = Number(0), Number(1), Number(0.5)
exp_below_0 = compiled()(loops.exp_below_0)
_TWO_ROOT, _CUBIC, _ROOT_HALF = Number(2 * math.sqrt(2 / math.pi)), Number(0.044715), Number(math.sqrt(0.5))


@compiled("reassoc")
def layer_norm(x: Array, weight: int, bias: int, eps: Number, out: Array) -> None:
    """`(x - mean) / sqrt(variance + eps) * weight + bias`; weight and bias are addresses, or 0."""
    each = ONE / Number(x.size)
    total = ZERO
    for i in range(x.size):
        total += x[i]
    middle = total * each
    squares = ZERO
    for i in range(x.size):
        squares += (x[i] - middle) * (x[i] - middle)
    scale = ONE / np.sqrt(squares * each + eps)
    for i in range(x.size):
        out[i] = (x[i] - middle) * scale
    _scale(out, weight, bias)


@compiled("reassoc")
def rms_norm(x: Array, weight: int, eps: Number, out: Array) -> None:
    """`x / sqrt(mean(x^2) + eps) * weight`."""
    squares = ZERO
    for i in range(x.size):
        squares += x[i] * x[i]
    scale = ONE / np.sqrt(squares / Number(x.size) + eps)
    for i in range(x.size):
        out[i] = x[i] * scale
    _scale(out, weight, 0)


@compiled()
def _scale(out: Array, weight: int, bias: int) -> None:
    if weight:
        factor = float32_at(weight, out.size)
        for i in range(out.size):
            out[i] *= factor[i]
    if bias:
        shift = float32_at(bias, out.size)
        for i in range(out.size):
            out[i] += shift[i]


@compiled()
def gelu_tanh(x: Array) -> None:
    """GPT-2's GELU in place; see `loops.gelu_tanh`."""
    for i in range(x.size):
        u = _TWO_ROOT * (x[i] + _CUBIC * x[i] * x[i] * x[i])
        e = exp_below_0(-abs(u))
        x[i] = x[i] * ((ONE if u > ZERO else e) / (ONE + e))


@compiled()
def gelu(x: Array) -> None:
    """`x (1 + erf(x / sqrt(2))) / 2` in place."""
    for i in range(x.size):
        x[i] = HALF * x[i] * (ONE + Number(math.erf(x[i] * _ROOT_HALF)))


@compiled()
def silu_times(gate: Array, up: Array, out: Array) -> None:
    """`gate / (1 + e^-gate) * up`."""
    for i in range(out.size):
        e = exp_below_0(-abs(gate[i]))
        out[i] = gate[i] * ((ONE if gate[i] > ZERO else e) / (ONE + e)) * up[i]
