"""Module 09, spatial: images read at given positions, as in spatial transformers (Jaderberg et al. 2015).

These are compositions of ops. The four pixels around each position are gathered, and their weights are functions of the
position, so gradients flow to the image and to the grid.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from tt_core import Tensor
from tt_core.engine.compositions import of_tensors
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ArgumentError, ShapeError, check_floats
from tt_core.tensor.creation import from_numpy
from tt_core.tensor.elementwise import clip
from tt_core.tensor.products import matmul
from tt_core.tensor.shapes import take_along_dim


@of_tensors("theta")
def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """Positions (N, H, W, 2) for `grid_sample`: the position (x, y, 1) of each pixel, mapped by theta (N, 2, 3).

    `size` is (N, C, H, W). Positions run from -1 to 1, from edge to edge of the image, or with `align_corners` from the
    centre of the first pixel to that of the last. Raises `ShapeError` for other shapes, `DTypeError` for integers.

    >>> from tt_core import tensor
    >>> affine_grid(tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]), (1, 1, 1, 2)).tolist()
    [[[[-0.5, 0.0], [0.5, 0.0]]]]
    """
    if len(size) != 4 or theta.shape != (size[0], 2, 3):
        raise ShapeError(f"affine_grid: expected theta (N, 2, 3) and size (N, C, H, W), got {theta.shape} and {size!r}")
    check_floats(theta)
    ys, xs = (_pixel_positions(n, bool(align_corners)) for n in size[2:])
    pixels = np.stack([*np.meshgrid(xs, ys), np.ones((len(ys), len(xs)))], -1).reshape(1, -1, 3).astype(theta.dtype)
    # (1, H W, 3) @ (N, 3, 2)
    return matmul(from_numpy(pixels), theta.transpose(1, 2)).reshape(size[0], len(ys), len(xs), 2)


def _pixel_positions(n: int, align_corners: bool) -> Array:
    """The positions of `n` pixels along one axis."""
    centres = np.linspace(-1, 1, n) if n > 1 else np.zeros(n)
    return centres if align_corners else centres * (n - 1) / max(n, 1)


@of_tensors("x grid")
def grid_sample(
    x: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Tensor:
    """Reads images x (N, C, H, W) at the positions (x, y) of `grid` (N, H', W', 2): (N, C, H', W').

    Positions are as in `affine_grid`. `mode` is 'bilinear' or 'nearest'. Outside the image are zeros, or with
    `padding_mode` 'border' the pixels of its edge. Raises `ArgumentError` for other modes, `ShapeError` for other
    shapes.

    >>> from tt_core import tensor
    >>> grid_sample(tensor([[[[1.0, 3.0]]]]), tensor([[[[0.0, 0.0]]]])).item()
    2.0
    """
    _check_sampling(x, grid, mode, padding_mode)
    column, row = (
        _pixels(grid[..., i].reshape(len(grid), 1, -1), x.shape[3 - i], padding_mode, bool(align_corners))
        for i in (0, 1)
    )
    read = functools.partial(_read, x.reshape(*x.shape[:2], -1), x.shape)
    y = read(np.rint(row.data), np.rint(column.data)) if mode == "nearest" else _bilinear(read, row, column)
    return y.reshape(*x.shape[:2], *grid.shape[1:3])  # from (N, C, P)


def _check_sampling(x: Tensor, grid: Tensor, mode: str, padding_mode: str) -> None:
    if mode not in ("bilinear", "nearest") or padding_mode not in ("zeros", "border"):
        raise ArgumentError(
            "grid_sample: mode is 'bilinear' or 'nearest' and padding_mode 'zeros' or 'border', "
            f"got {mode!r} and {padding_mode!r}"
        )
    if x.ndim != 4 or grid.ndim != 4 or grid.shape[0] != x.shape[0] or grid.shape[3] != 2 or 0 in x.shape[2:]:
        raise ShapeError(f"grid_sample: expected (N, C, H, W) and (N, H', W', 2), got {x.shape} and {grid.shape}")
    check_floats(grid)


def _bilinear(read: Callable[[Array, Array], Tensor], row: Tensor, column: Tensor) -> Tensor:
    """The four pixels around each position, weighted by their distance to it: (N, C, P)."""
    # (N, 1, P): the pixel above and to the left of each position, and the distance to it
    top, left = np.floor(row.data), np.floor(column.data)
    down, across = row - from_numpy(top), column - from_numpy(left)
    upper = read(top, left) * (1 - across) + read(top, left + 1) * across
    lower = read(top + 1, left) * (1 - across) + read(top + 1, left + 1) * across
    return upper * (1 - down) + lower * down


def _pixels(position: Tensor, size: int, padding_mode: str, align_corners: bool) -> Tensor:
    """From positions in [-1, 1] to indices of pixels, with fractions."""
    pixels = (position + 1) * ((size - 1) / 2) if align_corners else ((position + 1) * size - 1) * 0.5
    return clip(pixels, 0, size - 1) if padding_mode == "border" else pixels


def _read(flat: Tensor, shape: tuple[int, ...], row: Array, column: Array) -> Tensor:
    """The pixels (N, C, P) of flat images (N, C, H W) at whole rows and columns (N, 1, P); zeros outside."""
    inside = (row >= 0) & (row < shape[2]) & (column >= 0) & (column < shape[3])
    index = np.where(inside, row * shape[3] + column, 0).astype(np.int64)
    index = np.repeat(index, shape[1], axis=1)  # (N, C, P)
    return take_along_dim(flat, from_numpy(index), dim=2) * from_numpy(inside.astype(flat.dtype))
