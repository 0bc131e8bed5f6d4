"""Datasets that are drawn, not read: digits made of strokes, and coloured shapes.

Part of module 08 (Act III). They need no file and no network. They are not MNIST and not photographs, and say
so by name: a network that is good at them has learned these drawings. Sample `i` depends on the seed and `i`
alone.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import quietly
from tt_core.engine.errors import ArgumentError
from tt_data.command.pictures import contact_sheet
from tt_data.dataloader.dataset import Dataset, Indices, wrap_index

Floats = npt.NDArray[np.float32]


class _Generated(Dataset):
    """`count` drawings of `size` pixels a side, fetched by number."""

    classes: ClassVar[tuple[str, ...]]
    channels: ClassVar[int]
    _draws: ClassVar[int]  # random numbers that shape one sample, before its noise

    @checked
    def __init__(self, count: int, seed: int = 0, size: int = 28, noise: float = 0.1) -> None:
        if count < 1 or not 8 <= size <= 4096 or seed < 0 or noise < 0:
            raise ArgumentError(
                f"{type(self).__name__}: needs count >= 1, 8 <= size <= 4096, seed >= 0 and noise >= 0, "
                f"got {count}, {size}, {seed} and {noise}"
            )
        self.count, self.seed, self.size, self.noise = count, seed, size, noise

    def __len__(self) -> int:
        return self.count

    def _contents(self) -> str:
        return f": float32 {(self.channels, self.size, self.size)}, int64 ()"

    def _repr_html_(self) -> str:
        images, labels = self.__getitems__(np.arange(min(len(self), 16)))
        return contact_sheet(repr(self), images, [self.classes[label] for label in labels])

    def __getitem__(self, index: int) -> tuple[Floats, np.int64]:
        images, labels = self.__getitems__(np.array([wrap_index(index, len(self), type(self).__name__)]))
        return images[0], labels[0]

    def __getitems__(self, indices: Indices) -> tuple[Floats, npt.NDArray[np.int64]]:
        draws, noise = self._random(indices)
        labels = (draws[:, 0] * len(self.classes)).astype(np.int64)
        clean = self._draw(labels, draws[:, 1:])
        return np.clip(clean + quietly(np.multiply, self.noise, noise), 0, 1), labels

    def _random(self, indices: Indices) -> tuple[npt.NDArray[np.float64], Floats]:
        """Uniform numbers (N, draws) and normal ones (N, C, H, W), each sample's from a stream of its own."""
        streams = [np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 0, int(i)])) for i in indices]
        draws = np.array([rng.random(self._draws) for rng in streams]).reshape(-1, self._draws)
        shape = (self.channels, self.size, self.size)
        noise = [rng.standard_normal(shape, np.float32) for rng in streams]
        return draws, np.array(noise, np.float32).reshape(-1, *shape)

    def _draw(self, labels: npt.NDArray[np.int64], draws: npt.NDArray[np.float64]) -> Floats:
        raise NotImplementedError

    def _grid(self) -> npt.NDArray[np.float64]:
        """Pixel centres as (x, y) in [-1, 1], y downwards: (H W, 2)."""
        steps = (np.arange(self.size) + 0.5) / self.size * 2 - 1
        return np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)


def _arc(cx: float, cy: float, rx: float, ry: float, start: float, end: float, points: int = 13) -> npt.NDArray[Any]:
    """Points of an ellipse from angle `start` to `end` in turns; 0 is to the right, a quarter is down."""
    t = np.linspace(start, end, points) * 2 * np.pi
    return np.stack([cx + rx * np.cos(t), cy + ry * np.sin(t)], -1)


def _line(*points: float) -> npt.NDArray[Any]:
    return np.reshape(points, (-1, 2)).astype(float)


