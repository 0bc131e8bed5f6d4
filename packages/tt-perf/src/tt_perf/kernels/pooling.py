"""Beside module 18: kernels of pooling and ReLU over the loops of `image_loops.py` and `window_loops.py`.

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
from tt_data.kernels.pooling import first_inside
from tt_data.spatial import IntOrPair, Pair, Windows, pool_windows
from tt_data.spatial import pooling as P
from tt_data.spatial.pooling_windows import divisors
from tt_perf.acceleration.uncovered import contiguous, leave, unfit
from tt_perf.kernels.convolution import forward
from tt_perf.kernels.ops import fits, number

Call = Callable[..., Any]

_MOST = 255
"""Elements of a kernel whose places fit into bytes beside one that is no place."""


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
        w = _windows(x, kernel_size, stride, padding, dilation, ceil_mode)
        if isinstance(w, str):
            leave("max_pool2d", w)
            return P.max_pool2d.kernel(x, kernel_size, stride, padding, dilation, ceil_mode)
        planes, out = _planes(x), np.empty((*x.shape[:-2], *w.out), number)
        index = np.empty(out.shape, np.uint8)
        results, places = _planes(out), _planes(index)
        if _halves(w):
            run = loop["max_pool_2x2"]
            in_parallel(lambda part: run(planes[part], results[part], places[part]), len(planes), x.nbytes)
        else:
            how, run, inside = _lines(w), loop["max_pool"], first_inside(w).astype(np.uint8)
            given = planes, *how, inside, results, places
            in_parallel(lambda part: run(*given, part.start, part.stop), len(planes), x.nbytes)
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
        w = _windows_of(g, size, kernel_size, stride, padding, dilation, ceil_mode)
        if not isinstance(w, str) and not (
            index.shape == g.shape and index.flags.c_contiguous and index.dtype == np.uint8
        ):
            w = "places"
        if isinstance(w, str):
            leave("max_pool2d_backward", w)
            return P.max_pool2d_backward.kernel(g, index, size, kernel_size, stride, padding, dilation, ceil_mode)
        out = np.empty((*g.shape[:-2], *size), number)
        given, places, results = _planes(contiguous(g)), _planes(index), _planes(out)
        if _halves(w):
            run = loop["max_pool_2x2_backward"]
            in_parallel(lambda part: run(given[part], places[part], results[part]), len(given), out.nbytes)
        else:
            run, how = loop["max_pool_backward"], (given, places, *_lines(w), results)
            in_parallel(lambda part: run(*how, part.start, part.stop), len(given), out.nbytes)
        return out

    def average(
        way: str, w: Windows, x: Array, out: Array, padding: IntOrPair, count_include_pad: bool, override: int | None
    ) -> Array:
        """Runs the loop of `way`, "" or "_backward", from the planes of `x` to those of `out`, which it returns."""
        planes, results, nbytes = _planes(x), _planes(out), max(x.nbytes, out.nbytes)
        if _halves(w):
            run, divisor = loop[f"avg_pool_2x2{way}"], number(override or 4)
            in_parallel(lambda part: run(planes[part], divisor, results[part]), len(planes), nbytes)
        else:
            run, parts = loop[f"avg_pool{way}"], _divisors(w, padding, count_include_pad, override)
            given = planes, *_lines(w), parts, results
            in_parallel(lambda part: run(*given, part.start, part.stop), len(planes), nbytes)
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
        w = _windows(x, kernel_size, stride, padding, 1, ceil_mode)
        if isinstance(w, str) or divisor_override == 0:
            leave("avg_pool2d", w if isinstance(w, str) else "divisor_override")
            kernel = P.avg_pool2d.kernel
            return kernel(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        out = np.empty((*x.shape[:-2], *w.out), number)
        return average("", w, x, out, padding, count_include_pad, divisor_override)

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
        w = _windows_of(g, size, kernel_size, stride, padding, 1, ceil_mode)
        if isinstance(w, str) or divisor_override == 0:
            leave("avg_pool2d_backward", w if isinstance(w, str) else "divisor_override")
            options = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
            return P.avg_pool2d_backward.kernel(g, size, *options)
        out = np.empty((*g.shape[:-2], *size), number)
        return average("_backward", w, contiguous(g), out, padding, count_include_pad, divisor_override)

    made: tuple[Call, ...] = (relu, max_pool2d, max_pool2d_backward, avg_pool2d, avg_pool2d_backward)
    return {kernel.__name__: kernel for kernel in made}


def _windows(x: Array, *how: Any) -> Windows | str:
    """The windows of a pool on these images, or why the loops cannot do it."""
    if unfit(x):
        return unfit(x)
    return _checked(x, pool_windows(x.shape[-2:], *how))


def _windows_of(g: Array, size: Pair, *how: Any) -> Windows | str:
    """The same for the gradient of the results, which may have any strides."""
    if type(g) is not np.ndarray or g.dtype != number:
        return str(g.dtype)
    w = _checked(g, pool_windows(size, *how))
    return w if isinstance(w, str) or w.out == g.shape[-2:] else "shape"


def _checked(x: Array, w: Windows) -> Windows | str:
    if x.ndim not in (3, 4) or not x.size:
        return "shape, or empty"
    return w if math.prod(w.kernel) <= _MOST else "a kernel of more than 255 elements"


def _halves(w: Windows) -> bool:
    """Whether windows are 2x2, beside each other and in the image."""
    return w.kernel == w.stride == (2, 2) and w.dilation == (1, 1) and w.padding == ((0, 0), (0, 0))


def _lines(w: Windows) -> tuple[Array, tuple[int, int, int, int], Pair, Array]:
    """Where the elements of all windows are: sources, shape, step and offsets of `window_loops.py`."""
    plan = forward(w)
    shape = *w.out, w.out[0] + plan.rows.reach, plan.width
    return plan.sources, shape, plan.step, plan.offsets(1, w.out[0])


def _divisors(w: Windows, padding: IntOrPair, count_include_pad: bool, override: int | None) -> Array:
    """The divisor of each window, (H', W')."""
    parts = divisors(w, padding, count_include_pad, override, np.dtype(number))
    return np.ascontiguousarray(np.broadcast_to(parts, w.out))


def _planes(x: Array) -> Array:
    """(N C, H, W)."""
    return x.reshape(-1, *x.shape[-2:])
