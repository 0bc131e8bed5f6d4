"""Module 09, spatial: pooling to a given size, over a grid of windows that cover the image: means and maxima."""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core import Tensor
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import ArgumentError
from tt_data.spatial.checks import check_float_images, check_images
from tt_data.spatial.common import FunctionLayer, on_images
from tt_data.spatial.pooling_indices import or_last_nan, to_positions
from tt_data.spatial.sizes import Pair, pair
from tt_learn.autograd import gradient

OutputSize = int | None | tuple[int | None, int | None]

# --- the grid


def _grid(asked: OutputSize, size: Pair) -> Pair:
    """Rows and columns of the result; None keeps the size of the input."""
    parts = asked if isinstance(asked, (tuple, list)) else (asked, asked)
    if len(parts) != 2:
        raise ArgumentError(f"output_size is a number or a pair (rows, columns), got {asked!r}")
    if 0 in size:
        raise ValueError("input has no pixels")
    return pair([have if part is None else part for part, have in zip(parts, size)], "output_size")


def _spans(size: int, parts: int) -> list[slice]:
    """`parts` ranges that cover `size` elements, from floor(i size / parts) to ceil((i + 1) size / parts)."""
    if parts > 1 << 24:
        raise ArgumentError(f"output_size is at most {1 << 24}, got {parts}")
    return [slice(i * size // parts, -((i + 1) * size // -parts)) for i in range(parts)]


# --- means


@op(check=check_float_images)
@on_images()
def adaptive_avg_pool2d(x: Array, /, output_size: OutputSize) -> Array:
    """Means over a grid of `output_size` windows that cover the image; (N, C, H, W) gives (N, C, H', W').

    Row i of the grid is the mean of rows `floor(i H / H')` to `ceil((i + 1) H / H')`, and likewise for columns.
    `output_size` is a number, or a pair (rows, columns) in which None keeps the input's. Raises `DTypeError` for
    integers.

    >>> from tt_core import arange
    >>> adaptive_avg_pool2d(arange(6.0).reshape(1, 1, 2, 3), output_size=(1, 2))
    tensor([[[[2., 3.]]]])
    """
    rows, columns = _grid(output_size, x.shape[2:])
    x = np.stack([x[:, :, span].mean(2) for span in _spans(x.shape[2], rows)], 2)  # (N, C, H', W)
    # (N, C, H', W'). The mean over rows, then columns, is that over both: each window is a rectangle
    return np.stack([x[..., span].mean(3) for span in _spans(x.shape[3], columns)], 3)


@op
@on_images()
def adaptive_avg_pool2d_backward(g: Array, /, size: Pair) -> Array:
    """Gradient of `adaptive_avg_pool2d` for its input of `size` (H, W): equal shares to the elements of each window."""
    return _shared_out(_shared_out(g, size[1], 3), size[0], 2)


def _shared_out(g: Array, size: int, axis: int) -> Array:
    """Gradient of the means over spans of one axis, which had `size` elements."""
    g = np.moveaxis(g, axis, 0)  # (parts, ...)
    total = np.zeros((size, *g.shape[1:]), dtype=g.dtype)
    for one, span in zip(g, _spans(size, len(g))):
        total[span] += one / g.dtype.type(span.stop - span.start)
    return np.moveaxis(total, 0, axis)


@gradient(adaptive_avg_pool2d)
def _(out: Any, x: Any, output_size: OutputSize) -> Any:
    size = x.shape[-2:]
    return (lambda g: adaptive_avg_pool2d_backward(g, size=size),)


@gradient(adaptive_avg_pool2d_backward)
def _(out: Any, g: Any, size: Pair) -> Any:
    output_size = g.shape[-2:]
    return (lambda gg: adaptive_avg_pool2d(gg, output_size=output_size),)


# --- maxima


@op(check=check_images)
@on_images()
def adaptive_max_pool2d_with_indices(x: Array, /, output_size: OutputSize) -> tuple[Array, Array]:
    """The maximum of each window of `adaptive_avg_pool2d`'s grid, and its position in the image.

    Positions are int64, row * W + column. The last nan of a window wins, else the first of equal elements.

    >>> from tt_core import arange
    >>> adaptive_max_pool2d_with_indices(arange(6.0).reshape(1, 1, 2, 3), output_size=1)
    (tensor([[[[5.]]]]), tensor([[[[5]]]]))
    """
    (n, c, height, width), grid = x.shape, _grid(output_size, x.shape[2:])
    positions = np.arange(height * width).reshape(height, width)
    found = np.empty((n, c, *grid), np.int64)
    for i, rows in enumerate(_spans(height, grid[0])):
        for j, columns in enumerate(_spans(width, grid[1])):
            inside = positions[rows, columns].reshape(-1)
            window = x[:, :, rows, columns].reshape(n, c, len(inside))
            found[:, :, i, j] = inside[or_last_nan(window.argmax(-1), window)]
    flat = x.reshape(n, c, height * width)  # positions count through the whole image
    return np.take_along_axis(flat, found.reshape(n, c, grid[0] * grid[1]), -1).reshape(found.shape), found


@gradient(adaptive_max_pool2d_with_indices)
def _(out: Any, x: Any, output_size: OutputSize) -> Any:
    return (to_positions(out[1], x.shape),)


def adaptive_max_pool2d(x: Tensor, output_size: OutputSize, return_indices: bool = False) -> Any:
    """The maximum of each window of a grid (`adaptive_max_pool2d_with_indices`), with or without its position.

    >>> from tt_core import arange
    >>> adaptive_max_pool2d(arange(6.0).reshape(1, 1, 2, 3), output_size=(1, 3))
    tensor([[[[3., 4., 5.]]]])
    """
    found = adaptive_max_pool2d_with_indices(x, output_size=output_size)
    return found if return_indices else found[0]


# --- layers


class AdaptiveAvgPool2d(FunctionLayer):
    """Means over a grid of windows of the given size (`adaptive_avg_pool2d`).

    `output_size` is a number, or a pair (rows, columns) in which None keeps the input's.

    >>> from tt_core import ones
    >>> AdaptiveAvgPool2d(1)(ones(2, 3, 7, 5)).shape
    (2, 3, 1, 1)
    """

    function = staticmethod(adaptive_avg_pool2d)

    @checked
    def __init__(self, output_size: OutputSize) -> None:
        super().__init__(output_size=output_size)


class AdaptiveMaxPool2d(FunctionLayer):
    """The maximum of each window of the same grid; with `return_indices`, also its position.

    >>> from tt_core import ones
    >>> AdaptiveMaxPool2d((3, None))(ones(2, 3, 7, 5)).shape
    (2, 3, 3, 5)
    """

    function = staticmethod(adaptive_max_pool2d)

    @checked
    def __init__(self, output_size: OutputSize, return_indices: bool = False) -> None:
        super().__init__(output_size=output_size, return_indices=return_indices)
