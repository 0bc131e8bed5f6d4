"""Part of module 18: what the formulas say, one number at a time, in plain Python. The plugin `naive` runs them.

These functions are the yardstick of the module: no NumPy, no vector instructions, no blocks, no threads. They take and
return nested lists, one matrix, image or head at a time, and every index is written out. Python needs about 50 ns for
each multiply-add where a core can do several in one: `tt kernels` shows the factor on your machine.

    with tt_core.use("naive"):        # also --plugin naive, and TT_PLUGINS=naive
        model(x)                      # the same results, up to rounding, a few hundred times slower

The plugin unpacks batches, options and dtypes, and leaves rare options (dropout, `ceil_mode`, padding by name) and
arrays without floats to the framework's kernels. Ops that have a loop in `loops.py` run that loop uncompiled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tt_core import linear, matmul
from tt_core.engine.dispatch import Array, Op, with_residuals
from tt_core.engine.hookspecs import hookimpl
from tt_data import avg_pool2d, conv2d, max_pool2d
from tt_language import scaled_dot_product_attention
from tt_perf.acceleration.compiling import plain
from tt_perf.kernels.ops import kernels_from

Call = Callable[..., Any]
Row = list[float]
Matrix = list[Row]
Image = list[Matrix]
"""Channels, rows, columns."""
Pair = tuple[int, int]

# --- the lesson


def product(a: Matrix, b: Matrix) -> Matrix:
    """`out[i][j] = sum over k of a[i][k] b[k][j]`: three nested loops.

    >>> product([[1.0, 2.0]], [[3.0], [4.0]])
    [[11.0]]
    """
    rows, inner, columns = len(a), len(b), len(b[0])
    out = [[0.0] * columns for _ in range(rows)]
    for i in range(rows):
        for j in range(columns):
            for k in range(inner):
                out[i][j] += a[i][k] * b[k][j]
    return out


@dataclass(frozen=True)
class Windows:
    """The windows of a convolution or pooling: rows and columns of the kernel, its steps, zeros around the image."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def count(self, image: Image) -> Pair:
        """Rows and columns of the result: how many windows fit into the padded image.

        >>> Windows((1, 2), (1, 1)).count([[[1.0, 2.0, 3.0]]])
        (1, 2)
        """
        sizes = (len(image[0]), len(image[0][0]))
        rows, columns = (
            (sizes[d] + 2 * self.padding[d] - self.dilation[d] * (self.kernel[d] - 1) - 1) // self.stride[d] + 1
            for d in (0, 1)
        )
        return rows, columns

    def places(self, y: int, x: int, image: Image) -> Iterator[tuple[int, int, int, int]]:
        """For window (y, x), each position (i, j) of the kernel that is inside of the image, and its row and column.

        >>> list(Windows((1, 2), (1, 1), padding=(0, 1)).places(0, 0, [[[1.0, 2.0]]]))
        [(0, 1, 0, 0)]
        """
        for i in range(self.kernel[0]):
            row = y * self.stride[0] + i * self.dilation[0] - self.padding[0]
            for j in range(self.kernel[1]):
                column = x * self.stride[1] + j * self.dilation[1] - self.padding[1]
                if 0 <= row < len(image[0]) and 0 <= column < len(image[0][0]):
                    yield i, j, row, column


def convolution(image: Image, kernels: list[Image], windows: Windows) -> Image:
    """Each output is the sum of a window of the image, weighted by a kernel.

    >>> convolution([[[1.0, 2.0, 3.0]]], [[[[1.0, -1.0]]]], Windows((1, 2), (1, 1)))
    [[[-1.0, -1.0]]]
    """
    height, width = windows.count(image)
    out = [[[0.0] * width for _ in range(height)] for _ in kernels]
    for o in range(len(kernels)):
        for y in range(height):
            for x in range(width):
                for c in range(len(image)):
                    for i, j, row, column in windows.places(y, x, image):
                        out[o][y][x] += image[c][row][column] * kernels[o][c][i][j]
    return out


def largest(image: Image, windows: Windows) -> Image:
    """The largest element of each window, nan where the window holds one (max pooling).

    >>> largest([[[1.0, 5.0, 2.0, 3.0]]], Windows((1, 2), (1, 2)))
    [[[5.0, 3.0]]]
    """
    height, width = windows.count(image)
    out = [[[-math.inf] * width for _ in range(height)] for _ in image]
    for c in range(len(image)):
        for y in range(height):
            for x in range(width):
                for _, _, row, column in windows.places(y, x, image):
                    value = image[c][row][column]
                    if value > out[c][y][x] or math.isnan(value):
                        out[c][y][x] = value
    return out


def mean(image: Image, windows: Windows, count_padding: bool = True) -> Image:
    """The mean of each window (average pooling); zeros around the image count unless `count_padding` is False.

    >>> mean([[[1.0, 5.0, 2.0, 3.0]]], Windows((1, 2), (1, 2)))
    [[[3.0, 2.5]]]
    """
    height, width = windows.count(image)
    out = [[[0.0] * width for _ in range(height)] for _ in image]
    for c in range(len(image)):
        for y in range(height):
            for x in range(width):
                counted = windows.kernel[0] * windows.kernel[1] if count_padding else 0
                for _, _, row, column in windows.places(y, x, image):
                    out[c][y][x] += image[c][row][column]
                    counted += not count_padding
                out[c][y][x] /= counted
    return out


