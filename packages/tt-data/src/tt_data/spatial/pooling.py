"""Module 09, spatial: pooling, which keeps one number of each window: its largest, or its mean.

All windows are worked on at once, one place of the kernel after the other: a 2x2 pool is four passes over a quarter of
the image each. Grids of windows are in `adaptive_pooling.py`, pooling along one dimension in `torch_names.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.compositions import of_tensors
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import check_floats
from tt_core.engine.threads import in_parallel
from tt_core.layers import Layer
from tt_core.tensor.shapes import as_size, take_along_dim, take_along_dim_backward
from tt_data.spatial.windows import IntOrPair, Pair, Windows, check_images, on_images, pair, windows
from tt_learn.autograd import gradient

# --- the largest of each window


@op(residuals=("index",))
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
    """The largest element of each window; nan is larger than all numbers.

    (N, C, H, W), or one image without N, gives (N, C, H', W'). `stride` is `kernel_size` where it is None; padding
    counts as -inf. The gradient goes to the first of equals, and to the last of nans. Residual: which place of the
    kernel it was, row by row.

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
    if largest.size and np.isnan(largest.max()):  # nan is not larger than anything, so nothing noted its place
        _find_nans(padded, w, np.isnan(largest), index)


def _find_nans(padded: Array, w: Windows, found: Array, index: Array) -> None:
    """Let `index` name the last nan of the windows in `found`."""
    index[found] = 0
    for i, j, met in w.positions():
        np.maximum(index, np.isnan(padded[met]) * index.dtype.type(i * w.kernel[1] + j), out=index)


@op
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
    """`max_pool2d`, and where in its image (row * W + column, int64) each result was found.

    >>> from tt_core import arange
    >>> max_pool2d_with_indices(arange(16.0).reshape(1, 1, 4, 4), kernel_size=2)[1]
    tensor([[[[ 5,  7],
              [13, 15]]]])
    """
    largest, index = max_pool2d.kernel(x, kernel_size, stride, padding, dilation, ceil_mode)
    w = _pool_windows(x, kernel_size, stride, padding, dilation, ceil_mode)
    down, across = np.divmod(index.astype(np.int64), w.kernel[1])
    rows = down * w.dilation[0] + (np.arange(w.out[0]) * w.stride[0] - w.padding[0][0])[:, None]
    columns = across * w.dilation[1] + np.arange(w.out[1]) * w.stride[1] - w.padding[1][0]
    return largest, rows * w.size[1] + columns


@gradient(max_pool2d_with_indices)
def _(out: Any, x: Any, **how: Any) -> Any:
    return (added_where_found(out[1], x.shape),)


def added_where_found(indices: Any, shape: tuple[int, ...]) -> Any:
    """From the gradient of what was found at `indices` of each flattened image to that of the images of `shape`."""
    flat = (*shape[:-2], shape[-2] * shape[-1])

    def backward(g: Any) -> Any:
        spread = take_along_dim_backward(g[0].flatten(-2), indices.flatten(-2), dim=len(flat) - 1, shape=flat)
        return spread.reshape(shape)

    return backward


@op
def put_at_indices(x: Array, indices: Array, /, output_size: Pair) -> Array:
    """Zeros of `output_size` (H, W) with each element of `x` at its place, as `max_pool2d_with_indices` names it.

    x and indices (..., H', W'). Raises `OutOfRangeError` for a place outside the image.

    >>> from tt_core import tensor
    >>> put_at_indices(tensor([[[5.0]]]), tensor([[[2]]]), output_size=(2, 2))
    tensor([[[0., 0.],
             [5., 0.]]])
    """
    size = pair(output_size, "output_size")
    if indices.shape != x.shape:
        raise ValueError(f"indices have shape {indices.shape}, expected {x.shape}")
    if indices.size and not 0 <= indices.min() <= indices.max() < math.prod(size):
        raise IndexError(f"indices are from 0 to {math.prod(size) - 1} in an image of {size}")
    out = np.zeros((*x.shape[:-2], math.prod(size)), dtype=x.dtype)
    np.put_along_axis(out, indices.reshape(*x.shape[:-2], -1), x.reshape(*x.shape[:-2], -1), axis=-1)
    return out.reshape(*x.shape[:-2], *size)


@gradient(put_at_indices)
def _(out: Any, x: Any, indices: Any, output_size: Pair) -> Any:
    shape, places = x.shape, np.asarray(indices).reshape(*x.shape[:-2], -1)  # a tensor or an array
    return lambda g: take_along_dim(g.flatten(-2), places, dim=len(shape) - 2).reshape(shape), None


