"""Transforms of a whole batch of images at once: flip, crop, normalize, cut out, distort.

Beside module 08, dataloader. A transform maps an array (N, C, H, W) to another one, without a loop over the N images.
Random numbers come from `tt_core.generator()`, which in a loader is the generator of the batch, so augmentation is the
same for any number of workers. Transforms do not read files and do not know labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import quietly
from tt_core.engine.errors import ArgumentError, DTypeError, ShapeError, is_integer, shown
from tt_core.engine.later import absent
from tt_data.dataloader import seeding
from tt_data.spatial.sizes import pair

Images = npt.NDArray[Any]

if not TYPE_CHECKING:  # where it would hide misspelt names
    __getattr__ = absent(__name__)


class Compose:
    """Applies transforms one after another.

    >>> Compose([ToFloat(), Normalize(0.5, 0.5)])(np.full((1, 1, 2, 2), 255, np.uint8)).max()
    np.float32(1.0)
    """

    @checked
    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, x: Any) -> Any:
        for transform in self.transforms:
            x = transform(x)
        return x


class ToFloat:
    """Converts bytes 0 ... 255 to float32 in [0, 1], and other numbers to float32 without scaling.

    Raises `DTypeError` for anything but arrays of numbers.

    >>> ToFloat()(np.array([0, 51, 255], np.uint8))
    array([0. , 0.2, 1. ], dtype=float32)
    """

    def __call__(self, x: Images) -> Images:
        _check_array("ToFloat", x)
        return np.divide(x, np.float32(255), dtype=np.float32) if x.dtype == np.uint8 else x.astype(np.float32)


class Normalize:
    """`(x - mean) / std`, with one value for each channel or one for all; float32 gives float32.

    Raises `ArgumentError` for a `std` that is not positive, `ShapeError` for images of another number of channels.

    >>> Normalize([1.0], [2.0])(np.full((1, 1, 1, 2), 5, np.float32))
    array([[[[2., 2.]]]], dtype=float32)
    """

    @checked
    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        for name, given in (("mean", mean), ("std", std)):
            if np.asarray(given).dtype.kind not in "fiu":
                raise DTypeError(f"Normalize: {name} is a number or a list of numbers, got {shown(given)}")
        self.mean, self.std = (quietly(np.asarray, value, np.float32).reshape(-1, 1, 1) for value in (mean, std))
        if not ((self.std > 0) & np.isfinite(self.std)).all() or not np.isfinite(self.mean).all():
            raise ArgumentError(f"Normalize: mean must be finite and std also > 0, got {mean} and {std}")

    def __call__(self, x: Images) -> Images:
        _check_images("Normalize", x)
        for values in (self.mean, self.std):
            if len(values) not in (1, x.shape[1]):
                raise ShapeError(f"Normalize: got {len(values)} values for images of {x.shape[1]} channels {x.shape}")
        return (x - self.mean) / self.std


class RandomHorizontalFlip:
    """Mirrors each image horizontally with probability `p`; raises `ArgumentError` for a `p` outside [0, 1].

    >>> RandomHorizontalFlip(p=1)(np.array([[[[1, 2, 3]]]]))
    array([[[[3, 2, 1]]]])
    """

    @checked
    def __init__(self, p: float = 0.5) -> None:
        self.p = _probability("RandomHorizontalFlip", p)

    def __call__(self, x: Images) -> Images:
        _check_images("RandomHorizontalFlip", x)
        chosen = seeding.generator().random(len(x)) < self.p  # (N,)
        out = x.copy()
        out[chosen] = x[chosen, :, :, ::-1]
        return out


class RandomCrop:
    """Cuts `size` (height, width, or one number) at a random position, after padding each side by `padding` pixels.

    `padding_mode` is "constant" (zeros) or "reflect", as in NumPy. Raises `ShapeError` when the padded image is smaller
    than `size`, `ArgumentError` for other arguments.

    >>> RandomCrop(2)(np.zeros((5, 3, 4, 4))).shape
    (5, 3, 2, 2)
    """

    @checked
    def __init__(self, size: int | tuple[int, int], padding: int = 0, padding_mode: str = "constant") -> None:
        if padding_mode not in ("constant", "reflect"):
            raise ArgumentError(f"RandomCrop: padding_mode must be 'constant' or 'reflect', got {padding_mode!r}")
        if not 0 <= padding < 1 << 31:
            raise ArgumentError(f"RandomCrop: padding is an integer >= 0, got {padding!r}")
        self.size, self.padding, self.padding_mode = pair(size, "RandomCrop: size"), padding, padding_mode

    @checked
    def __call__(self, x: Images) -> Images:
        _check_images("RandomCrop", x)
        p, (height, width) = self.padding, self.size
        padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), mode=self.padding_mode)  # type: ignore[call-overload]
        room = padded.shape[2] - height, padded.shape[3] - width
        if min(room) < 0:
            raise ShapeError(f"RandomCrop: cannot cut {self.size} out of images {x.shape} with padding {p}")
        rng, n = seeding.generator(), len(x)
        top, left = rng.integers(0, room[0] + 1, n), rng.integers(0, room[1] + 1, n)
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.size, axis=(2, 3))  # a view (N, C, y, x, h, w)
        # one window of each image: (N, C, h, w)
        return np.ascontiguousarray(windows[np.arange(n), :, top, left])


class Cutout:
    """Sets a square of `size` pixels at a random position to `value` (DeVries and Taylor 2017, arXiv:1708.04552).

    The square may extend past the edge, as in the paper. Raises `DTypeError` for images whose dtype cannot represent
    `value`.

    >>> Cutout(2)(np.ones((1, 1, 8, 8))).sum() < 64
    np.True_
    """

    @checked
    def __init__(self, size: int, value: float = 0.0) -> None:
        if not is_integer(size, least=1):
            raise ArgumentError(f"Cutout: size is an integer >= 1, got {size!r}")
        self.size, self.value = size, value

    @checked
    def __call__(self, x: Images) -> Images:
        _check_images("Cutout", x)
        if x.dtype.kind != "f" and self.value not in range(np.iinfo(x.dtype).min, np.iinfo(x.dtype).max + 1):
            raise DTypeError(f"Cutout: images of {x.dtype} cannot hold the value {self.value}; put ToFloat before it")
        n, _, height, width = x.shape
        rng = seeding.generator()
        # (N, H) and (N, W): whether the square covers each row and column
        rows = self._covered(rng.integers(0, height, (n,)), height)
        columns = self._covered(rng.integers(0, width, (n,)), width)
        return np.where((rows[:, :, None] & columns[:, None, :])[:, None], quietly(np.asarray, self.value, x.dtype), x)

    def _covered(self, centre: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.bool_]:
        start = centre[:, None] - self.size // 2
        places = np.arange(length)
        return (places >= start) & (places < start + self.size)


class RandomAffine:
    """Rotates, shifts, scales and shears each image by random amounts about its centre, with bilinear sampling.

    The angle and the shear (both in degrees) are drawn from +-`degrees` and +-`shear`. `translate` is the largest shift
    as a fraction of (width, height), `scale` the range of the factor. Pixels outside the image are `fill`. The names
    are those of torchvision. Raises `DTypeError` for images of integers, whose blending would be lost.

    >>> x = np.random.default_rng(0).random((2, 1, 5, 5), np.float32)
    >>> bool(np.allclose(RandomAffine(degrees=0)(x), x, atol=1e-6))
    True
    """

    @checked
    def __init__(
        self,
        degrees: float,
        translate: tuple[float, float] = (0, 0),
        scale: tuple[float, float] = (1, 1),
        shear: float = 0,
        fill: float = 0.0,
    ) -> None:
        if not _is_number(degrees) or degrees < 0:
            raise ArgumentError(f"RandomAffine: degrees is a number >= 0, drawn from +- its value, got {degrees!r}")
        if not _is_pair(translate) or not all(0 <= share <= 1 for share in translate):
            fact = "translate is a pair (share of the width, of the height), each between 0 and 1"
            raise ArgumentError(f"RandomAffine: {fact}, got {translate!r}")
        if not _is_pair(scale) or not 0 < scale[0] <= scale[1]:
            raise ArgumentError(f"RandomAffine: scale must be a range (low, high) with 0 < low <= high, got {scale}")
        if not _is_number(shear) or not 0 <= shear < 90:
            raise ArgumentError(f"RandomAffine: shear must be at least 0 and below 90 degrees, got {shear}")
        self.degrees, self.translate, self.scale, self.shear, self.fill = (
            degrees,
            translate,
            scale,
            shear,
            fill,
        )

    def __call__(self, x: Images) -> Images:
        _check_images("RandomAffine", x)
        if x.dtype.kind != "f":
            raise DTypeError(f"RandomAffine: needs floats, got {x.dtype}; put ToFloat before it")
        matrices, shifts = self._draw(len(x), width=x.shape[3], height=x.shape[2])
        return affine(x, matrices, shifts, self.fill)

    def _draw(self, n: int, width: int, height: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The map from positions in the result to the source: matrices (N, 2, 2) and shifts (N, 2), as (x, y)."""
        rng = seeding.generator()
        angle = np.radians(rng.uniform(-self.degrees, self.degrees, n))
        slant = np.tan(np.radians(rng.uniform(-self.shear, self.shear, n)))
        size = rng.uniform(*self.scale, n)
        shifts = rng.uniform(-1, 1, (n, 2)) * (self.translate[0] * width, self.translate[1] * height)
        cos, sin = np.cos(angle), np.sin(angle)
        rotate = np.stack([cos, -sin, sin, cos], -1).reshape(n, 2, 2) * size[:, None, None]
        shear = np.zeros((n, 2, 2)) + np.eye(2)
        shear[:, 0, 1] = slant
        # inverted, since the result asks where each of its pixels comes from
        return np.asarray(np.linalg.inv(rotate @ shear), np.float64), shifts


