"""Beside module 18: several ops as one kernel, by which `jit` makes a captured step shorter.

The bits are those of the ops' own kernels, so a step gives the same whether it is captured or not. Fusing a residual
with the layer norm after it brought nothing: 1.1 of the time of the two kernels, whose arrays stay in the cache anyway.

    linear, gelu or relu            each block of the product goes through the activation while it is in the cache
    matmul, relu backward           the same for the gradient
    conv2d, max pooling, relu       the result of the convolution never goes to memory (`stages.py`)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tt_core import activations, layers
from tt_core.engine.dispatch import Array
from tt_core.engine.threads import in_parallel
from tt_data import spatial
from tt_data.spatial.windows import windows
from tt_perf.acceleration.capture.fuse import Uses, check
from tt_perf.acceleration.capture.tape import Call, Job, Tape
from tt_perf.kernels import stages
from tt_perf.kernels.ops import fits, number
from tt_perf.kernels.product_loops import GELU, RELU, RELU_BACKWARD
from tt_perf.kernels.products import Then, covers, is_bias, multiply, product_job

Loops = Mapping[str, Callable[..., Any]]
Kernel = Callable[..., Any]
Given = tuple[Any, ...]
Options = dict[str, Any]


def pairs_from(loop: Loops) -> dict[tuple[str, str], Kernel]:
    """Kernels for two ops by their names, as `tt_fused` describes them."""

    def linear_relu(inputs: Given, _: Options, others: Given, more: Options) -> tuple[Array, Array] | None:
        """Saves a pass and the call of a kernel: 6 us."""
        x, weight, bias = (*inputs, None)[:3]
        if not fits(x, weight, bias) or x.ndim != 2 or weight.ndim != 2:
            return None
        if not (is_bias(bias, weight) and covers(x, weight.T)):
            return None
        out = np.empty((len(x), len(weight)), number)
        return multiply(loop, x, weight.T, bias, Then(RELU, out)), out

    def matmul_relu_backward(inputs: Given, _: Options, others: Given, more: Options) -> tuple[Array, Array] | None:
        """The gradient of relu's input from that of the next layer: 7 us less."""
        a, b = inputs
        (result,) = others
        if not fits(a, result) or a.ndim != 2 or not covers(a, b) or result.shape != (len(a), b.shape[1]):
            return None
        out = np.empty_like(result)
        return multiply(loop, a, b, None, Then(RELU_BACKWARD, out, result)), out

    def linear_gelu(inputs: Given, _: Options, others: Given, more: Options) -> tuple[Array, Array] | None:
        """0.98 of the time of the two kernels on (768, 128) to 512 features, one core; with more, one hand-off less."""
        x, weight, bias = (*inputs, None)[:3]
        if more.get("approximate") != "tanh" or not fits(x, weight, bias) or x.ndim < 2 or weight.ndim != 2:
            return None
        rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
        shape = *x.shape[:-1], len(weight)
        out = np.empty((len(rows), len(weight)), number)
        if is_bias(bias, weight) and covers(rows, weight.T):
            h = multiply(loop, rows, weight.T, bias, Then(GELU, out))
            return h.reshape(shape), out.reshape(shape)
        if bias is None or bias.shape != weight.shape[:1]:
            return None
        h = layers.linear.kernel(rows, weight, None)
        if not fits(h) or h.shape != out.shape:
            return None
        in_parallel(lambda part: loop["bias_gelu"](h[part], bias, out[part]), len(h), 2 * h.nbytes)
        return h.reshape(shape), out.reshape(shape)

    def linear_relu_job(
        inputs: Given, _: Options, others: Given, more: Options, results: Given, failed: Array
    ) -> Job | None:
        x, weight, bias = (*inputs, None)[:3]
        if x.ndim != 2 or weight.ndim != 2 or not is_bias(bias, weight):
            return None
        return product_job(loop, x, weight.T, bias, results[0], Then(RELU, results[1]))

    def matmul_relu_backward_job(
        inputs: Given, _: Options, others: Given, more: Options, results: Given, failed: Array
    ) -> Job | None:
        a, b = inputs
        (result,) = others
        if not fits(a, result) or a.ndim != 2 or b.ndim != 2 or result.shape != (len(a), b.shape[1]):
            return None
        return product_job(loop, a, b, None, results[0], Then(RELU_BACKWARD, results[1], result))

    linear_relu.as_job = linear_relu_job  # type: ignore[attr-defined]
    matmul_relu_backward.as_job = matmul_relu_backward_job  # type: ignore[attr-defined]
    return {
        ("linear", "gelu"): linear_gelu,
        ("linear", "relu"): linear_relu,
        ("matmul", "relu_backward"): matmul_relu_backward,
    }


def stages_on(tape: Tape, loop: Loops, kernels: Mapping[str, Kernel]) -> None:
    """Puts one kernel in the place of convolution, 2x2 max pooling and relu, where all three are kernels of `jit`.

    The first of three stages takes 0.75 of the time of the three kernels, the others 0.92.
    """
    for relu in Uses(tape).calls(activations.relu):
        uses = Uses(tape)
        pool = _only_source(uses, relu, spatial.max_pool2d)
        conv = None if pool is None else _only_source(uses, pool, spatial.conv2d)
        if pool is None or conv is None:
            continue
        if any(call.kernel is not kernels.get(call.op.name) for call in (relu, pool, conv)):
            continue
        kernel: Any = functools.partial(_stage, loop, conv, pool, relu)
        kernel.checks = True
        stage = replace(
            conv,
            kernel=kernel,
            attributes={},
            results=(relu.results[0], *pool.results[1:]),
            shapes=(relu.shapes[0], *pool.shapes[1:]),
            views=(None,) * len(pool.results),
        )
        uses.replace({id(conv): [stage], id(pool): [], id(relu): []})


def _only_source(uses: Uses, call: Call, op: Any) -> Call | None:
    """The call of `op` whose first result is read by `call` only; None if there is none."""
    for each in uses.calls(op):
        if each.results[0] == call.inputs[0] and uses.only(each.results[0], call.op) == [call]:
            return each
    return None


def _stage(loop: Loops, conv: Call, pool: Call, relu: Call, x: Array, weight: Array, bias: Array | None = None) -> Any:
    """The stage by its loop, or by the three kernels where the loop does not cover it."""
    check(conv, x, weight, bias)
    options, window = conv.attributes, pool.attributes
    plain = options["stride"] in (1, (1, 1)) and options["groups"] == 1 and not window["ceil_mode"]
    halves = window["kernel_size"] in (2, (2, 2)) and window["stride"] in (None, 2, (2, 2))
    halves = halves and window["padding"] in (0, (0, 0)) and window["dilation"] in (1, (1, 1))
    if plain and halves and x.ndim == weight.ndim == 4:
        how = options["padding"], options["dilation"]
        if stages.covers(x, weight, bias, windows(x.shape[2:], weight.shape[2:], 1, *how)):
            return stages.conv_relu_pool(loop, x, weight, bias, *how)
    convolved = conv.kernel(x, weight, bias, **options)
    check(pool, convolved)
    pooled, place = pool.kernel(convolved, **window)
    return relu.kernel(pooled, **relu.attributes), place
