"""Module 09, spatial: pooling, which keeps one number of each window: its largest, or its mean.

All windows are worked on at once, one place of the kernel after the other: a 2x2 pool is four passes over a quarter of
the image each. No pooling over channels or time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core.dispatch import Array, op
from tt_core.errors import check_floats
from tt_core.layers import Layer
from tt_core.threads import in_parallel
from tt_data.windows import IntOrPair, Pair, Windows, check_images, pair, windows
from tt_learn.autograd import gradient

OutputSize = int | None | tuple[int | None, int | None]

# --- the largest of each window


@op(residuals=True)
def max_pool2d(
    x: Array,
    /,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """The largest element of each window; the first of equals has it, nan wins.

    (N, C, H, W) gives (N, C, H', W'). `stride` is `kernel_size` where it is None; padding counts as -inf. Residual:
    which place of the kernel it was, row by row.

    >>> from tt_core import arange
    >>> max_pool2d(arange(16.0).reshape(1, 1, 4, 4), kernel_size=2)
    tensor([[[[ 5.,  7.],
              [13., 15.]]]])
    """
    w = _pool_windows(x, kernel_size, stride, padding, dilation, ceil_mode)
    padded = w.pad(x, -math.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min)
    largest = np.empty((*x.shape[:2], *w.out), dtype=x.dtype)
    index = np.zeros(largest.shape, dtype=_index_dtype(w))
    in_parallel(lambda images: _find_largest(padded[images], w, largest[images], index[images]), len(x), x.nbytes)
    if padded is not x and (largest == -math.inf).any():  # there the padding is as large as the image
        np.maximum(index, _first_inside(w).astype(index.dtype), out=index)
    return largest, index


def _first_inside(w: Windows) -> Array:
    """The first place of each window's kernel that is past the padding, (H', W')."""
    rows, columns = (
        np.clip(-((np.arange(w.out[d]) * w.stride[d] - w.padding[d][0]) // w.dilation[d]), 0, w.kernel[d] - 1)
        for d in (0, 1)
    )
    return rows[:, None] * w.kernel[1] + columns


def _find_largest(padded: Array, w: Windows, largest: Array, index: Array) -> None:
    at = w.positions()
    np.copyto(largest, padded[next(at)[2]])
    seen = np.empty_like(largest)
    for i, j, met in at:
        np.copyto(seen, padded[met])  # elements side by side are compared 5 times as fast
        # places come in rising order, so the larger number is the later place; a masked copy is 6 times slower
        np.maximum(index, (seen > largest) * index.dtype.type(i * w.kernel[1] + j), out=index)
        np.maximum(largest, seen, out=largest)


@op
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
    """Gradient of `max_pool2d` for its input of `size` (H, W): each `g` goes to the place its element came from."""
    w = windows(size, kernel_size, stride or kernel_size, padding, dilation, ceil_mode)
    padded = np.empty((*g.shape[:2], *w.padded_size), dtype=g.dtype)
    in_parallel(lambda images: _put_back(g[images], index[images], w, padded[images]), len(g), padded.nbytes)
    return w.crop(padded)


def _put_back(g: Array, index: Array, w: Windows, padded: Array) -> None:
    apart = w.stride[0] >= w.kernel[0] and w.stride[1] >= w.kernel[1] and w.dilation == (1, 1)
    padded[...] = 0
    here = np.empty_like(g)
    for i, j, met in w.positions():
        # 1 or 0 in the dtype of g: NumPy multiplies floats and booleans 4 times slower
        np.equal(index, i * w.kernel[1] + j, out=here, casting="unsafe")
        if apart:  # no element is in two windows: nothing to add to
            np.multiply(here, g, out=padded[met])
        else:
            padded[met] += np.multiply(here, g, out=here)


@op
def max_pool2d_select(
    x: Array,
    index: Array,
    /,
    kernel_size: IntOrPair,
    stride: IntOrPair | None,
    padding: IntOrPair,
    dilation: IntOrPair,
    ceil_mode: bool,
) -> Array:
    """The element of each window that `index` names: `max_pool2d_backward` read the other way."""
    w = windows(x.shape[2:], kernel_size, stride or kernel_size, padding, dilation, ceil_mode)
    padded = w.pad(x)
    out = np.zeros(index.shape, dtype=x.dtype)
    for i, j, met in w.positions():
        np.copyto(out, padded[met], where=index == i * w.kernel[1] + j)
    return out


def _pool_windows(
    x: Array,
    kernel_size: IntOrPair,
    stride: IntOrPair | None,
    padding: IntOrPair,
    dilation: IntOrPair,
    ceil_mode: bool,
) -> Windows:
    check_images(x)
    kernel, around = pair(kernel_size, "kernel_size"), pair(padding, "padding", least=0)
    if 2 * around[0] > kernel[0] or 2 * around[1] > kernel[1]:
        raise ValueError(f"padding {around} is more than half of the kernel {kernel}: windows would hold nothing else")
    return windows(x.shape[2:], kernel, kernel if stride is None else stride, around, dilation, ceil_mode)


def _index_dtype(w: Windows) -> Any:
    return np.uint8 if math.prod(w.kernel) <= 256 else np.int32


@gradient(max_pool2d)
def _(out: Any, x: Any, **how: Any) -> Any:
    index, size = out[1], x.shape[2:]
    return (lambda g: max_pool2d_backward(g, index, size=size, **how),)


@gradient(max_pool2d_backward)
def _(out: Any, g: Any, index: Any, size: Pair, **how: Any) -> Any:
    return lambda gg: max_pool2d_select(gg, index, **how), None


@gradient(max_pool2d_select)
def _(out: Any, x: Any, index: Any, **how: Any) -> Any:
    size = x.shape[2:]
    return lambda g: max_pool2d_backward(g, index, size=size, **how), None


# --- the mean of each window


@op
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
    """The mean of each window, (N, C, H, W) to (N, C, H', W').

    The sum is divided by the number of elements, padding included unless `count_include_pad` is False, or by
    `divisor_override`. What a window hangs over the padding (`ceil_mode`) never counts. Raises `DTypeError` for whole
    numbers, whose sums wrap around.

    >>> from tt_core import ones
    >>> avg_pool2d(ones(1, 1, 2, 2), kernel_size=2, padding=1, count_include_pad=False)
    tensor([[[[1., 1.],
              [1., 1.]]]])
    """
    check_floats(x)
    if x.dtype == np.float16:  # whose sums end at 65504
        how = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return avg_pool2d.kernel(x.astype(np.float32), *how).astype(x.dtype)
    w = _pool_windows(x, kernel_size, stride, padding, 1, ceil_mode)
    padded = w.pad(x)
    at = w.positions()
    total = padded[next(at)[2]].copy()
    for _, _, met in at:
        total += padded[met]
    return total / _divisor(w, padding, count_include_pad, divisor_override).astype(x.dtype)


@op
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
    """Gradient of `avg_pool2d` for its input of `size` (H, W): each `g` is shared out over its window."""
    w = windows(size, kernel_size, stride or kernel_size, padding, 1, ceil_mode)
    share = g / _divisor(w, padding, count_include_pad, divisor_override).astype(g.dtype)
    padded = np.zeros((*g.shape[:2], *w.padded_size), dtype=g.dtype)
    for _, _, met in w.positions():
        padded[met] += share
    return w.crop(padded)


def _divisor(w: Windows, padding: IntOrPair, count_include_pad: bool, override: int | None) -> Array:
    """What the sum of each window is divided by: (H', W'), or one number for all."""
    if override is not None:
        if override == 0:
            raise ValueError("divisor_override must not be 0")
        return np.asarray(override)
    around = pair(padding, "padding", least=0)
    if count_include_pad and w.padding == ((around[0],) * 2, (around[1],) * 2):
        return np.asarray(math.prod(w.kernel))
    rows, columns = (_elements(w, d, around[d] if count_include_pad else 0) for d in (0, 1))
    return np.outer(rows, columns)


def _elements(w: Windows, d: int, around: int) -> Array:
    """How many elements each window covers along dimension `d`, where `around` of the padding count as elements."""
    first = np.arange(w.out[d]) * w.stride[d] - w.padding[d][0]
    return np.minimum(first + w.kernel[d], w.size[d] + around) - np.maximum(first, -around)


@gradient(avg_pool2d)
def _(out: Any, x: Any, **how: Any) -> Any:
    size = x.shape[2:]
    return (lambda g: avg_pool2d_backward(g, size=size, **how),)


gradient(avg_pool2d_backward, lambda out, g, size, **how: (lambda gg: avg_pool2d(gg, **how),))


# --- as many means as asked for


@op
def adaptive_avg_pool2d(x: Array, /, output_size: OutputSize) -> Array:
    """Means over a grid of `output_size` windows that cover the image: row i of it over rows
    `floor(i H / H')` to `ceil((i + 1) H / H')`, columns alike. (N, C, H, W) gives (N, C, H', W').

    `output_size`: a number, or a pair (rows, columns), in which None keeps the input's.

    >>> from tt_core import arange
    >>> adaptive_avg_pool2d(arange(6.0).reshape(1, 1, 2, 3), output_size=(1, 2))
    tensor([[[[2., 3.]]]])
    """
    check_images(x)
    check_floats(x)
    if not x.shape[2] or not x.shape[3]:
        raise ValueError("input has no pixels")
    if x.dtype == np.float16:  # whose sums end at 65504
        return adaptive_avg_pool2d.kernel(x.astype(np.float32), output_size).astype(x.dtype)
    rows, columns = _grid(output_size, x.shape[2:])
    return _means(_means(x, rows, 2), columns, 3)


@op
def adaptive_avg_pool2d_backward(g: Array, /, size: Pair) -> Array:
    """Gradient of `adaptive_avg_pool2d` for its input of `size` (H, W)."""
    return _means_backward(_means_backward(g, size[1], 3), size[0], 2)


def _grid(asked: OutputSize, size: Pair) -> Pair:
    """Rows and columns of the result, where None stands for those of the input."""
    parts = asked if isinstance(asked, (tuple, list)) else (asked, asked)
    if len(parts) != 2:
        raise ValueError(f"output_size is a number or a pair (rows, columns), got {asked!r}")
    return pair([have if part is None else part for part, have in zip(parts, size)], "output_size")


def _spans(size: int, parts: int) -> list[tuple[int, int]]:
    return [(i * size // parts, -((i + 1) * size // -parts)) for i in range(parts)]


def _means(x: Array, parts: int, axis: int) -> Array:
    """Means over `parts` spans of one axis."""
    out = np.empty((*x.shape[:axis], parts, *x.shape[axis + 1 :]), dtype=x.dtype)
    lead: tuple[Any, ...] = (slice(None),) * axis
    for i, (start, stop) in enumerate(_spans(x.shape[axis], parts)):
        np.sum(x[(*lead, slice(start, stop))], axis=axis, out=out[(*lead, i)])
        out[(*lead, i)] /= stop - start
    return out


def _means_backward(g: Array, size: int, axis: int) -> Array:
    total = np.zeros((*g.shape[:axis], size, *g.shape[axis + 1 :]), dtype=g.dtype)
    lead: tuple[Any, ...] = (slice(None),) * axis
    for i, (start, stop) in enumerate(_spans(size, g.shape[axis])):
        total[(*lead, slice(start, stop))] += g[(*lead, slice(i, i + 1))] / g.dtype.type(stop - start)
    return total


@gradient(adaptive_avg_pool2d)
def _(out: Any, x: Any, output_size: OutputSize) -> Any:
    size = x.shape[2:]
    return (lambda g: adaptive_avg_pool2d_backward(g, size=size),)


@gradient(adaptive_avg_pool2d_backward)
def _(out: Any, g: Any, size: Pair) -> Any:
    output_size = g.shape[2:]
    return (lambda gg: adaptive_avg_pool2d(gg, output_size=output_size),)


# --- layers


class _Pool(Layer):
    """A layer without parameters that takes images, or one image without N."""

    def forward(self, x: Any) -> Any:
        return self._pool(x.unsqueeze(0)).squeeze(0) if x.ndim == 3 else self._pool(x)

    def _pool(self, x: Any) -> Any:
        raise NotImplementedError

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self._how().items())

    def _how(self) -> dict[str, Any]:
        """The attributes of the op, by name."""
        raise NotImplementedError


class MaxPool2d(_Pool):
    """The largest element of each window (`max_pool2d`); (N, C, H, W) to (N, C, H', W').

    >>> from tt_core import ones
    >>> MaxPool2d(2)(ones(1, 3, 8, 8)).shape
    (1, 3, 4, 4)
    """

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode

    def _how(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")}

    def _pool(self, x: Any) -> Any:
        return max_pool2d(x, **self._how())


class AvgPool2d(_Pool):
    """The mean of each window (`avg_pool2d`); (N, C, H, W) to (N, C, H', W').

    >>> from tt_core import ones
    >>> AvgPool2d(3, stride=2)(ones(1, 3, 9, 9)).shape
    (1, 3, 4, 4)
    """

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def _how(self) -> dict[str, Any]:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        return {name: getattr(self, name) for name in names}

    def _pool(self, x: Any) -> Any:
        return avg_pool2d(x, **self._how())


class AdaptiveAvgPool2d(_Pool):
    """Means over a grid of windows of the size asked for (`adaptive_avg_pool2d`).

    `output_size`: a number, or a pair (rows, columns) in which None keeps the input's.

    >>> from tt_core import ones
    >>> AdaptiveAvgPool2d(1)(ones(2, 3, 7, 5)).shape
    (2, 3, 1, 1)
    """

    def __init__(self, output_size: OutputSize) -> None:
        super().__init__()
        self.output_size = output_size

    def _how(self) -> dict[str, Any]:
        return {"output_size": self.output_size}

    def _pool(self, x: Any) -> Any:
        return adaptive_avg_pool2d(x, **self._how())