@checked
def affine(x: Images, matrices: npt.NDArray[np.float64], shifts: npt.NDArray[np.float64], fill: float = 0.0) -> Images:
    """Resamples images (N, C, H, W): the pixel at p is that of the source at `matrix @ (p - shift)`, from the centre.

    >>> x = np.arange(3.0).reshape(1, 1, 1, 3)
    >>> affine(x, np.eye(2)[None], np.array([[1.0, 0.0]]), fill=-1)[0, 0, 0]
    array([-1.,  0.,  1.])
    """
    height, width = x.shape[2:]
    ys, xs = np.mgrid[:height, :width].reshape(2, -1)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    places = np.stack([xs, ys], -1) - centre  # (H W, 2)
    source = (places[None] - shifts[:, None]) @ matrices.transpose(0, 2, 1) + centre  # (N, H W, 2)
    return _bilinear(x, source[..., 0], source[..., 1], fill).reshape(x.shape)


def _bilinear(x: Images, column: npt.NDArray[Any], row: npt.NDArray[Any], fill: float) -> Images:
    """Images (N, C, H, W) at the positions `column` and `row` (N, P), interpolated: (N, C, P)."""
    left, top = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    dx, dy = (column - left).astype(x.dtype)[:, None], (row - top).astype(x.dtype)[:, None]
    upper = _pixels(x, left, top, fill) * (1 - dx) + _pixels(x, left + 1, top, fill) * dx
    lower = _pixels(x, left, top + 1, fill) * (1 - dx) + _pixels(x, left + 1, top + 1, fill) * dx
    return upper * (1 - dy) + lower * dy


def _pixels(x: Images, column: npt.NDArray[np.int64], row: npt.NDArray[np.int64], fill: float) -> Images:
    n, channels, height, width = x.shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    places = np.where(inside, row * width + column, 0)[:, None]
    places = np.broadcast_to(places, (n, channels, places.shape[2]))  # (N, C, P)
    values = np.take_along_axis(x.reshape(n, channels, height * width), places, 2)
    return np.where(inside[:, None], values, quietly(np.asarray, fill, x.dtype))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_is_number, value))


def _check_array(who: str, x: Any) -> None:
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiub":
        raise DTypeError(f"{who}: takes an array of images, got {shown(x)}")


def _check_images(who: str, x: Images) -> None:
    _check_array(who, x)
    if x.ndim != 4:
        raise ShapeError(f"{who}: expected images (N, C, H, W), got shape {x.shape}")


def _probability(who: str, p: float) -> float:
    if not 0 <= p <= 1 or math.isnan(p):
        raise ArgumentError(f"{who}: p must be between 0 and 1, got {p}")
    return p