# Each digit's strokes, as a pen draws them in [-1, 1] x [-1, 1], y downwards.
_STROKES: tuple[tuple[npt.NDArray[Any], ...], ...] = (
    (_arc(0, 0, 0.42, 0.65, 0, 1, 19),),
    (_line(-0.25, -0.4, 0.05, -0.65, 0.05, 0.65),),
    (_arc(0, -0.28, 0.38, 0.36, 0.5, 1.1), _line(0.31, -0.07, -0.42, 0.65, 0.45, 0.65)),
    (_arc(-0.02, -0.32, 0.36, 0.32, 0.58, 1.25), _arc(-0.02, 0.32, 0.42, 0.33, 0.75, 1.42)),
    (_line(0.2, 0.65, 0.2, -0.65, -0.45, 0.2, 0.5, 0.2),),
    (_line(0.4, -0.62, -0.3, -0.62, -0.35, -0.05), _arc(-0.02, 0.24, 0.42, 0.4, 0.62, 1.4)),
    (_arc(0.42, 0.2, 0.84, 0.85, 0.5, 0.74), _arc(0, 0.28, 0.4, 0.37, 0.5, 1.5, 17)),
    (_line(-0.42, -0.62, 0.42, -0.62, -0.12, 0.65),),
    (_arc(0, -0.33, 0.32, 0.31, 0.25, 1.25, 17), _arc(0, 0.32, 0.4, 0.34, 0.75, 1.75, 17)),
    (_arc(0, -0.27, 0.38, 0.37, 0, 1, 17), _arc(-0.42, -0.2, 0.8, 0.86, 0, 0.22)),
)


def _segments(strokes: tuple[npt.NDArray[Any], ...]) -> npt.NDArray[np.float64]:
    """Starts and ends of the line segments of a digit's strokes: (S, 2, 2)."""
    return np.concatenate([np.stack([stroke[:-1], stroke[1:]], 1) for stroke in strokes])


_DIGITS = tuple(_segments(strokes) for strokes in _STROKES)


