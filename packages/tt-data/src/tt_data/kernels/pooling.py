"""Tuned kernels of `tt_data.spatial.pooling`: all windows at once, one position of the kernel after the other.

A 2x2 pool is four passes over a quarter of the image each. The figures are shares of the formula's time on two cores.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, tuned
from tt_core.engine.threads import in_parallel
from tt_data.spatial import pooling as P
from tt_data.spatial import pooling_indices
from tt_data.spatial.common import on_images
from tt_data.spatial.pooling_windows import divisors, lowest, pool_windows
from tt_data.spatial.sizes import IntOrPair, Pair
from tt_data.spatial.windows import Windows


@tuned(P.max_pool2d, residuals=("index",))
@on_images()
def max_pool2d(
    x: Array,
    /,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """Compares whole planes, images shared over threads: 0.04 of the time on (32, 32, 32, 32) with a 2x2 kernel.

    Residual: which element of its window each maximum is, see `max_pool2d_index`.
    """
    w = pool_windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    padded = w.pad(x, lowest(x.dtype))
    largest = np.empty((*x.shape[:2], *w.out), dtype=x.dtype)
    index = np.zeros(largest.shape, dtype=np.uint8 if math.prod(w.kernel) <= 256 else np.int32)
    in_parallel(lambda images: _find_largest(padded[images], w, largest[images], index[images]), len(x), x.nbytes)
    # only a window of nothing but the lowest number can have named its padding
    if padded is not x and (largest == lowest(x.dtype)).any():
        np.maximum(index, first_inside(w).astype(index.dtype), out=index)
    return largest, index


def first_inside(w: Windows) -> Array:
    """The first position of each window's kernel that is not padding, (H', W')."""
    rows, columns = (
        np.clip(-((np.arange(w.out[d]) * w.stride[d] - w.padding[d][0]) // w.dilation[d]), 0, w.kernel[d] - 1)
        for d in (0, 1)
    )
    return rows[:, None] * w.kernel[1] + columns


def _find_largest(padded: Array, w: Windows, largest: Array, index: Array) -> None:
    at = w.positions()
    np.copyto(largest, padded[next(at)[2]])  # (N, C, H', W'): the first element of every window
    seen = np.empty_like(largest)
    for i, j, covered in at:
        np.copyto(seen, padded[covered])  # contiguous elements are compared 5 times as fast
        # positions come in rising order, so the larger number is the later one; a masked copy is 6 times slower
        np.maximum(index, (seen > largest) * index.dtype.type(i * w.kernel[1] + j), out=index)
        np.maximum(largest, seen, out=largest)
    if largest.size and np.isnan(largest.max()):  # nan is not larger than anything, so its position was not noted
        _find_nans(padded, w, np.isnan(largest), index)


def _find_nans(padded: Array, w: Windows, found: Array, index: Array) -> None:
    """Let `index` name the last nan of the windows in `found`."""
    index[found] = 0
    for i, j, covered in w.positions():
        np.maximum(index, np.isnan(padded[covered]) * index.dtype.type(i * w.kernel[1] + j), out=index)


@tuned(pooling_indices.max_pool2d_with_indices)
@on_images()
def max_pool2d_with_indices(
    x: Array,
    /,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """Computes positions from `max_pool2d`'s residual: 0.1 of the time on (32, 32, 32, 32) with a 2x2 kernel."""
    largest, index = max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode)
    w = pool_windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    down, across = np.divmod(index.astype(np.int64), w.kernel[1])  # row and column in the kernel, (N, C, H', W')
    rows = down * w.dilation[0] + (np.arange(w.out[0]) * w.stride[0] - w.padding[0][0])[:, None]
    columns = across * w.dilation[1] + np.arange(w.out[1]) * w.stride[1] - w.padding[1][0]
    return largest, rows * w.size[1] + columns


@tuned(P.max_pool2d_backward)
@on_images(batches=2)
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
    """Masks by multiplication, and images shared over threads: 0.08 of the time on (32, 32, 32, 32), kernel 2x2."""
    w = pool_windows(size, kernel_size, stride, padding, dilation, ceil_mode)
    padded = np.empty((*g.shape[:2], *w.padded_size), dtype=g.dtype)
    in_parallel(lambda images: _put_back(g[images], index[images], w, padded[images]), len(g), padded.nbytes)
    return w.crop(padded)


def _put_back(g: Array, index: Array, w: Windows, padded: Array) -> None:
    apart = w.stride[0] >= w.kernel[0] and w.stride[1] >= w.kernel[1] and w.dilation == (1, 1)
    padded[...] = 0  # (N, C, Hp, Wp)
    here = np.empty_like(g)  # (N, C, H', W'): 1 where element (i, j) of the window was the maximum
    for i, j, covered in w.positions():
        # 1 or 0 in the dtype of g: NumPy multiplies floats and booleans 4 times slower
        np.equal(index, i * w.kernel[1] + j, out=here, casting="unsafe")
        if apart:  # no element is in two windows: nothing to add to
            np.multiply(here, g, out=padded[covered])
        else:
            padded[covered] += np.multiply(here, g, out=here)


@tuned(P.avg_pool2d)
@on_images()
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
    """Adds whole planes: 0.06 of the time on (32, 32, 32, 32) with a 2x2 kernel."""
    w = pool_windows(x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    padded = w.pad(x)
    at: Any = w.positions()
    total = padded[next(at)[2]].copy()  # (N, C, H', W'), the first element of each window
    for _, _, covered in at:
        total += padded[covered]
    return total / divisors(w, padding, count_include_pad, divisor_override, x.dtype)
