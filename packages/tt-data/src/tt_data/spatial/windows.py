"""How a window moves over an image: what convolution and pooling share. Beside module 09, spatial.

Geometry: sizes, padding, and which elements a window touches; and the forms of input that all kernels take alike.
Images are (N, C, H, W). A window of `kernel` elements, `dilation` apart, starts every `stride` elements.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ArgumentError, ShapeError, is_integer

Pair = tuple[int, int]
IntOrPair = int | Sequence[int]

_TUPLES = ("", "tuple of one", "pair of them")

BLOCK = 1 << 20
"""Bytes of columns worked on at once: they and their product stay in the cache of the core they were copied on."""


@dataclass(frozen=True)
class Windows:
    """Every window on an image of `size`; each field holds a number for rows and one for columns."""

    size: Pair
    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: tuple[Pair, Pair]
    """Elements added (before, after)."""
    out: Pair
    """How many windows there are."""

    @property
    def padded_size(self) -> Pair:
        """Rows and columns with padding."""
        (top, bottom), (left, right) = self.padding
        return top + self.size[0] + bottom, left + self.size[1] + right

    @property
    def touching(self) -> bool:
        """Whether a window starts at every column."""
        return self.stride[1] == 1

    def pad(self, x: Array, value: float = 0) -> Array:
        """`x` with its padding; `x` itself where there is none."""
        if self.padded_size == self.size:
            return x
        padded = np.full((*x.shape[:2], *self.padded_size), value, dtype=x.dtype)
        self.crop(padded)[...] = x
        return padded

    def crop(self, padded: Array) -> Array:
        """The image inside its padding; a view."""
        (top, _), (left, _) = self.padding
        return padded[:, :, top : top + self.size[0], left : left + self.size[1]]

    def columns(self, padded: Array) -> Array:
        """(N, C, Hp, Wp) seen as (C, kernel rows, kernel columns, N, out rows, out columns); a view."""
        images, channels, row, column = padded.strides
        (down, right), (apart_rows, apart_columns) = self.stride, self.dilation
        shape = (padded.shape[1], *self.kernel, padded.shape[0], *self.out)
        strides = (channels, row * apart_rows, column * apart_columns, images, row * down, column * right)
        return as_strided(padded, shape, strides, writeable=False)

    def positions(self) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
        """Each place (i, j) of the kernel, with the index of what it meets in a padded image, all windows at once."""
        for i in range(self.kernel[0]):
            down = _every(i * self.dilation[0], self.out[0], self.stride[0])
            for j in range(self.kernel[1]):
                across = _every(j * self.dilation[1], self.out[1], self.stride[1])
                yield i, j, (slice(None), slice(None), down, across)

    def meeting(self, d: int, place: int, some: slice | None = None) -> tuple[slice, slice]:
        """Along dimension `d`, which windows meet the image with their element `place`, and which elements they meet.

        `some` limits it to a range of windows, and the answer counts from its start.
        """
        first, last = (some.start, some.stop) if some else (0, self.out[d])
        offset, stride = place * self.dilation[d] - self.padding[d][0], self.stride[d]
        start = max(first, -(offset // stride))
        stop = max(start, min(last, (self.size[d] - 1 - offset) // stride + 1))
        at = start * stride + offset
        return slice(start - first, stop - first), slice(at, at + (stop - start) * stride, stride)

    def blocks(self, images: int, row_bytes: int) -> Iterator[tuple[slice, slice]]:
        """(images, rows of windows) in pieces of about `BLOCK` bytes, where one row of windows takes `row_bytes`."""
        fit, rows = max(1, BLOCK // max(1, row_bytes)), self.out[0]
        step = max(1, fit // rows)
        for image in range(0, images, step):
            for row in range(0, rows, min(fit, rows)):
                yield slice(image, min(image + step, images)), slice(row, min(row + fit, rows))


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
    """Count the windows on an image of `size`.

    `padding`: a number or a pair (rows, columns) added on both sides, 'valid' (none) or 'same' (out = in, stride 1).
    `ceil_mode` lets the last window hang over the far edge, by less than a stride, as long as it starts inside. Raises
    `ValueError` for a kernel larger than that, or numbers that make no window.
    """
    kernel, stride = pair(kernel, "kernel_size"), pair(stride, "stride")
    dilation = pair(dilation, "dilation")
    reach = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    sides = sides_of(padding, reach, stride)
    padded = (size[0] + sum(sides[0]), size[1] + sum(sides[1]))
    rows = _count(size[0], sides[0], reach[0], stride[0], ceil_mode)
    columns = _count(size[1], sides[1], reach[1], stride[1], ceil_mode)
    if rows[0] < 1 or columns[0] < 1:
        spread = f" spread to {reach} by dilation {dilation}" if reach != kernel else ""
        around = f", {padded} with padding" if padded != size else ""
        raise ValueError(f"kernel {kernel}{spread} is larger than the image {size}{around}")
    return Windows(size, kernel, stride, dilation, (rows[1], columns[1]), (rows[0], columns[0]))


def _count(size: int, sides: Pair, reach: int, stride: int, ceil_mode: bool) -> tuple[int, Pair]:
    """How many windows along one dimension, and its padding, widened to where the last window ends."""
    before, after = sides
    free = before + size + after - reach
    count = free // stride + 1
    if ceil_mode and free % stride and count * stride < size + before:
        count += 1
    return count, (before, max(after, (count - 1) * stride + reach - size - before))


def sides_of(padding: IntOrPair | str, reach: Pair, stride: Pair) -> tuple[Pair, Pair]:
    """Elements added (before, after) to rows and to columns, for windows that reach over so many."""
    if not isinstance(padding, str):
        rows, columns = pair(padding, "padding", least=0)
        return (rows, rows), (columns, columns)
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same":
        raise ArgumentError(f"padding is a number, a pair, 'same' or 'valid', got {padding!r}")
    if stride != (1, 1):
        raise ShapeError(f"padding 'same' needs stride 1, got {stride}")
    rows, columns = reach[0] - 1, reach[1] - 1
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)


def pair(value: IntOrPair, name: str, least: int = 1) -> Pair:
    """`value` for rows and for columns.

    >>> pair(3, "stride"), pair((1, 2), "stride")
    ((3, 3), (1, 2))
    """
    rows, columns = per_dimension(value, 2, name, least)
    return rows, columns


def per_dimension(value: IntOrPair, dims: int, name: str, least: int = 1) -> tuple[int, ...]:
    """`value` for each of `dims` dimensions (1 or 2); raises `ShapeError` for anything but that many integers."""
    parts = (value,) * dims if isinstance(value, (int, np.integer)) else value
    if not isinstance(parts, (tuple, list)) or len(parts) != dims or not all(is_integer(p, least) for p in parts):
        raise ShapeError(f"{name} is an integer >= {least} or a {_TUPLES[dims]}, got {value!r}")
    return tuple(map(int, parts))


def check_images(x: Array) -> None:
    """Raise `ValueError` unless `x` is (N, C, H, W), which `on_images` makes of one image."""
    if x.ndim != 4:
        raise ValueError(f"input has {x.ndim} dimensions, expected 4: (N, C, H, W), or 3 for one image")


Kernel = Callable[..., Any]


def on_images(batches: int = 1, gives_images: bool = True, ndim: int = 4) -> Callable[[Kernel], Kernel]:
    """Let a kernel that works on batches take one image too, and compute float16 in float32.

    Where the first input has one dimension less than `ndim`, as (C, H, W) has, the first `batches` inputs get one of
    length 1 in front, and results that are images lose it. float16 overflows above 65504 and cannot represent 2049, so
    sums are accumulated in float32 and rounded once, as in PyTorch.

    >>> @on_images()
    ... def total(x):
    ...     return x.sum((2, 3))
    >>> total(np.ones((1, 50, 50), np.float16)).tolist()
    [2500.0]
    """

    def decorate(kernel: Kernel) -> Kernel:
        @functools.wraps(kernel)
        def run(*inputs: Any, **how: Any) -> Any:
            single, half = inputs[0].ndim == ndim - 1, inputs[0].dtype == np.float16
            if not (single or half):
                return kernel(*inputs, **how)
            if single:
                inputs = (*[x[None] for x in inputs[:batches]], *inputs[batches:])
            half = half and np.result_type(*[x for x in inputs if _is_float(x)]) == np.float16
            result = kernel(*[x.astype(np.float32) if half and _is_float(x) else x for x in inputs], **how)
            results = result if isinstance(result, tuple) else (result,)
            results = tuple([x[0] for x in results]) if single and gives_images else results
            results = tuple([_halved(x) for x in results]) if half else results
            return results if isinstance(result, tuple) else results[0]

        return run

    return decorate


def _is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def _halved(x: Array) -> Array:
    with np.errstate(over="ignore"):  # what is too large becomes inf, as in any other sum
        return x.astype(np.float16) if _is_float(x) else x
