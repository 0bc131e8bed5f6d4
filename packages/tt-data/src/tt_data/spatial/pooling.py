"""Module 09, spatial: pooling, which keeps one number of each window: its maximum, or its mean.

The faster forms are in `kernels/pooling.py`. Pooling over a grid of a given size is in `adaptive_pooling.py`, the
inverse of max pooling in `unpooling.py`, pooling along one dimension in `torch_names/`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import ArgumentError
from tt_core.tensor.indexing import add_at, along_dim
from tt_data.spatial.common import FunctionLayer, check_float_images, check_images, on_images
from tt_data.spatial.windows import IntOrPair, Pair, Windows, pair, windows
from tt_learn.autograd import gradient


def pool_windows(
    size: Pair,
    kernel_size: IntOrPair,
    stride: IntOrPair | None,
    padding: IntOrPair,
    dilation: IntOrPair,
    ceil_mode: bool,
) -> Windows:
    """The windows of a pool, which by default do not overlap; raises `ArgumentError` for windows of padding alone."""
    kernel, around = pair(kernel_size, "kernel_size"), pair(padding, "padding", least=0)
    if 2 * around[0] > kernel[0] or 2 * around[1] > kernel[1]:
        raise ArgumentError(
            f"padding {around} is more than half of the kernel {kernel}: windows would hold nothing else"
        )
    return windows(size, kernel, kernel if stride is None else stride, around, dilation, ceil_mode)


# --- the maximum of each window


def lowest(dtype: Any) -> float:
    """The padding of max pooling, which no element is smaller than."""
    return -math.inf if dtype.kind == "f" else np.iinfo(dtype).min


@op(check=check_images)
@on_images()
def max_pool2d(
    x: Array,
    /,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
) -> Array:
    """The maximum of each window; nan is larger than all numbers.

    (N, C, H, W), or one image without N, gives (N, C, H', W'). `stride` is `kernel_size` if it is None; padding counts
    as -inf. The gradient goes to the first of equal elements, and to the last nan. Raises `ArgumentError` for a padding
    of more than half the kernel.

    >>> from tt_core import arange
    >>> max_pool2d(arange(16.0).reshape(1, 1, 4, 4), kernel_size=2)
    tensor([[[[ 5.,  7.],
              [13., 15.]]]])
    """
    w = pool_windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    return w.patches(w.pad(x, lowest(x.dtype))).max((-2, -1))


@op(check=check_images)
@on_images()
def max_pool2d_index(
    x: Array,
    /,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
) -> Array:
    """Which element of its window each maximum of `max_pool2d` is, counted row by row: (N, C, H', W') of integers.

    >>> from tt_core import arange
    >>> max_pool2d_index(arange(4.0).reshape(1, 1, 2, 2), kernel_size=2)
    tensor([[[[3]]]])
    """
    w = pool_windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    # padding is -inf too, but must not be found where the whole window is -inf
    inside = _flat(w.patches(w.pad(np.ones((1, 1, *w.size), bool))))
    values = _flat(w.patches(w.pad(x, lowest(x.dtype))))  # (N, C, H', W', kh kw)
    return or_last_nan((inside & (values == values.max(-1, keepdims=True))).argmax(-1), values)


def or_last_nan(place: Array, values: Array) -> Array:
    """`place`, or the place of the last nan along the last dimension of `values`.

    >>> or_last_nan(np.array([1, 0]), np.array([[1, 3, 3], [np.nan, 1, np.nan]]))
    array([1, 2])
    """
    nans = np.isnan(values)
    if not nans.any():
        return place
    return np.where(nans.any(-1), values.shape[-1] - 1 - nans[..., ::-1].argmax(-1), place)


def _flat(patches: Array) -> Array:
    """(..., kh, kw) as (..., kh kw)."""
    return patches.reshape(*patches.shape[:-2], math.prod(patches.shape[-2:]))


@op(check=check_images)
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
    """`max_pool2d`, and the position of each maximum in its image (row * W + column, int64).

    >>> from tt_core import arange
    >>> max_pool2d_with_indices(arange(16.0).reshape(1, 1, 4, 4), kernel_size=2)[1]
    tensor([[[[ 5,  7],
              [13, 15]]]])
    """
    w = pool_windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    index = max_pool2d_index.formula(x, kernel_size, stride, padding, dilation, ceil_mode)[..., None]
    # each pixel's number, in the same patches as the pixels: (1, 1, H', W', kh, kw)
    positions = w.pad(np.arange(math.prod(w.size)).reshape(1, 1, *w.size))
    patches = w.patches(w.pad(x, lowest(x.dtype)))
    every = np.broadcast_to(w.patches(positions), patches.shape)
    found, position = [np.take_along_axis(_flat(each), index, -1)[..., 0] for each in (patches, every)]
    return found, position


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
    """Gradient of `max_pool2d` for its input of `size` (H, W): each `g` goes to the element that `index` names."""
    w = pool_windows(size, kernel_size, stride, padding, dilation, ceil_mode)
    # (N, C, H', W', kh kw): g at the index, 0 elsewhere
    patches = np.where(index[..., None] == np.arange(math.prod(w.kernel)), g[..., None], 0)
    return w.sum_patches(patches.reshape(*g.shape, *w.kernel))


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
    """The element of each window that `index` names: the transpose of `max_pool2d_backward`."""
    w = pool_windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    return np.take_along_axis(_flat(w.patches(w.pad(x))), index[..., None], -1)[..., 0]


@gradient(max_pool2d)
def _(out: Any, x: Any, index: Any = None, **how: Any) -> Any:
    size = x.shape[-2:]
    # a kernel without residuals returns the maxima alone, and the formula finds their places
    places = max_pool2d_index(x, **how) if index is None else index
    return (lambda g: max_pool2d_backward(g, places, size=size, **how),)


gradient(max_pool2d_index, lambda out, x, **how: (None,))


@gradient(max_pool2d_backward)
def _(out: Any, g: Any, index: Any, size: Pair, **how: Any) -> Any:
    return lambda gg: max_pool2d_select(gg, index, **how), None


@gradient(max_pool2d_select)
def _(out: Any, x: Any, index: Any, **how: Any) -> Any:
    size = x.shape[-2:]
    return lambda g: max_pool2d_backward(g, index, size=size, **how), None


@gradient(max_pool2d_with_indices)
def _(out: Any, x: Any, **how: Any) -> Any:
    return (to_positions(out[1], x.shape),)


def to_positions(indices: Any, shape: tuple[int, ...]) -> Any:
    """The backward function that adds the gradient of each maximum to its position in images of `shape`."""
    flat = (*shape[:-2], shape[-2] * shape[-1])

    def backward(g: Any) -> Any:
        taken = g[0].flatten(-2)
        places = along_dim(np.asarray(indices.flatten(-2)), len(flat) - 1, flat, taken.shape)
        return add_at(taken, index=places, shape=flat).reshape(shape)

    return backward


# --- the mean of each window


@op(check=check_float_images)
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
    `divisor_override`. The part of a window beyond the padding (`ceil_mode`) never counts. Raises `DTypeError` for
    integers, `ArgumentError` for a `divisor_override` of 0.

    >>> from tt_core import ones
    >>> avg_pool2d(ones(1, 1, 2, 2), kernel_size=2, padding=1, count_include_pad=False)
    tensor([[[[1., 1.],
              [1., 1.]]]])
    """
    w = pool_windows(x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    return w.patches(w.pad(x)).sum((-2, -1)) / divisors(w, padding, count_include_pad, divisor_override, x.dtype)


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
    """Gradient of `avg_pool2d` for its input of `size` (H, W): each element of a window receives an equal share."""
    w = pool_windows(size, kernel_size, stride, padding, 1, ceil_mode)
    share = g / divisors(w, padding, count_include_pad, divisor_override, g.dtype)  # (N, C, H', W')
    return w.sum_patches(np.broadcast_to(share[..., None, None], (*g.shape, *w.kernel)))


def divisors(w: Windows, padding: IntOrPair, count_include_pad: bool, override: int | None, dtype: Any) -> Array:
    """The divisor of each window's sum, (H', W'), or one number for all windows."""
    if override == 0:
        raise ArgumentError("divisor_override must not be 0")
    rows, columns = pair(padding, "padding", least=0) if count_include_pad else (0, 0)
    if override is None and w.padding != ((rows, rows), (columns, columns)):
        return np.outer(_elements(w, 0, rows), _elements(w, 1, columns)).astype(dtype)
    return np.asarray(override or math.prod(w.kernel), dtype)


def _elements(w: Windows, d: int, around: int) -> Array:
    """The number of elements of each window along dimension `d`, where `around` elements of the padding count."""
    first = np.arange(w.out[d]) * w.stride[d] - w.padding[d][0]
    return np.minimum(first + w.kernel[d], w.size[d] + around) - np.maximum(first, -around)


@gradient(avg_pool2d)
def _(out: Any, x: Any, **how: Any) -> Any:
    size = x.shape[-2:]
    return (lambda g: avg_pool2d_backward(g, size=size, **how),)


gradient(avg_pool2d_backward, lambda out, g, size, **how: (lambda gg: avg_pool2d(gg, **how),))


# --- layers


def _max_pool2d(x: Any, return_indices: bool, **how: Any) -> Any:
    return max_pool2d_with_indices(x, **how) if return_indices else max_pool2d(x, **how)


class MaxPool2d(FunctionLayer):
    """The maximum of each window (`max_pool2d`); (N, C, H, W) to (N, C, H', W').

    With `return_indices`, it also returns the position of each maximum, which `MaxUnpool2d` takes.

    >>> from tt_core import ones
    >>> MaxPool2d(2)(ones(1, 3, 8, 8)).shape
    (1, 3, 4, 4)
    """

    function = staticmethod(_max_pool2d)

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
        how = {"padding": padding, "dilation": dilation, "ceil_mode": ceil_mode, "return_indices": return_indices}
        super().__init__(kernel_size=kernel_size, stride=kernel_size if stride is None else stride, **how)


class AvgPool2d(FunctionLayer):
    """The mean of each window (`avg_pool2d`); (N, C, H, W) to (N, C, H', W').

    >>> from tt_core import ones
    >>> AvgPool2d(3, stride=2)(ones(1, 3, 9, 9)).shape
    (1, 3, 4, 4)
    """

    function = staticmethod(avg_pool2d)

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
        super().__init__(
            kernel_size=kernel_size,
            stride=kernel_size if stride is None else stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            divisor_override=divisor_override,
        )
