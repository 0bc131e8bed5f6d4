"""Generated datasets: digits drawn with strokes, and coloured shapes.

Beside module 08, dataloader. They need no file and no network. Their names say that they are neither MNIST nor
photographs: a network that is good at them has learned these drawings. Sample `i` depends only on the seed and on `i`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import quietly
from tt_core.engine.errors import ArgumentError
from tt_data.command.pictures import contact_sheet
from tt_data.dataloader.dataset import Dataset
from tt_data.dataloader.indices import Indices
from tt_learn.command.digits import DRAWS, drawn, pixel_grid

Floats = npt.NDArray[np.float32]


class _Generated(Dataset):
    """`count` drawings of `size` x `size` pixels, fetched by index."""

    classes: ClassVar[tuple[str, ...]]
    channels: ClassVar[int]
    _draws: ClassVar[int]  # random numbers for the class and shape of one sample, without its noise

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

    def __getitems__(self, indices: Indices) -> tuple[Floats, npt.NDArray[np.int64]]:
        draws, noise = self._random(indices)
        labels = (draws[:, 0] * len(self.classes)).astype(np.int64)
        clean = self._draw(labels, draws[:, 1:])
        return np.clip(clean + quietly(np.multiply, self.noise, noise), 0, 1), labels

    def _random(self, indices: Indices) -> tuple[npt.NDArray[np.float64], Floats]:
        """Uniform numbers (N, draws) and normal ones (N, C, H, W); each sample has its own random stream."""
        streams = [np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 0, int(i)])) for i in indices]
        draws = np.array([rng.random(self._draws) for rng in streams]).reshape(-1, self._draws)
        shape = (self.channels, self.size, self.size)
        noise = [rng.standard_normal(shape, np.float32) for rng in streams]
        return draws, np.array(noise, np.float32).reshape(-1, *shape)

    def _draw(self, labels: npt.NDArray[np.int64], draws: npt.NDArray[np.float64]) -> Floats:
        raise NotImplementedError


class GeneratedDigits(_Generated):
    """Digits drawn with strokes (not handwritten), rotated, slanted, scaled, shifted and made noisy.

    A sample is (image (1, size, size) float32 in [0, 1], label). For lessons without a download; see `MNIST`. Raises
    `ArgumentError` for a size outside [8, 4096] and for negative numbers.

    >>> image, label = GeneratedDigits(count=100, seed=1)[7]
    >>> image.shape, 0 <= label < 10
    ((1, 28, 28), np.True_)
    """

    classes = tuple("0123456789")
    channels = 1
    _draws = 1 + DRAWS

    def _draw(self, labels: npt.NDArray[np.int64], draws: npt.NDArray[np.float64]) -> Floats:
        return drawn(labels, draws, self.size)[:, None]


class GeneratedShapes(_Generated):
    """One coloured shape on a coloured background (not photographed); the class is the shape.

    A sample is (image (3, size, size) float32 in [0, 1], label). Position, size, angle and both colours are random, so
    colour carries no information about the class. See `CIFAR10` for photographs. Raises as `GeneratedDigits` does.

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
        """The pixels in the coordinates of each shape, where it has about radius 1: (N, H W, 2)."""
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.stack([cos, sin, -sin, cos], -1).reshape(-1, 2, 2) / radius[:, None, None]
        return (pixel_grid(self.size)[None] - shift[:, None]) @ turn.transpose(0, 2, 1)


def _two_colours(ground: npt.NDArray[np.float64], paint: npt.NDArray[np.float64]) -> tuple[Any, Any]:
    """Random colours (N, 3) that differ visibly: the brightness of `paint` is moved away from that of `ground`."""
    away = np.where(ground.mean(-1, keepdims=True) > 0.5, 0.0, 1.0)
    return ground, 0.5 * paint + 0.5 * away


# The (approximate) signed distance of a position to a shape, in units of its radius; negative inside.
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
