"""Module 09, spatial: images of another size, as a weighted sum of a few pixels along each axis in turn.

All modes are separable: a row of the result is `sum over k of weight[k] * row[index[k]]`, with one such tap for
'nearest', two for 'bilinear' and four for 'bicubic'. Columns are computed in the same way. There is no antialiasing;
use 'area' to shrink.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tt_core import Tensor
from tt_core.engine.arguments import checked
from tt_core.engine.compositions import of_tensors
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import ArgumentError, ShapeError, is_integer
from tt_core.layers import Layer
from tt_data.spatial.adaptive_pooling import adaptive_avg_pool2d
from tt_data.spatial.checks import check_float_images, check_images
from tt_data.spatial.common import on_images
from tt_data.spatial.sizes import IntOrPair, Pair, pair
from tt_learn.autograd import gradient

_BLENDING = ("bilinear", "bicubic")
MODES = ("nearest", "nearest-exact", *_BLENDING)
_LISTED = ", ".join(map(repr, MODES))

Scale = tuple[float | None, float | None]
Taps = list[tuple[Array, Array]]
"""(index, weight) pairs, each as long as the result."""


def _check_resample(x: Array, /, size: Any, mode: str = "nearest", **_: Any) -> None:
    if mode not in MODES:
        raise ArgumentError(f"mode is {_LISTED}, got {mode!r}")
    (check_float_images if mode in _BLENDING else check_images)(x)
    if 0 in x.shape[-3:]:
        raise ValueError("input has no pixels")


@op(check=_check_resample)
@on_images()
def resample(
    x: Array, /, size: IntOrPair, mode: str = "nearest", align_corners: bool = False, scale: Scale = (None, None)
) -> Array:
    """Images of another `size` (H', W'): each pixel is the nearest one, or a blend of two or four pixels of each axis.

    x (N, C, H, W). `mode` is 'nearest', 'nearest-exact', 'bilinear' or 'bicubic' (Keys 1981, a = -0.75). With
    `align_corners`, the centres of the corner pixels are fixed, otherwise the corners of the image. `scale`
    (H' / H, W' / W) can be given if it is not exactly the ratio of the sizes. Raises `ArgumentError` for another mode,
    `DTypeError` for integers in modes that blend.

    >>> from tt_core import tensor
    >>> resample(tensor([[[[1.0, 2.0]]]]), size=(1, 4))
    tensor([[[[1., 1., 2., 2.]]]])
    """
    size = pair(size, "size")
    # rows first: (N, C, H, W) to (N, C, H', W) to (N, C, H', W')
    for axis in (2, 3):
        x = _along(x, _taps(x.shape[axis], size[axis - 2], mode, align_corners, scale[axis - 2], x.dtype), axis)
    return x


@op
@on_images()
def resample_backward(g: Array, /, size: Pair, mode: str, align_corners: bool, scale: Scale) -> Array:
    """Gradient of `resample` for its input of `size` (H, W): each `g` is added to its taps."""
    for axis in (3, 2):
        taps = _taps(size[axis - 2], g.shape[axis], mode, align_corners, scale[axis - 2], g.dtype)
        g = _along_backward(g, taps, size[axis - 2], axis)
    return g


def _along(x: Array, taps: Taps, axis: int) -> Array:
    """The weighted sum of taps along one axis. A single tap has weight 1."""
    if len(taps) == 1:
        return np.take(x, taps[0][0], axis=axis)
    (index, weight), *others = [(index, weight.reshape(-1, *(1,) * (3 - axis))) for index, weight in taps]
    total = np.take(x, index, axis=axis)
    total *= weight
    for index, weight in others:
        total += np.take(x, index, axis=axis) * weight
    return total


def _along_backward(g: Array, taps: Taps, size: int, axis: int) -> Array:
    """Adds each weighted `g` to the elements it was read from, of which there are `size`: the transpose of `_along`."""
    g = np.moveaxis(g, axis, 0)
    total = np.zeros((size, *g.shape[1:]), dtype=g.dtype)
    for index, weights in taps:
        for source, weight, part in zip(index, weights, g):
            total[source] += weight * part
    return np.moveaxis(total, 0, axis)


def _taps(size: int, out: int, mode: str, align_corners: bool, scale: float | None, dtype: Any) -> Taps:
    """The pixels that each pixel of the result is computed from, along one axis; rounded as in PyTorch."""
    exact = out == size or (mode == "nearest" and out == 2 * size)  # PyTorch then ignores `scale`
    step = size / out if scale is None or exact else 1 / scale
    if mode not in _BLENDING:
        half = np.float32(0.5 if mode == "nearest-exact" else 0)
        # float32, as in PyTorch: the rounding decides which of two pixels is the nearer one
        source = np.floor((np.arange(out, dtype=np.float32) + half) * np.float32(step)).astype(np.intp)
        return [(np.minimum(source, size - 1), np.ones(out, dtype=dtype))]
    at = np.arange(out, dtype=dtype)  # positions between pixels, in pixels of the input
    if align_corners:
        position = at * dtype.type((size - 1) / (out - 1) if out > 1 else 0)
    else:
        position = (at + dtype.type(0.5)) * dtype.type(step) - dtype.type(0.5)
    return _cubic(position, size) if mode == "bicubic" else _linear(position, size)


def _linear(position: Array, size: int) -> Taps:
    """The two pixels around each position; pixels at the edge are repeated."""
    position = np.maximum(position, 0)
    low = np.minimum(position.astype(np.intp), size - 1)
    share = np.clip(position - low, 0, 1)
    return [(low, 1 - share), (np.minimum(low + 1, size - 1), share)]


def _cubic(position: Array, size: int, a: float = -0.75) -> Taps:
    """The four pixels around each position, weighted by a cubic of the distance (Keys 1981); the edge is repeated."""
    low = np.floor(position)
    taps = []  # the pixels at low - 1, low, low + 1 and low + 2
    for offset in (-1, 0, 1, 2):
        d = np.abs(position - low - position.dtype.type(offset))
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        index = np.clip(low.astype(np.intp) + offset, 0, size - 1)
        taps.append((index, np.where(d <= 1, near, far)))
    return taps


@gradient(resample)
def _(out: Any, x: Any, size: Pair, **how: Any) -> Any:
    own = x.shape[-2:]
    return (lambda g: resample_backward(g, size=own, **how),)


@gradient(resample_backward)
def _(out: Any, g: Any, size: Pair, **how: Any) -> Any:
    enlarged = g.shape[-2:]
    return (lambda gg: resample(gg, size=enlarged, **how),)


@of_tensors("x")
def interpolate(
    x: Tensor,
    size: IntOrPair | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resizes x (N, C, H, W) or (N, C, L) to `size`, or by `scale_factor`; exactly one of the two is given.

    `mode` is 'nearest', 'nearest-exact' or 'area' (means over a grid); 'bilinear' or 'bicubic' for images; 'linear' for
    (N, C, L). Only the last three take `align_corners`. With `recompute_scale_factor`, the factor is computed from the
    rounded size. Raises `ArgumentError` for other arguments, `antialias` among them, and `ShapeError` for other inputs.

    >>> from tt_core import tensor
    >>> interpolate(tensor([[[1.0, 3.0]]]), size=4, mode="linear")
    tensor([[[1. , 1.5, 2.5, 3. ]]])
    """
    dims = x.ndim - 2
    _check_mode("interpolate", mode, align_corners, dims)
    if (size is None) == (scale_factor is None):
        raise ArgumentError("interpolate: give either size or scale_factor")
    if antialias:
        raise ArgumentError("interpolate: antialias is not here; shrink with mode='area'")
    factors: Any = (None,) * dims if scale_factor is None else _factors("interpolate", scale_factor, dims)
    if size is None:
        size = [math.floor(n * (factor or 1)) for n, factor in zip(x.shape[2:], factors)]
    sizes = _sizes("interpolate", size, dims)
    if recompute_scale_factor:
        factors = (None,) * dims
    if dims == 1:
        x, sizes, factors = x.unsqueeze(2), (1, *sizes), (None, *factors)
    if mode == "area":
        y = adaptive_avg_pool2d(x, output_size=sizes)
    else:
        how = {"mode": "bilinear" if mode == "linear" else mode, "align_corners": bool(align_corners)}
        y = resample(x, size=sizes, scale=factors, **how)
    return y.squeeze(2) if dims == 1 else y


