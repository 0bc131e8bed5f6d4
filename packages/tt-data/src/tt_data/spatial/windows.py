"""Module 09, spatial: how a window moves over an image, which convolution and pooling share.

This is the geometry: sizes, padding, and which elements each window covers. Images are (N, C, H, W). A window covers
`kernel` elements that are `dilation` apart, and the next window starts `stride` elements further.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ArgumentError, is_integer

Pair = tuple[int, int]
IntOrPair = int | Sequence[int]

_TUPLES = ("", "tuple of one", "pair of them")


@dataclass(frozen=True)
class Windows:
    """All windows on an image of `size`. Each field holds one number for rows and one for columns."""

    size: Pair
    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: tuple[Pair, Pair]
    """Elements added (before, after)."""
    out: Pair
    """The number of windows."""

    @property
    def padded_size(self) -> Pair:
        """Rows and columns with padding."""
        (top, bottom), (left, right) = self.padding
        return top + self.size[0] + bottom, left + self.size[1] + right

    @property
    def reach(self) -> Pair:
        """Rows and columns from the first to the last element of a window."""
        return self.dilation[0] * (self.kernel[0] - 1) + 1, self.dilation[1] * (self.kernel[1] - 1) + 1

    def pad(self, x: Array, value: float = 0) -> Array:
        """`x` with its padding, or `x` itself where there is none."""
        if self.padded_size == self.size:
            return x
        padded = np.full((*x.shape[:2], *self.padded_size), value, dtype=x.dtype)
        self.crop(padded)[...] = x
        return padded

    def crop(self, padded: Array) -> Array:
        """The image inside its padding, as a view."""
        (top, _), (left, _) = self.padding
        return padded[:, :, top : top + self.size[0], left : left + self.size[1]]

    def patches(self, padded: Array) -> Array:
        """The elements of each window, (N, C, Hp, Wp) to (N, C, H', W', kh, kw), as a view."""
        (down, right), (rows, columns) = self.stride, self.dilation
        return sliding_window_view(padded, self.reach, axis=(2, 3))[:, :, ::down, ::right, ::rows, ::columns]

    def sum_patches(self, patches: Array) -> Array:
        """Adds patches (N, C, H', W', kh, kw) up where they overlap: (N, C, H, W). The transpose of `patches`."""
        padded = np.zeros((*patches.shape[:2], *self.padded_size), dtype=patches.dtype)
        for i, j, covered in self.positions():
            padded[covered] += patches[..., i, j]
        return self.crop(padded)

    def positions(self) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
        """Each position (i, j) in the kernel, with the index of the elements that all windows have there."""
        for i in range(self.kernel[0]):
            down = _every(i * self.dilation[0], self.out[0], self.stride[0])
            for j in range(self.kernel[1]):
                across = _every(j * self.dilation[1], self.out[1], self.stride[1])
                yield i, j, (slice(None), slice(None), down, across)


def _every(start: int, count: int, step: int) -> slice:
    return slice(start, start + (count - 1) * step + 1, step)


def windows(
    size: Pair,
    kernel: IntOrPair,
    stride: IntOrPair,
    padding: IntOrPair | str,
    dilation: IntOrPair,
    ceil_mode: bool = False,
) -> Windows:
    """The windows on an image of `size`.

    `padding` is a number or a pair (rows, columns) added on both sides, 'valid' (none) or 'same' (out = in, stride 1).
    With `ceil_mode`, the last window may extend past the far edge by less than a stride, if it starts inside. Raises
    `ValueError` for a kernel larger than the padded image, `ArgumentError` for other bad values.
    """
    kernel, stride, dilation = pair(kernel, "kernel_size"), pair(stride, "stride"), pair(dilation, "dilation")
    reach = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    sides = sides_of(padding, reach, stride)
    rows = _count(size[0], sides[0], reach[0], stride[0], ceil_mode)
    columns = _count(size[1], sides[1], reach[1], stride[1], ceil_mode)
    if rows[0] < 1 or columns[0] < 1:
        padded = (size[0] + sum(sides[0]), size[1] + sum(sides[1]))
        spread = f" spread to {reach} by dilation {dilation}" if reach != kernel else ""
        around = f", {padded} with padding" if padded != size else ""
        raise ValueError(f"kernel {kernel}{spread} is larger than the image {size}{around}")
    return Windows(size, kernel, stride, dilation, (rows[1], columns[1]), (rows[0], columns[0]))


def _count(size: int, sides: Pair, reach: int, stride: int, ceil_mode: bool) -> tuple[int, Pair]:
    """The number of windows along one dimension, and the padding, extended to the end of the last window."""
    before, after = sides
    free = before + size + after - reach  # how far the first window can move
    count = free // stride + 1
    # the window after the last complete one counts if it does not start in the padding after the image
    if ceil_mode and free % stride and count * stride < size + before:
        count += 1
    return count, (before, max(after, (count - 1) * stride + reach - size - before))


def sides_of(padding: IntOrPair | str, reach: Pair, stride: Pair) -> tuple[Pair, Pair]:
    """Elements added (before, after) to rows and to columns, for windows that extend over `reach` elements."""
    if not isinstance(padding, str):
        rows, columns = pair(padding, "padding", least=0)
        return (rows, rows), (columns, columns)
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same":
        raise ArgumentError(f"padding is a number, a pair, 'same' or 'valid', got {padding!r}")
    if stride != (1, 1):
        raise ArgumentError(f"padding 'same' needs stride 1, got {stride}")
    rows, columns = reach[0] - 1, reach[1] - 1  # an odd number is padded more at the end, as in PyTorch
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)


def pair(value: IntOrPair, name: str, least: int = 1) -> Pair:
    """`value` for rows and for columns.

    >>> pair(3, "stride"), pair((1, 2), "stride")
    ((3, 3), (1, 2))
    """
    rows, columns = per_dimension(value, 2, name, least)
    return rows, columns


def per_dimension(value: IntOrPair, dims: int, name: str, least: int = 1) -> tuple[int, ...]:
    """`value` for each of `dims` dimensions (1 or 2); raises `ArgumentError` unless it is one integer or that many."""
    parts = (value,) * dims if isinstance(value, (int, np.integer)) else value
    if not isinstance(parts, (tuple, list)) or len(parts) != dims or not all(is_integer(p, least) for p in parts):
        raise ArgumentError(f"{name} is an integer >= {least} or a {_TUPLES[dims]}, got {value!r}")
    return tuple(map(int, parts))
