"""Module 09, spatial: how a window moves over an image, which convolution and pooling share.

This is the geometry: sizes, padding, and which elements each window covers. Images are (N, C, H, W). A window covers
`kernel` elements that are `dilation` apart, and the next window starts `stride` elements further. What users may write
for these sizes is in `sizes.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tt_core.engine.dispatch import Array
from tt_data.spatial.sizes import IntOrPair as IntOrPair
from tt_data.spatial.sizes import Pair as Pair
from tt_data.spatial.sizes import pair as pair
from tt_data.spatial.sizes import reach_of, sides_of, too_large


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
        return reach_of(self.kernel, self.dilation)

    def pad(self, x: Array, value: float = 0) -> Array:
        """`x` with its padding, or `x` itself where there is none."""
        if self.padded_size == self.size:
            return x
        padded = np.full((*x.shape[:2], *self.padded_size), value, dtype=x.dtype)  # (N, C, Hp, Wp)
        self.crop(padded)[...] = x
        return padded

    def crop(self, padded: Array) -> Array:
        """The image inside its padding, as a view."""
        (top, _), (left, _) = self.padding
        return padded[:, :, top : top + self.size[0], left : left + self.size[1]]

    def patches(self, padded: Array) -> Array:
        """The elements of each window, (N, C, Hp, Wp) to (N, C, H', W', kh, kw), as a view."""
        (down, right), (rows, columns) = self.stride, self.dilation
        # a view, because a copy of the patches of a 3x3 kernel would take nine times the memory of the image
        return sliding_window_view(padded, self.reach, axis=(2, 3))[:, :, ::down, ::right, ::rows, ::columns]

    def sum_patches(self, patches: Array) -> Array:
        """Adds patches (N, C, H', W', kh, kw) up where they overlap: (N, C, H, W). The transpose of `patches`."""
        padded = np.zeros((*patches.shape[:2], *self.padded_size), dtype=patches.dtype)
        for i, j, covered in self.positions():
            padded[covered] += patches[..., i, j]  # elements at one (i, j) are distinct, so += loses none of them
        return self.crop(padded)

    def positions(self) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
        """Each position (i, j) in the kernel, with the index of the elements that all windows have there."""
        # loops over the few positions of the kernel, and never over the many windows
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

    >>> windows((5, 6), kernel=3, stride=2, padding=1, dilation=1).out
    (3, 3)
    """
    kernel, stride, dilation = pair(kernel, "kernel_size"), pair(stride, "stride"), pair(dilation, "dilation")
    reach = reach_of(kernel, dilation)
    sides = sides_of(padding, reach, stride)
    rows, columns = [_count(size[d], sides[d], reach[d], stride[d], ceil_mode) for d in (0, 1)]
    if rows[0] < 1 or columns[0] < 1:  # not even one window fits
        raise too_large(size, kernel, dilation, sides)
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