def attention(
    query: Matrix, key: Matrix, value: Matrix, scale: float, mask: Matrix, allowed: list[list[bool]]
) -> Matrix:
    """Each query takes the mean of the values, weighted by `exp(query key * scale + mask)`; zeros where it sees none.

    >>> attention([[1.0]], [[0.0], [0.0]], [[2.0], [4.0]], 1.0, [[0.0, 0.0]], [[True, True]])
    [[3.0]]
    """
    out = [[0.0] * len(value[0]) for _ in query]
    for i in range(len(query)):
        scores = [0.0] * len(key)
        for j in range(len(key)):
            for d in range(len(query[i])):
                scores[j] += query[i][d] * key[j][d]
            scores[j] = scores[j] * scale + mask[i][j] if allowed[i][j] else -math.inf
        if all(score == -math.inf for score in scores):
            continue
        peak = max(scores)
        weights = [math.exp(score - peak) for score in scores]
        total = sum(weights)
        for j in range(len(key)):
            for e in range(len(value[j])):
                out[i][e] += weights[j] / total * value[j][e]
    return out


# --- the same as kernels of ops: batches, options and dtypes


def _floats(*arrays: Any) -> bool:
    """Whether the loops apply: arrays of floats that hold something."""
    return all(x is None or (isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.size) for x in arrays)


def _array(values: Any, *given: Array) -> Array:
    """Nested lists as an array in the dtype that NumPy gives for the inputs; they are rounded once."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float64).astype(np.result_type(*given))


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, (int, np.integer)) else tuple(value)


def _matmul(a: Array, b: Array, /) -> Any:
    if not _floats(a, b) or a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        return matmul.kernel(a, b)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left, right = (np.broadcast_to(x, (*batch, *x.shape[-2:])).reshape(-1, *x.shape[-2:]) for x in (a, b))
    out = _array([product(x.tolist(), y.tolist()) for x, y in zip(left, right)], a, b)
    return out.reshape(*batch, a.shape[-2], b.shape[-1])


def _linear(x: Array, weight: Array, bias: Array | None = None, /) -> Any:
    if not _floats(x, weight, bias) or weight.ndim != 2 or not x.ndim or x.shape[-1] != weight.shape[1]:
        return linear.kernel(x, weight, bias)
    rows = product(x.reshape(-1, x.shape[-1]).tolist(), weight.T.tolist())
    if bias is not None:
        rows = [[value + shift for value, shift in zip(row, bias.tolist())] for row in rows]
    return _array(rows, x, weight).reshape(*x.shape[:-1], len(weight))


def _conv2d(
    x: Array, weight: Array, bias: Array | None = None, /,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Any:  # fmt: skip
    if not _floats(x, weight, bias) or x.ndim != 4 or isinstance(padding, str) or len({x.dtype, weight.dtype}) > 1:
        return conv2d.kernel(x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
    windows = Windows(_pair(weight.shape[2:]), _pair(stride), dilation=_pair(dilation))
    rows, columns = _pair(padding)
    padded = np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)))  # with zeros, which count in each sum
    sets = [part.tolist() for part in np.split(weight, groups)]
    images = [
        [plane for part, kernels in zip(np.split(image, groups), sets)
         for plane in convolution(part.tolist(), kernels, windows)]
        for image in padded
    ]  # fmt: skip
    out = np.asarray(images)
    return _array(out if bias is None else out + bias.astype(np.float64)[:, None, None], x)


def _max_pool2d(
    x: Array, /, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    if not _floats(x) or x.ndim != 4 or ceil_mode:
        found = max_pool2d.kernel(x, kernel_size, stride, padding, dilation, ceil_mode)
        return found[0] if isinstance(found, tuple) else found
    steps = _pair(kernel_size if stride is None else stride)
    windows = Windows(_pair(kernel_size), steps, _pair(padding), _pair(dilation))
    return _array([largest(image.tolist(), windows) for image in x], x)


def _avg_pool2d(
    x: Array, /, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Any:  # fmt: skip
    if not _floats(x) or x.ndim != 4 or ceil_mode or divisor_override is not None:
        kernel = avg_pool2d.kernel
        return kernel(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    windows = Windows(_pair(kernel_size), _pair(kernel_size if stride is None else stride), _pair(padding))
    return _array([mean(image.tolist(), windows, count_include_pad) for image in x], x)


@with_residuals("seed")
def _attention(
    query: Array, key: Array, value: Array, attn_mask: Array | None = None, /, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False, causal_offset: int = 0,
) -> Any:  # fmt: skip
    kernel = scaled_dot_product_attention.kernel
    heads = query.shape[:-2]
    if not _floats(query, key, value) or dropout_p or not heads == key.shape[:-2] == value.shape[:-2]:
        return kernel(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, causal_offset)[:2]
    size = query.shape[-2], key.shape[-2]
    allowed, mask = np.ones((*heads, *size), bool), np.zeros((*heads, *size))
    if attn_mask is not None and attn_mask.dtype == np.bool_:
        allowed[...] = attn_mask
    elif attn_mask is not None:
        mask[...] = attn_mask
    if is_causal:
        mask = mask + np.where(np.tri(*size, causal_offset), 0.0, -np.inf)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    parts = [x.reshape(-1, *x.shape[-2:]).tolist() for x in (query, key, value, mask, allowed)]
    out = [attention(q, k, v, scale, m, a) for q, k, v, m, a in zip(*parts)]
    return _array(out, query, key, value).reshape(*heads, size[0], value.shape[-1]), np.asarray(0)


# --- the plugin


class NaivePlugin:
    """What `use("naive")` activates."""

    excludes = ("jit",)

    def __init__(self) -> None:
        self._kernels: dict[str, Call] = {
            **kernels_from(plain()),
            "matmul": _matmul,
            "linear": _linear,
            "conv2d": _conv2d,
            "max_pool2d": _max_pool2d,
            "avg_pool2d": _avg_pool2d,
            "scaled_dot_product_attention": _attention,
        }

    @hookimpl
    def tt_kernel(self, op: Op) -> Call | None:
        return self._kernels.get(op.name)


plugin = NaivePlugin()
