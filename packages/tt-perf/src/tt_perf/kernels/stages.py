"""Beside module 18: convolution, bias, ReLU and 2x2 max pooling as one kernel.

This is not an op, and the plugin `jit` alone does not use it: `capture`, which sees a whole step, puts it in the place
of the ops `conv2d`, `relu` and `max_pool2d`. The same for backward was left out: on the three stages of a network of
3-32-64-128 channels it took 1.0, 0.94 and 0.97 of the time of the ops' kernels, which is 3 % of a training step.

    out, place = conv_relu_pool(loops, x, weight, bias, padding=1)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_data.spatial.windows import IntOrPair, Windows, windows
from tt_perf.kernels.convolution import forward, on_cores, packed
from tt_perf.kernels.ops import fits

Loops = Mapping[str, Callable[..., Any]]


def covers(x: Array, weight: Array, bias: Array | None, w: Windows) -> bool:
    """Whether the stage can be computed here: float32 images, stride 1, one group, and at least one pooled pixel."""
    given = [p for p in (x, weight, bias) if p is not None]
    whole = fits(*given) and x.ndim == weight.ndim == 4 and x.size > 0 and weight.size > 0
    return bool(whole and weight.shape[1] == x.shape[1] and w.stride == (1, 1) and min(w.out) >= 2)


def conv_relu_pool(
    loops: Loops,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    padding: IntOrPair | str = 0,
    dilation: IntOrPair = 1,
    out: Array | None = None,
    place: Array | None = None,
) -> tuple[Array, Array]:
    """`max_pool2d(relu(conv2d(x, weight, bias, 1, padding, dilation)), 2)`, and what its gradient needs.

    x (N, C, H, W), weight (O, C, kh, kw), bias (O,) give (N, O, H' // 2, W' // 2) and as many bytes: the place of each
    maximum in its window, or 4 where ReLU cut it off. They are written into `out` and `place` if these are given.
    `loops` are those of `compiled()` or `plain()`. Raises `ValueError` for what `covers` refuses. A forward pass of
    the first of three stages, 64 images of 3x32x32 to 32 channels, takes 0.5 of the time of the three kernels.
    """
    w = windows(x.shape[2:], weight.shape[2:], 1, padding, dilation)
    if not covers(x, weight, bias, w):
        raise ValueError(f"no stage for x {x.dtype} {x.shape} and weight {weight.dtype} {weight.shape}")
    plan, outputs = forward(w), len(weight)
    size = (len(x), outputs, w.out[0] // 2, w.out[1] // 2)
    out = np.empty(size, np.float32) if out is None else out
    place = np.empty(size, np.uint8) if place is None else place
    strip = plan.lines(len(x), x.shape[1], outputs)
    strip += strip % 2  # windows of 2x2 do not reach from strip to strip
    weights = packed(weight.reshape(1, outputs, -1))
    shift = np.zeros(outputs, np.float32) if bias is None else bias
    how = plan.offsets(x.shape[1], strip), plan.sources, plan.shape(strip), plan.step, w.out[1]
    run = loops["convolve_and_pool"]

    def work(some: slice) -> None:
        run(x, weights, *how, shift, out, place, some.start, some.stop)

    on_cores(work, plan.pieces(len(x), strip), len(x) * outputs * math.prod(w.out) * weight[0].size)
    return out, place
