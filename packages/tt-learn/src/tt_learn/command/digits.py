"""Digits drawn with strokes, for lessons without a download. They are easier to learn than handwriting.

Act II trains on them if MNIST is missing; Act III makes them a dataset, `GeneratedDigits`.
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array

SIDE = 28
DRAWS = 7
"""Random numbers in [0, 1) that shape one digit: pen width, angle, slant, two scales and two shifts."""
_CHUNK = 64


def draw_digits(count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """`count` noisy images (count, 28, 28) of bytes, and their labels (count,).

    >>> images, labels = draw_digits(3, np.random.default_rng(0))
    >>> images.shape, images.dtype, labels.shape
    ((3, 28, 28), dtype('uint8'), (3,))
    """
    labels = rng.integers(0, 10, count)
    ink = drawn(labels, rng.random((count, DRAWS)), SIDE)
    noise = rng.standard_normal(ink.shape, np.float32) * np.float32(0.08)
    return (np.clip(ink + noise, 0, 1) * 255).astype(np.uint8), labels


def drawn(labels: Array, draws: Array, side: int) -> Array:
    """The digits `labels` (N,), shaped by the random numbers `draws` (N, DRAWS): (N, side, side), from 0 to 1.

    >>> drawn(np.array([8]), np.full((1, DRAWS), 0.5), 28).max()
    np.float32(1.0)
    """
    matrices, shifts = _distortion(draws)
    pixels = pixel_grid(side).astype(np.float32)
    distance = np.empty((len(labels), len(pixels)), np.float32)
    for digit, segments in enumerate(_DIGITS):
        chosen = labels == digit
        points = segments.reshape(-1, 2) @ matrices[chosen].transpose(0, 2, 1) + shifts[chosen]
        distance[chosen] = _distance(pixels, points.reshape(len(points), len(segments), 2, 2).astype(np.float32))
    width = (0.07 + 0.08 * draws[:, 0, None]).astype(np.float32)  # half a stroke, on a page of width 2
    ink = np.clip((width - distance) * side / 2 + 0.5, 0, 1)  # the edge is one pixel wide
    return np.asarray(ink, np.float32).reshape(-1, side, side)


def pixel_grid(side: int) -> Array:
    """The centres (x, y) of the pixels of a square image in [-1, 1], y downwards: (side * side, 2).

    >>> pixel_grid(2).tolist()
    [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]
    """
    steps = (np.arange(side) + 0.5) / side * 2 - 1
    return np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)


def _distortion(draws: Array) -> tuple[Array, Array]:
    """A random affine map for each digit: matrices (N, 2, 2) and shifts (N, 1, 2)."""
    u = 2 * draws[:, 1:] - 1  # (N, 6) in [-1, 1]
    angle, slant = np.radians(12) * u[:, 0], 0.25 * u[:, 1]
    sx, sy = 1 + 0.18 * u[:, 2], 1 + 0.18 * u[:, 3]
    cos, sin = np.cos(angle), np.sin(angle)
    rows = [cos * sx, (cos * slant - sin) * sy, sin * sx, (sin * slant + cos) * sy]
    return np.stack(rows, -1).reshape(-1, 2, 2), 0.14 * u[:, None, 4:6]


def _distance(pixels: Array, segments: Array) -> Array:
    """From each pixel (P, 2) to the nearest segment of each digit (N, S, 2 ends, 2): (N, P)."""
    if len(segments) > _CHUNK:  # so that the arrays below stay in the cache: half of the time
        parts = [segments[i : i + _CHUNK] for i in range(0, len(segments), _CHUNK)]
        return np.concatenate([_distance(pixels, part) for part in parts])
    nearest = np.full((len(segments), len(pixels)), np.inf, np.float32)
    for start, end in segments.transpose(1, 2, 3, 0)[..., None]:  # (2, N, 1) each
        ux, uy = end - start
        dx, dy = pixels[:, 0] - start[0], pixels[:, 1] - start[1]
        t = np.clip((dx * ux + dy * uy) / np.maximum(ux**2 + uy**2, 1e-12), 0, 1)
        np.minimum(nearest, (dx - t * ux) ** 2 + (dy - t * uy) ** 2, out=nearest)
    return np.sqrt(nearest)


# --- the strokes of each digit, as a pen draws them in [-1, 1] x [-1, 1], y downwards


def _arc(cx: float, cy: float, rx: float, ry: float, start: float, end: float, points: int = 13) -> Array:
    """Points of an ellipse from angle `start` to `end`, in turns; 0 is to the right, a quarter is down."""
    t = np.linspace(start, end, points) * 2 * np.pi
    return np.stack([cx + rx * np.cos(t), cy + ry * np.sin(t)], -1)


def _line(*points: float) -> Array:
    return np.reshape(points, (-1, 2)).astype(float)


def _segments(strokes: tuple[Array, ...]) -> Array:
    """Starts and ends of the line segments of the strokes of a digit: (S, 2, 2)."""
    return np.concatenate([np.stack([stroke[:-1], stroke[1:]], 1) for stroke in strokes])


_STROKES: tuple[tuple[Array, ...], ...] = (
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
_DIGITS = tuple(_segments(strokes) for strokes in _STROKES)
