"""Module 09, spatial: where the maximum of each window is, in its window and in its image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.dispatch import Array, op
from tt_core.tensor.indexing import add_at, along_dim
from tt_data.spatial.checks import check_images
from tt_data.spatial.common import on_images
from tt_data.spatial.pooling_windows import lowest, pool_windows
from tt_data.spatial.sizes import IntOrPair
from tt_learn.autograd import gradient

if TYPE_CHECKING:
    from tt_core.tensor.tensor import Tensor


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


gradient(max_pool2d_index, lambda out, x, **how: (None,))


@gradient(max_pool2d_with_indices)
def _(out: Any, x: Any, **how: Any) -> Any:
    return (to_positions(out[1], x.shape),)


def to_positions(indices: Tensor, shape: tuple[int, ...]) -> Any:
    """The backward function that adds the gradient of each maximum to its position in images of `shape`."""
    flat = (*shape[:-2], shape[-2] * shape[-1])

    def backward(g: Any) -> Any:
        taken = g[0].flatten(-2)
        places = along_dim(np.asarray(indices.flatten(-2)), len(flat) - 1, flat, taken.shape)
        return add_at(taken, index=places, shape=flat).reshape(shape)

    return backward
