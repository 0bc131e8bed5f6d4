"""Beside module 18: kernels of pooling, ReLU and batch normalization over the loops of `image_loops.py`.

Each pass over memory that NumPy makes for one operation becomes a part of one pass, on all cores.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tt_core import activations
from tt_core.engine.dispatch import Array, with_residuals
from tt_core.engine.threads import in_parallel
from tt_data.spatial import IntOrPair, Pair, pool_windows
from tt_data.spatial import normalization as N
from tt_data.spatial import pooling as P
from tt_perf.acceleration.uncovered import leave, unfit
from tt_perf.kernels.ops import fits, number

Call = Callable[..., Any]

_OTHER, _SHAPES = "windows other than 2x2 beside each other", "shapes"


def pools_from(loop: dict[str, Call]) -> dict[str, Call]:
    """Kernels of pooling and ReLU, by the ops' names."""

    def relu(x: Array, /) -> Array:
        if not fits(x):
            leave("relu", unfit(x))
            return activations.relu.kernel(x)
        out = np.empty_like(x)
        flat, results = x.reshape(-1), out.reshape(-1)
        in_parallel(lambda part: loop["relu"](flat[part], results[part]), flat.size, 2 * x.nbytes)
        return out

    @with_residuals("index")
    def max_pool2d(
        x: Array,
        /,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
        ceil_mode: bool = False,
    ) -> tuple[Array, Array]:
        out_size = _halves(x, kernel_size, stride, padding, dilation, ceil_mode)
        if out_size is None:
            leave("max_pool2d", unfit(x) or _OTHER)
            return P.max_pool2d.kernel(x, kernel_size, stride, padding, dilation, ceil_mode)
        planes, out = _planes(x), np.empty((*x.shape[:2], *out_size), number)
        index = np.empty(out.shape, np.uint8)
        results, places = _planes(out), _planes(index)
        run = loop["max_pool_2x2"]
        in_parallel(lambda part: run(planes[part], results[part], places[part]), len(planes), x.nbytes)
        return out, index

    def max_pool2d_backward(
        g: Array,
        index: Array,
        /,
        size: Pair,
        kernel_size: IntOrPair,
        stride: IntOrPair | None,
        padding: IntOrPair,
        dilation: IntOrPair,
        ceil_mode: bool,
    ) -> Array:
        ours = fits(g) and index.shape == g.shape and index.flags.c_contiguous and index.dtype == np.uint8
        out = np.empty((*g.shape[:2], *size), number) if ours and g.ndim == 4 else np.empty(0, number)
        if not ours or _halves(out, kernel_size, stride, padding, dilation, ceil_mode) != g.shape[2:]:
            leave("max_pool2d_backward", unfit(g) or _OTHER)
            kernel = P.max_pool2d_backward.kernel
            return kernel(g, index, size, kernel_size, stride, padding, dilation, ceil_mode)
        given, places, results = _planes(g), _planes(index), _planes(out)
        run = loop["max_pool_2x2_backward"]
        in_parallel(lambda part: run(given[part], places[part], results[part]), len(given), out.nbytes)
        return out

    def avg_pool2d(
        x: Array,
        /,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Array:
        out_size = _halves(x, kernel_size, stride, padding, 1, ceil_mode)
        if out_size is None or divisor_override == 0:
            leave("avg_pool2d", unfit(x) or _OTHER)
            kernel = P.avg_pool2d.kernel
            return kernel(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        planes, out = _planes(x), np.empty((*x.shape[:2], *out_size), number)
        results, divisor = _planes(out), number(divisor_override or 4)
        run = loop["avg_pool_2x2"]
        in_parallel(lambda part: run(planes[part], divisor, results[part]), len(planes), x.nbytes)
        return out

    def avg_pool2d_backward(
        g: Array,
        /,
        size: Pair,
        kernel_size: IntOrPair,
        stride: IntOrPair | None,
        padding: IntOrPair,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: int | None,
    ) -> Array:
        out = np.empty((*g.shape[:2], *size), number) if fits(g) and g.ndim == 4 else np.empty(0, number)
        if _halves(out, kernel_size, stride, padding, 1, ceil_mode) != g.shape[2:] or divisor_override == 0:
            leave("avg_pool2d_backward", unfit(g) or _OTHER)
            options = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
            return P.avg_pool2d_backward.kernel(g, size, *options)
        given, results, divisor = _planes(g), _planes(out), number(divisor_override or 4)
        run = loop["avg_pool_2x2_backward"]
        in_parallel(lambda part: run(given[part], divisor, results[part]), len(given), out.nbytes)
        return out

    made: tuple[Call, ...] = (relu, max_pool2d, max_pool2d_backward, avg_pool2d, avg_pool2d_backward)
    return {kernel.__name__: kernel for kernel in made}


def _halves(
    x: Array,
    kernel_size: IntOrPair,
    stride: IntOrPair | None,
    padding: IntOrPair,
    dilation: IntOrPair,
    ceil_mode: bool,
) -> Pair | None:
    """The size of the result if windows are 2x2, beside each other and in the image; None if the loops cannot do it."""
    if not (fits(x) and x.ndim == 4 and x.size):
        return None
    w = pool_windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    beside = w.kernel == w.stride == (2, 2) and w.dilation == (1, 1) and w.padding == ((0, 0), (0, 0))
    return w.out if beside else None


def _planes(x: Array) -> Array:
    """(N C, H, W)."""
    return x.reshape(-1, *x.shape[2:])


# --- batch normalization


def batch_norms_from(loop: dict[str, Call]) -> dict[str, Call]:
    """Kernels of batch normalization, by the ops' names."""

    def batch_norm_training(
        x: Array, weight: Array | None = None, bias: Array | None = None, /, eps: float = 1e-5
    ) -> tuple[Array, Array, Array]:
        if not _one_kind(x, weight, bias):
            leave("batch_norm_training", unfit(x, weight, bias) or _SHAPES)
            return N.batch_norm_training.kernel(x, weight, bias, eps=eps)
        flat, out = _rows(x), np.empty(x.shape, number)
        mean, var = np.empty((2, x.shape[1]), number)
        results, scale, shift = _rows(out), _or_ones(weight, x), _or_zeros(bias, x)

        def normalize(part: slice) -> None:
            loop["batch_norm"](flat, scale, shift, number(eps), results, mean, var, part.start, part.stop)

        in_parallel(normalize, x.shape[1], 2 * x.nbytes)
        return out, mean, var

    def batch_norm_inference(
        x: Array, mean: Array, var: Array, weight: Array | None = None, bias: Array | None = None, /, eps: float = 1e-5
    ) -> Array:
        if not _one_kind(x, mean, var, weight, bias):
            leave("batch_norm_inference", unfit(x, mean, var, weight, bias) or _SHAPES)
            return N.batch_norm_inference.kernel(x, mean, var, weight, bias, eps=eps)
        flat, out = _rows(x), np.empty(x.shape, number)
        results, scale, shift = _rows(out), _or_ones(weight, x), _or_zeros(bias, x)

        def normalize(part: slice) -> None:
            run = loop["batch_norm_inference"]
            run(flat, mean, var, scale, shift, number(eps), results, part.start, part.stop)

        in_parallel(normalize, x.shape[1], 2 * x.nbytes)
        return out

    def batch_norm_backward(
        g: Array, x: Array, mean: Array, var: Array, weight: Array | None = None, /, eps: float = 1e-5
    ) -> tuple[Array, Array, Array]:
        if not (_one_kind(x, mean, var, weight) and fits(g) and g.shape == x.shape):
            leave("batch_norm_backward", unfit(g, x, mean, var, weight) or _SHAPES)
            return N.batch_norm_backward.kernel(g, x, mean, var, weight, eps=eps)
        upstream, flat, out = _rows(g), _rows(x), np.empty(x.shape, number)
        by_weight, by_bias = np.empty((2, x.shape[1]), number)
        results, scale = _rows(out), _or_ones(weight, x)

        def differentiate(part: slice) -> None:
            sums = by_weight, by_bias, part.start, part.stop
            loop["batch_norm_backward"](upstream, flat, mean, var, scale, number(eps), results, *sums)

        in_parallel(differentiate, x.shape[1], 3 * x.nbytes)
        return out, by_weight, by_bias

    made: tuple[Call, ...] = (batch_norm_training, batch_norm_inference, batch_norm_backward)
    return {kernel.__name__: kernel for kernel in made}


def _one_kind(x: Array, *vectors: Array | None) -> bool:
    """Whether the loops are made for an input (N, C, ...) and these vectors (C,)."""
    given = [v for v in vectors if v is not None]
    return fits(x, *given) and x.ndim >= 2 and x.size > 0 and all(v.shape == x.shape[1:2] for v in given)


def _rows(x: Array) -> Array:
    """(N, C, L)."""
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))


def _or_ones(weight: Array | None, x: Array) -> Array:
    return np.ones(x.shape[1], number) if weight is None else weight


def _or_zeros(bias: Array | None, x: Array) -> Array:
    return np.zeros(x.shape[1], number) if bias is None else bias
