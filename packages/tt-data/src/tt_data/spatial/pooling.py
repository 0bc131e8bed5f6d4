"""Module 09, spatial: pooling, which keeps one number of each window: its maximum, or its mean.

`pooling_windows.py` says where the windows are, `pooling_indices.py` which element of a window is its maximum. The
faster forms are in `kernels/pooling.py`, the layers in `layers.py`. Pooling over a grid of a given size is in
`adaptive_pooling.py`, the inverse of max pooling in `unpooling.py`, pooling along one dimension in `torch_names/`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, op
from tt_data.spatial.checks import check_float_images, check_images
from tt_data.spatial.common import on_images
from tt_data.spatial.pooling_indices import max_pool2d_index, max_pool2d_select
from tt_data.spatial.pooling_windows import divisors, lowest, pool_windows
from tt_data.spatial.sizes import IntOrPair, Pair
from tt_learn.autograd import gradient

# --- the maximum of each window


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
    # (N, C, H', W', kh, kw) -> (N, C, H', W'). Zeros as padding would be larger than a window of negative numbers
    return w.patches(w.pad(x, lowest(x.dtype))).max((-2, -1))


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


@gradient(max_pool2d)
def _(out: Any, x: Any, index: Any = None, **how: Any) -> Any:
    size = x.shape[-2:]
    # a kernel without residuals returns the maxima alone, and the formula finds their places
    places = max_pool2d_index(x, **how) if index is None else index
    return (lambda g: max_pool2d_backward(g, places, size=size, **how),)


@gradient(max_pool2d_backward)
def _(out: Any, g: Any, index: Any, size: Pair, **how: Any) -> Any:
    return lambda gg: max_pool2d_select(gg, index, **how), None  # which element was the maximum has no gradient


@gradient(max_pool2d_select)
def _(out: Any, x: Any, index: Any, **how: Any) -> Any:
    size = x.shape[-2:]
    return lambda g: max_pool2d_backward(g, index, size=size, **how), None


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
    # (N, C, H', W', kh, kw) -> (N, C, H', W'); `mean` would count what is beyond the padding
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
    # (N, C, H', W', kh, kw): the same share for all elements of a window, repeated without a copy
    return w.sum_patches(np.broadcast_to(share[..., None, None], (*g.shape, *w.kernel)))


@gradient(avg_pool2d)
def _(out: Any, x: Any, **how: Any) -> Any:
    size = x.shape[-2:]
    return (lambda g: avg_pool2d_backward(g, size=size, **how),)


gradient(avg_pool2d_backward, lambda out, g, size, **how: (lambda gg: avg_pool2d(gg, **how),))