@of_tensors("x")
def upsample(
    x: Tensor,
    size: IntOrPair | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """`interpolate` under its older name, with fewer arguments.

    >>> from tt_core import tensor
    >>> upsample(tensor([[[[1.0, 2.0]]]]), size=(1, 4))
    tensor([[[[1., 1., 2., 2.]]]])
    """
    return interpolate(x, size, scale_factor, mode, align_corners)


class Upsample(Layer):
    """Enlarges (N, C, H, W) or (N, C, L) to `size`, or by `scale_factor`, with `interpolate`.

    Exactly one of the two is given. Raises `ArgumentError` for both or none, and for modes that do not exist.

    >>> from tt_core import ones
    >>> Upsample(scale_factor=2)(ones(1, 3, 4, 5)).shape
    (1, 3, 8, 10)
    """

    @checked
    def __init__(
        self,
        size: IntOrPair | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ArgumentError("Upsample: give either size or scale_factor")
        _check_mode("Upsample", mode, align_corners)
        if size is not None:
            _sizes("Upsample", size, len(size) if isinstance(size, (tuple, list)) else 2)
        else:
            _factors("Upsample", scale_factor, len(scale_factor) if isinstance(scale_factor, (tuple, list)) else 2)
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners, self.recompute_scale_factor = align_corners, recompute_scale_factor

    def forward(self, x: Tensor) -> Tensor:
        how = (self.mode, self.align_corners, self.recompute_scale_factor)
        return interpolate(x, self.size, self.scale_factor, *how)

    def extra_repr(self) -> str:
        how = f"size={self.size}" if self.size is not None else f"scale_factor={self.scale_factor}"
        return f"{how}, mode={self.mode!r}"


def _check_mode(who: str, mode: str, align_corners: bool | None, dims: int | None = None) -> None:
    """Raise unless `mode` exists, takes `align_corners`, and fits inputs of `dims` dimensions (None: not known yet)."""
    blending = {"linear": 1, "bilinear": 2, "bicubic": 2}
    if mode not in (*MODES, "linear", "area"):
        raise ArgumentError(f"{who}: mode is {_LISTED}, 'linear' or 'area', got {mode!r}")
    if mode not in blending and align_corners is not None:
        raise ArgumentError(f"{who}: align_corners is for modes that blend ({', '.join(blending)}), got mode {mode!r}")
    if dims is not None and dims not in (1, 2):
        raise ShapeError(f"{who}: input has {dims + 2} dimensions, expected (N, C, H, W) or (N, C, L)")
    if dims is not None and blending.get(mode, dims) != dims:
        raise ShapeError(f"{who}: mode {mode!r} is for inputs of {blending[mode] + 2} dimensions, got {dims + 2}")


def _factors(who: str, asked: Any, dims: int) -> tuple[Any, ...]:
    """A scale factor for each of `dims` dimensions."""
    parts = tuple(asked) if isinstance(asked, (tuple, list)) else (asked,) * dims
    if len(parts) != dims or not all(isinstance(p, (int, float, np.number)) and 0 < p < math.inf for p in parts):
        raise ArgumentError(f"{who}: scale_factor is a number > 0, or one for each of {dims} dimensions, got {asked!r}")
    return parts


def _sizes(who: str, asked: Any, dims: int) -> tuple[int, ...]:
    parts = tuple(asked) if isinstance(asked, (tuple, list)) else (asked,) * dims
    if len(parts) != dims or not all(is_integer(part, least=1) for part in parts):
        raise ArgumentError(f"{who}: size is an integer >= 1, or one for each of {dims} dimensions, got {asked!r}")
    return tuple(map(int, parts))