class GeneratedDigits(_Generated):
    """Generated, not handwritten: digits drawn by strokes, then rotated, slanted, scaled, shifted and made noisy.

    A sample is (image (1, size, size) float32 in [0, 1], label). For lessons without a network; see `MNIST`.

    >>> image, label = GeneratedDigits(count=100, seed=1)[7]
    >>> image.shape, 0 <= label < 10
    ((1, 28, 28), np.True_)
    """

    classes = tuple("0123456789")
    channels = 1
    _draws = 8

    def _draw(self, labels: npt.NDArray[np.int64], draws: npt.NDArray[np.float64]) -> Floats:
        matrices, shifts = self._distortion(draws)
        places = self._grid().astype(np.float32)
        distance = np.empty((len(labels), len(places)), np.float32)
        for digit, segments in enumerate(_DIGITS):
            chosen = labels == digit
            points = segments.reshape(-1, 2) @ matrices[chosen].transpose(0, 2, 1) + shifts[chosen]
            distance[chosen] = _distance(places, points.reshape(len(points), len(segments), 2, 2).astype(np.float32))
        width = (0.07 + 0.08 * draws[:, 0, None]).astype(np.float32)  # half a stroke, of a page of 2
        ink = np.clip((width - distance) * self.size / 2 + 0.5, 0, 1)  # one pixel of soft edge
        return np.asarray(ink, np.float32).reshape(-1, 1, self.size, self.size)

    def _distortion(self, draws: npt.NDArray[np.float64]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """A random affine map for each sample: matrices (N, 2, 2) and shifts (N, 1, 2)."""
        u = 2 * draws[:, 1:] - 1  # (N, 6) in [-1, 1]
        angle, slant = np.radians(12) * u[:, 0], 0.25 * u[:, 1]
        sx, sy = 1 + 0.18 * u[:, 2], 1 + 0.18 * u[:, 3]
        cos, sin = np.cos(angle), np.sin(angle)
        rows = [cos * sx, (cos * slant - sin) * sy, sin * sx, (sin * slant + cos) * sy]
        return np.stack(rows, -1).reshape(-1, 2, 2), 0.14 * u[:, None, 4:6]


def _distance(places: Floats, segments: Floats) -> Floats:
    """From each place (P, 2) to the nearest of each sample's segments (N, S, 2 ends, 2): (N, P)."""
    nearest = np.full((len(segments), len(places)), np.inf, np.float32)
    for start, end in segments.transpose(1, 2, 3, 0)[..., None]:  # (2, N, 1) each
        ux, uy = end - start
        dx, dy = places[:, 0] - start[0], places[:, 1] - start[1]
        t = np.clip((dx * ux + dy * uy) / np.maximum(ux**2 + uy**2, 1e-12), 0, 1)
        np.minimum(nearest, (dx - t * ux) ** 2 + (dy - t * uy) ** 2, out=nearest)
    return np.sqrt(nearest)


class GeneratedShapes(_Generated):
    """Generated, not photographed: one coloured shape on a coloured ground; the class is the shape.

    A sample is (image (3, size, size) float32 in [0, 1], label). Place, size, angle and both colours are
    random, so colour alone tells nothing. See `CIFAR10` for photographs.

    >>> image, label = GeneratedShapes(count=10)[0]
    >>> image.shape, GeneratedShapes.classes[label] in GeneratedShapes.classes
    ((3, 32, 32), True)
    """

    classes = ("circle", "square", "triangle", "ring", "cross", "star")
    channels = 3
    _draws = 11

    @checked
    def __init__(self, count: int, seed: int = 0, size: int = 32, noise: float = 0.05) -> None:
        super().__init__(count, seed, size, noise)

    def _draw(self, labels: npt.NDArray[np.int64], draws: npt.NDArray[np.float64]) -> Floats:
        shift, radius, angle = 0.6 * draws[:, :2] - 0.3, 0.4 + 0.3 * draws[:, 2], 2 * np.pi * draws[:, 3]
        places = self._turned(shift, radius, angle)
        outside = np.empty(places.shape[:2])
        for k in range(len(self.classes)):
            chosen = labels == k
            outside[chosen] = _SHAPES[k](places[chosen, :, 0], places[chosen, :, 1])
        cover = np.clip(0.5 - outside * radius[:, None] * self.size / 2, 0, 1)[:, None]  # (N, 1, H W)
        ground, paint = _two_colours(draws[:, 4:7], draws[:, 7:10])
        image = ground[..., None] * (1 - cover) + paint[..., None] * cover
        return image.reshape(-1, 3, self.size, self.size).astype(np.float32)

    def _turned(self, shift: Any, radius: Any, angle: Any) -> npt.NDArray[np.float64]:
        """Pixel places in each shape's own axes, where it has about radius 1: (N, H W, 2)."""
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.stack([cos, sin, -sin, cos], -1).reshape(-1, 2, 2) / radius[:, None, None]
        return (self._grid()[None] - shift[:, None]) @ turn.transpose(0, 2, 1)


def _two_colours(ground: npt.NDArray[np.float64], paint: npt.NDArray[np.float64]) -> tuple[Any, Any]:
    """Random colours (N, 3) that differ enough to be seen: the paint's brightness is pushed away from the ground's."""
    away = np.where(ground.mean(-1, keepdims=True) > 0.5, 0.0, 1.0)
    return ground, 0.5 * paint + 0.5 * away


# How far outside a shape a place lies, in its radius; negative inside (signed distance, or near it).
def _circle(x: Any, y: Any) -> Any:
    return np.hypot(x, y) - 0.9


def _square(x: Any, y: Any) -> Any:
    return np.maximum(abs(x), abs(y)) - 0.75


def _triangle(x: Any, y: Any) -> Any:
    return np.maximum(np.maximum(y, -0.5 * y + 0.866 * x), -0.5 * y - 0.866 * x) - 0.5


def _ring(x: Any, y: Any) -> Any:
    return abs(np.hypot(x, y) - 0.7) - 0.22


def _cross(x: Any, y: Any) -> Any:
    x, y = abs(x), abs(y)
    return np.maximum(np.minimum(x, y) - 0.25, np.maximum(x, y) - 0.95)


def _star(x: Any, y: Any) -> Any:
    return np.hypot(x, y) - (0.62 + 0.33 * np.cos(5 * np.arctan2(y, x)))


_SHAPES = (_circle, _square, _triangle, _ring, _cross, _star)