@op
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
@on_images(batches=2)
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
def _(out: Any, x: Any, index: Any, **how: Any) -> Any:
    size = x.shape[-2:]
    return (lambda g: max_pool2d_backward(g, index, size=size, **how),)


@gradient(max_pool2d_backward)
def _(out: Any, g: Any, index: Any, size: Pair, **how: Any) -> Any:
    return lambda gg: max_pool2d_select(gg, index, **how), None


@gradient(max_pool2d_select)
def _(out: Any, x: Any, index: Any, **how: Any) -> Any:
    size = x.shape[-2:]
    return lambda g: max_pool2d_backward(g, index, size=size, **how), None


@of_tensors("x indices")
def max_unpool2d(
    x: Any,
    indices: Any,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    output_size: Any = None,
) -> Any:
    """Images (..., H, W) that are zero but for x (..., H', W') at `indices`, which `max_pool2d_with_indices` gave.

    `output_size` is (H, W), or all dimensions; by default the smallest image with so many windows. Raises `ShapeError`
    for indices of another shape, `OutOfRangeError` for one outside the image.

    >>> from tt_core import tensor
    >>> max_unpool2d(tensor([[[5.0]]]), tensor([[[2]]]), kernel_size=2)
    tensor([[[0., 0.],
             [5., 0.]]])
    """
    if output_size is None:
        kernel, around = pair(kernel_size, "kernel_size"), pair(padding, "padding", least=0)
        step = kernel if stride is None else pair(stride, "stride")
        output_size = [(n - 1) * s - 2 * p + k for n, s, p, k in zip(x.shape[-2:], step, around, kernel)]
    size = as_size("max_unpool2d: output_size", (output_size,))
    return put_at_indices(x, indices, output_size=size[-2:])


# --- the mean of each window


@op
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
    w = _pool_windows(x, kernel_size, stride, padding, 1, ceil_mode)
    padded = w.pad(x)
    at = w.positions()
    total = padded[next(at)[2]].copy()
    for _, _, met in at:
        total += padded[met]
    return total / _divisor(w, padding, count_include_pad, divisor_override).astype(x.dtype)


@op
@on_images()
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
    size = x.shape[-2:]
    return (lambda g: avg_pool2d_backward(g, size=size, **how),)


gradient(avg_pool2d_backward, lambda out, g, size, **how: (lambda gg: avg_pool2d(gg, **how),))


# --- layers


class Pool(Layer):
    """A layer without parameters that takes images, or one image without N."""

    def forward(self, x: Any) -> Any:
        return self._pool(x)

    def _pool(self, x: Any) -> Any:
        raise NotImplementedError

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self._how().items())

    def _how(self) -> dict[str, Any]:
        """The attributes of the op, by name."""
        raise NotImplementedError


class MaxUnpool2d(Layer):
    """Puts what `MaxPool2d(return_indices=True)` kept back to its place, zeros elsewhere (Zeiler & Fergus 2014).

    Called with (N, C, H', W'), the indices, and optionally the size of the image, by default the smallest that gives
    so many windows.

    >>> from tt_core import arange
    >>> y, indices = MaxPool2d(2, return_indices=True)(arange(4.0).reshape(1, 2, 2))
    >>> MaxUnpool2d(2)(y, indices)
    tensor([[[0., 0.],
             [0., 3.]]])
    """

    @checked
    def __init__(self, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0) -> None:
        super().__init__()
        self.kernel_size = pair(kernel_size, "MaxUnpool2d: kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, "MaxUnpool2d: stride")
        self.padding = pair(padding, "MaxUnpool2d: padding", least=0)

    def forward(self, x: Any, indices: Any, output_size: Any = None) -> Any:
        return max_unpool2d(x, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(Pool):
    """The largest element of each window (`max_pool2d`); (N, C, H, W) to (N, C, H', W').

    With `return_indices`, also where it was found, which `MaxUnpool2d` takes.

    >>> from tt_core import ones
    >>> MaxPool2d(2)(ones(1, 3, 8, 8)).shape
    (1, 3, 4, 4)
    """

    @checked
    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode
        self.return_indices = return_indices

    def _how(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")}

    def _pool(self, x: Any) -> Any:
        return max_pool2d_with_indices(x, **self._how()) if self.return_indices else max_pool2d(x, **self._how())


class AvgPool2d(Pool):
    """The mean of each window (`avg_pool2d`); (N, C, H, W) to (N, C, H', W').

    >>> from tt_core import ones
    >>> AvgPool2d(3, stride=2)(ones(1, 3, 9, 9)).shape
    (1, 3, 4, 4)
    """

    @checked
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
