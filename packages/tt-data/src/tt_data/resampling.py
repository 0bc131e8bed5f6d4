"""Module 09, spatial: enlarging images, as a weighted sum of a few pixels along each axis in turn.

Both modes are separable: a row of the result is `sum over k of weight[k] * row[index[k]]`, with one such tap for
'nearest' and two for 'bilinear'; then columns alike.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core.dispatch import Array, op
from tt_core.errors import ShapeError, check_floats
from tt_core.layers import Layer
from tt_data.windows import IntOrPair, Pair, check_images, pair
from tt_learn.autograd import gradient

Scale = tuple[float | None, float | None]
Taps = list[tuple[Array, Array]]
"""(index, weight) pairs, each as long as the result."""


@op
def upsample(
    x: Array, /, size: IntOrPair, mode: str = "nearest", align_corners: bool = False, scale: Scale = (None, None)
) -> Array:
    """Images of another `size` (H', W'), with the nearest pixel or the two nearest of each axis blended.

    x (N, C, H, W). With `align_corners`, the centres of the corner pixels keep their place; else the corners of the
    image do. `scale` (H' / H, W' / W) may be given where rounding hides it.

    >>> from tt_core import tensor
    >>> upsample(tensor([[[[1.0, 2.0]]]]), size=(1, 4))
    tensor([[[[1., 1., 2., 2.]]]])
    """
    check_images(x)
    size = pair(size, "size")
    if not x.size and 0 in x.shape[1:]:
        raise ValueError("input has no pixels")
    if mode == "bilinear":
        check_floats(x)
    for axis in (2, 3):
        x = _along(x, _taps(x.shape[axis], size[axis - 2], mode, align_corners, scale[axis - 2], x.dtype), axis)
    return x


@op
def upsample_backward(g: Array, /, size: Pair, mode: str, align_corners: bool, scale: Scale) -> Array:
    """Gradient of `upsample` for its input of `size` (H, W): each `g` goes back to its taps."""
    for axis in (3, 2):
        taps = _taps(size[axis - 2], g.shape[axis], mode, align_corners, scale[axis - 2], g.dtype)
        g = _along_backward(g, taps, size[axis - 2], axis)
    return g


def _along(x: Array, taps: Taps, axis: int) -> Array:
    (index, weight), *others = taps
    total = np.take(x, index, axis=axis)
    if others:
        total *= _spread(weight, axis)
    for index, weight in others:
        total += np.take(x, index, axis=axis) * _spread(weight, axis)
    return total


def _along_backward(g: Array, taps: Taps, size: int, axis: int) -> Array:
    total = np.zeros((*g.shape[:axis], size, *g.shape[axis + 1 :]), dtype=g.dtype)
    lead: tuple[Any, ...] = (slice(None),) * axis
    for index, weight in taps:
        weighted = g * _spread(weight, axis)
        for to, source in enumerate(index):
            total[(*lead, source)] += weighted[(*lead, to)]
    return total


def _spread(weight: Array, axis: int) -> Array:
    return weight.reshape(-1, *(1,) * (3 - axis))


def _taps(size: int, out: int, mode: str, align_corners: bool, scale: float | None, dtype: Any) -> Taps:
    """Where each pixel of the result comes from, along one axis; rounded as PyTorch rounds it."""
    exact = out == size or (mode == "nearest" and out == 2 * size)  # there PyTorch looks at no `scale`
    step = size / out if scale is None or exact else 1 / scale
    if mode == "nearest":
        source = np.floor(np.arange(out, dtype=np.float32) * np.float32(step)).astype(np.intp)
        return [(np.minimum(source, size - 1), np.ones(out, dtype=dtype))]
    if mode != "bilinear":
        raise ValueError(f"mode is 'nearest' or 'bilinear', got {mode!r}")
    exactly = np.promote_types(dtype, np.float32)  # a half cannot count the columns of an image
    at = np.arange(out, dtype=exactly)
    if align_corners:
        position = at * exactly.type((size - 1) / (out - 1) if out > 1 else 0)
    else:
        position = np.maximum((at + exactly.type(0.5)) * exactly.type(step) - exactly.type(0.5), 0)
    low = np.minimum(position.astype(np.intp), size - 1)
    share = np.clip(position - low, 0, 1).astype(dtype)
    return [(low, 1 - share), (np.minimum(low + 1, size - 1), share)]


@gradient(upsample)
def _(out: Any, x: Any, size: Pair, **how: Any) -> Any:
    own = x.shape[2:]
    return (lambda g: upsample_backward(g, size=own, **how),)


@gradient(upsample_backward)
def _(out: Any, g: Any, size: Pair, **how: Any) -> Any:
    enlarged = g.shape[2:]
    return (lambda gg: upsample(gg, size=enlarged, **how),)


class Upsample(Layer):
    """Enlarges (N, C, H, W) to `size`, or by `scale_factor` (one of the two is given; numbers or pairs).

    `mode`: 'nearest' or 'bilinear'; `align_corners` only for the latter.

    >>> from tt_core import ones
    >>> Upsample(scale_factor=2)(ones(1, 3, 4, 5)).shape
    (1, 3, 8, 10)
    """

    def __init__(
        self,
        size: IntOrPair | None = None,
        scale_factor: float | tuple[float, float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ShapeError("Upsample: give either size or scale_factor")
        if mode not in ("nearest", "bilinear"):
            raise ShapeError(f"Upsample: mode is 'nearest' or 'bilinear', got {mode!r}")
        if mode == "nearest" and align_corners is not None:
            raise ShapeError("Upsample: align_corners is for mode 'bilinear' only")
        self.size = None if size is None else pair(size, "Upsample: size")
        self._scale: Scale = (None, None) if scale_factor is None else _factors(scale_factor)
        self.scale_factor, self.mode, self.align_corners = scale_factor, mode, align_corners

    def forward(self, x: Any) -> Any:
        size = self.size or [math.floor(n * (factor or 1)) for n, factor in zip(x.shape[-2:], self._scale)]
        size = pair(size, "Upsample: size")
        return upsample(x, size=size, mode=self.mode, align_corners=bool(self.align_corners), scale=self._scale)

    def extra_repr(self) -> str:
        how = f"size={self.size}" if self.size is not None else f"scale_factor={self.scale_factor}"
        return f"{how}, mode={self.mode!r}"


def _factors(asked: Any) -> Scale:
    """A scale factor for rows and one for columns."""
    parts = tuple(asked) if isinstance(asked, (tuple, list)) else (asked, asked)
    if len(parts) != 2 or not all(isinstance(part, (int, float, np.number)) and 0 < part < math.inf for part in parts):
        raise ShapeError(f"Upsample: scale_factor is a number > 0 or a pair of them, got {asked!r}")
    return parts
