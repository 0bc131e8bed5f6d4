"""Module 09, spatial: images read at places that may be learnt, as in spatial transformers (Jaderberg et al. 2015).

Compositions of ops: the corners around each place are gathered, and their weights are functions of the place, so
gradients flow to the image and to the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tt_core.engine.compositions import of_tensors
from tt_core.engine.errors import ShapeError, check_floats
from tt_core.tensor.creation import from_numpy
from tt_core.tensor.elementwise import clip
from tt_core.tensor.products import matmul
from tt_core.tensor.shapes import take_along_dim


@of_tensors("theta")
def affine_grid(theta: Any, size: Sequence[int], align_corners: bool | None = None) -> Any:
    """Places (N, H, W, 2) for `grid_sample`: each pixel's own place (x, y, 1), mapped by theta (N, 2, 3).

    `size` is (N, C, H, W). Places run from -1 to 1, from edge to edge of the image, or with `align_corners` from the
    centre of the first pixel to that of the last. Raises `ShapeError` for other shapes.

    >>> from tt_core import tensor
    >>> affine_grid(tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]), (1, 1, 1, 2)).tolist()
    [[[[-0.5, 0.0], [0.5, 0.0]]]]
    """
    if len(size) != 4 or theta.shape != (size[0], 2, 3):
        raise ShapeError(f"affine_grid: expected theta (N, 2, 3) and size (N, C, H, W), got {theta.shape} and {size!r}")
    check_floats(theta)
    ys, xs = (_own_places(n, bool(align_corners)) for n in size[2:])
    own = np.stack([*np.meshgrid(xs, ys), np.ones((len(ys), len(xs)))], -1).reshape(1, -1, 3).astype(theta.dtype)
    return matmul(from_numpy(own), theta.transpose(1, 2)).reshape(size[0], len(ys), len(xs), 2)


def _own_places(n: int, align_corners: bool) -> Any:
    places = np.linspace(-1, 1, n) if n > 1 else np.zeros(n)
    return places if align_corners else places * (n - 1) / max(n, 1)


@of_tensors("x grid")
def grid_sample(
    x: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Any:
    """Reads images x (N, C, H, W) at the places (x, y) of `grid` (N, H', W', 2), see `affine_grid`: (N, C, H', W').

    `mode`: 'bilinear' or 'nearest'. Outside of the image are zeros, or with `padding_mode` 'border' its edge. Raises
    `ShapeError` for other modes and shapes.

    >>> from tt_core import tensor
    >>> grid_sample(tensor([[[[1.0, 3.0]]]]), tensor([[[[0.0, 0.0]]]])).item()
    2.0
    """
    if mode not in ("bilinear", "nearest") or padding_mode not in ("zeros", "border"):
        raise ShapeError(
            "grid_sample: mode is 'bilinear' or 'nearest' and padding_mode 'zeros' or 'border', "
            f"got {mode!r} and {padding_mode!r}"
        )
    if x.ndim != 4 or grid.ndim != 4 or grid.shape[0] != x.shape[0] or grid.shape[3] != 2 or 0 in x.shape[2:]:
        raise ShapeError(f"grid_sample: expected (N, C, H, W) and (N, H', W', 2), got {x.shape} and {grid.shape}")
    check_floats(grid)
    column, row = (
        _positions(grid[..., i].reshape(len(grid), 1, -1), x.shape[3 - i], padding_mode, bool(align_corners))
        for i in (0, 1)
    )
    flat = x.reshape(*x.shape[:2], -1)
    if mode == "nearest":
        y = _read(flat, x.shape, np.rint(row.data), np.rint(column.data))
    else:
        top, left = np.floor(row.data), np.floor(column.data)
        down, across = row - from_numpy(top), column - from_numpy(left)
        upper = _read(flat, x.shape, top, left) * (1 - across) + _read(flat, x.shape, top, left + 1) * across
        lower = _read(flat, x.shape, top + 1, left) * (1 - across) + _read(flat, x.shape, top + 1, left + 1) * across
        y = upper * (1 - down) + lower * down
    return y.reshape(*x.shape[:2], *grid.shape[1:3])


def _positions(places: Any, size: int, padding_mode: str, align_corners: bool) -> Any:
    """From places in [-1, 1] to numbers of pixels."""
    pixels = (places + 1) * ((size - 1) / 2) if align_corners else ((places + 1) * size - 1) * 0.5
    return clip(pixels, 0, size - 1) if padding_mode == "border" else pixels


def _read(flat: Any, shape: tuple[int, ...], row: Any, column: Any) -> Any:
    """The pixels (N, C, P) of flat images (N, C, H W) at whole rows and columns (N, 1, P); zeros outside."""
    inside = (row >= 0) & (row < shape[2]) & (column >= 0) & (column < shape[3])
    index = np.where(inside, row * shape[3] + column, 0).astype(np.int64)
    places = from_numpy(np.repeat(index, shape[1], axis=1))
    return take_along_dim(flat, places, dim=2) * from_numpy(inside.astype(flat.dtype))
