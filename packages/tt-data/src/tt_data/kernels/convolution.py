"""Tuned kernels of `tt_data.spatial.convolution`: matrix products over columns of patches (im2col).

Each kernel copies the patches of a few images into columns that stay in the cache, and calls BLAS with one product per
block (Chellapilla et al. 2006). Each core takes a few images at a time. There is no FFT and no Winograd. The figures
are shares of the formula's time on two cores.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tt_core.engine.dispatch import Array, tuned
from tt_core.engine.threads import on_each_core
from tt_data.spatial import convolution as C
from tt_data.spatial.common import on_images
from tt_data.spatial.folding import fold as fold_op
from tt_data.spatial.folding import fold_windows
from tt_data.spatial.sizes import IntOrPair, Pair
from tt_data.spatial.windows import Windows, windows

BLOCK = 1 << 20
"""Bytes of columns in a block: they and their product stay in the cache of the core that copied them."""


@tuned(C.conv2d)
@on_images()
def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    /,
    stride: IntOrPair = 1,
    padding: IntOrPair | str = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Array:
    """Columns times kernels, block by block: 0.04 of the time on 32 images (32, 16, 16) with 64 kernels 3x3."""
    w = windows(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    dtype = np.result_type(x, weight) if bias is None else np.result_type(x, weight, bias)
    kernels = weight.astype(dtype, copy=False).reshape(groups, weight.shape[0] // groups, -1)
    out = np.empty((len(x), len(weight), *w.out), dtype=dtype)
    row_bytes = _row_bytes(w, x.shape[1], x.itemsize)

    def convolve(images: slice) -> None:
        columns, results = _columns(w, w.pad(x[images])), out[images]  # (C, kh, kw, N, H', W')
        for some, rows in _blocks(w, len(results), row_bytes):
            block = np.ascontiguousarray(columns[:, :, :, some, rows])  # the copy that im2col is
            result = kernels @ block.reshape(groups, kernels.shape[2], -1)  # (groups, O/groups, N rows W')
            if bias is not None:
                result += bias.reshape(groups, -1, 1)
            results[some, :, rows] = result.reshape(-1, *block.shape[3:]).swapaxes(0, 1)

    on_each_core(convolve, len(x), len(x) * w.out[0] * row_bytes, each=4)
    return out


@tuned(C.conv2d_input)
@on_images()
def conv2d_input(
    g: Array,
    weight: Array,
    /,
    size: Pair,
    stride: IntOrPair = 1,
    padding: IntOrPair | str = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Array:
    """Kernels times `g`, block by block: 0.01 of the time on 32 images (32, 16, 16) with 64 kernels 3x3.

    With a stride of one column, what `g` adds to the columns of a patch is gathered before the product, as im2col does.
    Only the rows are added up after it: a third of the additions of a 3x3 kernel.
    """
    w = windows(size, weight.shape[2:], stride, padding, dilation)
    (n, o), (c, kh, kw) = g.shape[:2], weight.shape[1:]
    gathered = w.stride[1] == 1
    kernels = weight.reshape(groups, o // groups, c, kh, kw)
    if gathered:
        kernels = kernels.transpose(0, 2, 3, 1, 4).reshape(groups, c * kh, -1)  # (groups, C/G kh, O/G kw)
    else:
        kernels = kernels.transpose(0, 2, 3, 4, 1).reshape(groups, c * kh * kw, -1)  # (groups, C/G kh kw, O/G)
    out = np.empty((n, c * groups, *size), dtype=np.result_type(g, weight))
    row_bytes = groups * max(kernels.shape[1:]) * (size[1] if gathered else w.out[1]) * out.itemsize

    def spread(images: slice) -> None:
        upstream, total = g[images], out[images]
        total[...] = 0
        for some, rows in _blocks(w, len(total), row_bytes):
            block = upstream[some, :, rows].swapaxes(0, 1)  # (O, images, rows, W')
            if gathered:
                block = _shifted(block, w)  # (O, kw, images, rows, W)
            columns = kernels @ block.reshape(groups, kernels.shape[2], -1)  # (groups, C kh [kw], images rows W)
            _scatter(columns.reshape(c * groups, kh, -1, *block.shape[-3:]), w, rows, total[some], gathered)

    on_each_core(spread, n, n * w.out[0] * row_bytes, each=4)
    return out


@tuned(C.conv2d_weight)
@on_images(batches=2, gives_images=False)
def conv2d_weight(
    g: Array,
    x: Array,
    /,
    kernel_size: Pair,
    stride: IntOrPair = 1,
    padding: IntOrPair | str = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Array:
    """Columns times `g`, block by block: 0.01 of the time on 32 images (32, 16, 16) with 64 kernels 3x3."""
    w = windows(x.shape[2:], kernel_size, stride, padding, dilation)
    c, o = x.shape[1], g.shape[1]
    row_bytes = _row_bytes(w, c, x.itemsize)

    def weigh(images: slice) -> Array:
        columns, upstream = _columns(w, w.pad(x[images])), g[images]
        # patches x channels: OpenBLAS takes a third longer for the transposed product
        total = np.zeros((groups, c // groups * math.prod(w.kernel), o // groups), dtype=np.result_type(g, x))
        for some, rows in _blocks(w, len(upstream), row_bytes):
            block = columns[:, :, :, some, rows].reshape(groups, total.shape[1], -1)  # (groups, C/G kh kw, N rows W')
            # (O, N, rows, W') -> (groups, O/G, N rows W')
            into = upstream[some, :, rows].swapaxes(0, 1).reshape(groups, total.shape[2], -1)
            total += block @ into.swapaxes(1, 2)
        return total

    # one sum for each core, added up in the order of the images
    total = functools.reduce(np.add, on_each_core(weigh, len(x), len(x) * w.out[0] * row_bytes, each=2))
    return total.swapaxes(1, 2).reshape(o, c // groups, *w.kernel)


@tuned(fold_op)
@on_images(ndim=3)
def fold(
    x: Array,
    /,
    output_size: IntOrPair,
    kernel_size: IntOrPair,
    dilation: IntOrPair = 1,
    padding: IntOrPair = 0,
    stride: IntOrPair = 1,
) -> Array:
    """Without padding around the result: 0.6 of the time on (32, 288, 256) with a 3x3 kernel."""
    w = fold_windows(x, output_size, kernel_size, dilation, padding, stride)
    images = np.zeros((len(x), x.shape[1] // math.prod(w.kernel), *w.size), dtype=x.dtype)
    # (N, C kh kw, H' W') -> (C, kh, kw, N, H', W')
    columns = x.reshape(len(x), images.shape[1], *w.kernel, *w.out).transpose(1, 2, 3, 0, 4, 5)
    _scatter(columns, w, slice(0, w.out[0]), images, gathered=False)
    return images


# --- columns and blocks


def _columns(w: Windows, padded: Array) -> Array:
    """(N, C, Hp, Wp) as (C, kernel rows, kernel columns, N, out rows, out columns), a view."""
    images, channels, row, column = padded.strides
    (down, right), (apart_rows, apart_columns) = w.stride, w.dilation
    shape = (padded.shape[1], *w.kernel, padded.shape[0], *w.out)
    strides = (channels, row * apart_rows, column * apart_columns, images, row * down, column * right)
    return as_strided(padded, shape, strides, writeable=False)


def _row_bytes(w: Windows, channels: int, itemsize: int) -> int:
    """Bytes of the columns of one row of windows in one image."""
    return channels * math.prod(w.kernel) * w.out[1] * itemsize


def _blocks(w: Windows, images: int, row_bytes: int) -> Iterator[tuple[slice, slice]]:
    """(images, rows of windows) in blocks of about `BLOCK` bytes, if one row of windows takes `row_bytes`."""
    fit, rows = max(1, BLOCK // max(1, row_bytes)), w.out[0]
    step = max(1, fit // rows)
    for image in range(0, images, step):
        for row in range(0, rows, min(fit, rows)):
            yield slice(image, min(image + step, images)), slice(row, min(row + fit, rows))


def _covering(w: Windows, d: int, position: int, some: slice | None = None) -> tuple[slice, slice]:
    """Along dimension `d`: the windows whose element `position` is inside the image, and these elements of the image.

    `some` limits it to a range of windows; windows are then counted from its start.
    """
    first, last = (some.start, some.stop) if some else (0, w.out[d])
    offset, stride = position * w.dilation[d] - w.padding[d][0], w.stride[d]
    start = max(first, -(offset // stride))  # the first window at or after the edge
    stop = max(start, min(last, (w.size[d] - 1 - offset) // stride + 1))
    at = start * stride + offset
    return slice(start - first, stop - first), slice(at, at + (stop - start) * stride, stride)


def _shifted(block: Array, w: Windows) -> Array:
    """(O, N, rows, W') to (O, kw, N, rows, W): for each column of the image and each j, the window that has it at j."""
    o, *between, _ = block.shape
    shifted = np.zeros((o, w.kernel[1], *between, w.size[1]), dtype=block.dtype)
    for j in range(w.kernel[1]):
        covering, elements = _covering(w, 1, j)
        shifted[:, j, ..., elements] = block[..., covering]
    return shifted


def _scatter(columns: Array, w: Windows, rows: slice, images: Array, gathered: bool) -> None:
    """Add columns (C, kh, kw, N, rows, W') to the images (N, C, H, W) they belong to; `rows` of windows.

    Columns that `_shifted` has `gathered` are (C, kh, 1, N, rows, W).
    """
    everywhere = slice(None), slice(None)
    for i in range(w.kernel[0]):
        down, y = _covering(w, 0, i, rows)
        for j in range(columns.shape[2]):
            across, x = everywhere if gathered else _covering(w, 1, j)
            images[:, :, y, x] += columns[:, i, j, :, down, across].swapaxes(0, 1)
