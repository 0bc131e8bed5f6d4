"""Module 09, spatial: pooling over a grid of windows that cover the image, as many as asked for: means and maxima."""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import check_floats
from tt_data.spatial.pooling import Pool, added_where_found
from tt_data.spatial.windows import Pair, check_images, on_images, pair
from tt_learn.autograd import gradient

OutputSize = int | None | tuple[int | None, int | None]

# --- means


@op
@on_images()
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
    rows, columns = _grid(output_size, x.shape[2:])
    return _means(_means(x, rows, 2), columns, 3)


@op
@on_images()
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
    if parts > 1 << 24:  # each is a pair of Python's integers
        raise ValueError(f"output_size is at most {1 << 24}, got {parts}")
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
    size = x.shape[-2:]
    return (lambda g: adaptive_avg_pool2d_backward(g, size=size),)


@gradient(adaptive_avg_pool2d_backward)
def _(out: Any, g: Any, size: Pair) -> Any:
    output_size = g.shape[-2:]
    return (lambda gg: adaptive_avg_pool2d(gg, output_size=output_size),)


# --- maxima


@op
@on_images()
def adaptive_max_pool2d_with_indices(x: Array, /, output_size: OutputSize) -> tuple[Array, Array]:
    """The largest element of each window of `adaptive_avg_pool2d`'s grid, and where in its image it was found.

    Indices are int64, row * W + column. The last nan of a window wins, else the first of equals.

    >>> from tt_core import arange
    >>> adaptive_max_pool2d_with_indices(arange(6.0).reshape(1, 1, 2, 3), output_size=1)
    (tensor([[[[5.]]]]), tensor([[[[5]]]]))
    """
    check_images(x)
    if not x.shape[2] or not x.shape[3]:
        raise ValueError("input has no pixels")
    grid = _grid(output_size, x.shape[2:])
    rows, columns = (_spans(size, parts) for size, parts in zip(x.shape[2:], grid))
    found = np.empty((*x.shape[:2], *grid), np.int64)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            down, across = np.divmod(_largest_place(x[:, :, top:bottom, left:right]), right - left)
            found[:, :, i, j] = (top + down) * x.shape[3] + left + across
    flat = x.reshape(*x.shape[:2], -1)
    return np.take_along_axis(flat, found.reshape(*x.shape[:2], -1), -1).reshape(found.shape), found


def _largest_place(window: Array) -> Array:
    """Where in (N, C, h, w) the largest element is, (N, C): of its nans the last, else the first of equals."""
    flat = window.reshape(*window.shape[:2], -1)
    place = flat.argmax(-1)  # the first nan, where there is one
    nans = np.isnan(flat) if flat.dtype.kind == "f" else None
    if nans is not None and nans.any():
        last = flat.shape[2] - 1 - nans[:, :, ::-1].argmax(-1)
        place = np.where(nans.any(-1), last, place)
    return place


@gradient(adaptive_max_pool2d_with_indices)
def _(out: Any, x: Any, output_size: OutputSize) -> Any:
    return (added_where_found(out[1], x.shape),)


def adaptive_max_pool2d(x: Any, output_size: OutputSize, return_indices: bool = False) -> Any:
    """The largest element of each window of a grid (`adaptive_max_pool2d_with_indices`), with or without its place.

    >>> from tt_core import arange
    >>> adaptive_max_pool2d(arange(6.0).reshape(1, 1, 2, 3), output_size=(1, 3))
    tensor([[[[3., 4., 5.]]]])
    """
    found = adaptive_max_pool2d_with_indices(x, output_size=output_size)
    return found if return_indices else found[0]


# --- layers


class AdaptiveAvgPool2d(Pool):
    """Means over a grid of windows of the size asked for (`adaptive_avg_pool2d`).

    `output_size`: a number, or a pair (rows, columns) in which None keeps the input's.

    >>> from tt_core import ones
    >>> AdaptiveAvgPool2d(1)(ones(2, 3, 7, 5)).shape
    (2, 3, 1, 1)
    """

    @checked
    def __init__(self, output_size: OutputSize) -> None:
        super().__init__()
        self.output_size = output_size

    def _how(self) -> dict[str, Any]:
        return {"output_size": self.output_size}

    def _pool(self, x: Any) -> Any:
        return adaptive_avg_pool2d(x, **self._how())


class AdaptiveMaxPool2d(Pool):
    """The largest element of each window of the same grid; with `return_indices`, also where it was found.

    >>> from tt_core import ones
    >>> AdaptiveMaxPool2d((3, None))(ones(2, 3, 7, 5)).shape
    (2, 3, 3, 5)
    """

    @checked
    def __init__(self, output_size: OutputSize, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def _how(self) -> dict[str, Any]:
        return {"output_size": self.output_size}

    def _pool(self, x: Any) -> Any:
        return adaptive_max_pool2d(x, self.output_size, self.return_indices)
