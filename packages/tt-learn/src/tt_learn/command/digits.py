"""Digits drawn by strokes, for the milestone of Act II where MNIST is not at hand. They are not handwriting."""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array

SIDE = 28
_STROKES = (
    "2,1 4,1 5,3 5,7 4,9 2,9 1,7 1,3 2,1",
    "2,3 3,1 3,9",
    "1,3 2,1 4,1 5,3 4,5 1,9 5,9",
    "1,2 3,1 5,2 5,4 3,5 5,6 5,8 3,9 1,8",
    "4,9 4,1 1,6 5,6",
    "5,1 1,1 1,5 4,4 5,6 4,9 1,9",
    "5,1 2,3 1,6 2,9 4,9 5,7 4,5 1,6",
    "1,1 5,1 3,5 2,9",
    "3,5 1,3 3,1 5,3 3,5 1,7 3,9 5,7 3,5",
    "5,4 3,5 1,4 1,2 3,1 5,2 5,4 4,9",
)
"""One polyline a digit, x,y on paper 6 wide and 10 high."""


def draw_digits(count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """`count` images (count, 28, 28) uint8 and their labels (count,); each is bent, turned and smeared at random.

    >>> images, labels = draw_digits(3, np.random.default_rng(0))
    >>> images.shape, images.dtype, labels.shape
    ((3, 28, 28), dtype('uint8'), (3,))
    """
    labels = rng.integers(0, 10, count)
    images = np.empty((count, SIDE, SIDE), np.uint8)
    for digit, strokes in enumerate(_STROKES):
        chosen = np.flatnonzero(labels == digit)
        ink = _draw(_paths(strokes, len(chosen), rng), rng.uniform(0.6, 1.4, (len(chosen), 1, 1)))
        noise = rng.standard_normal(ink.shape, np.float32) * np.float32(0.08)
        images[chosen] = np.clip(ink + noise, 0, 1) * 255
    return images, labels


def _paths(strokes: str, count: int, rng: np.random.Generator) -> Array:
    """`count` versions of a polyline of P points, in pixels: (count, P, 2)."""
    points = np.array([point.split(",") for point in strokes.split()], dtype=float) - (3, 5)
    bent = points + rng.normal(0, 0.25, (count, *points.shape))
    turn, slant = rng.normal(0, 0.15, (2, count))
    scales = rng.normal((2.4, 2.1), (0.3, 0.2), (count, 2))
    rows = [[np.cos(turn), slant - np.sin(turn)], [np.sin(turn), np.cos(turn)]]  # (2, 2, count)
    turns = np.moveaxis(np.array(rows), -1, 0)
    shifts = SIDE / 2 + rng.normal(0, 1, (count, 1, 2))
    return bent @ (turns * scales[:, :, None]).transpose(0, 2, 1) + shifts


def _draw(paths: Array, width: Array) -> Array:
    """How dark each pixel is: 1 on the stroke, falling to 0 within a pixel of its edge: (count, 28, 28)."""
    paths = paths.astype(np.float32)[..., None, None]  # (count, P, 2, 1, 1)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    nearest = np.full((len(paths), SIDE, SIDE), np.inf, np.float32)
    for i in range(paths.shape[1] - 1):
        np.minimum(nearest, _squared_distance(x, y, paths[:, i], paths[:, i + 1]), out=nearest)
    return np.clip(1 + width.astype(np.float32) - np.sqrt(nearest), 0, 1)


def _squared_distance(x: Array, y: Array, start: Array, end: Array) -> Array:
    """From each pixel to a segment, one for each image: (count, 28, 28)."""
    dx, dy = (end - start).swapaxes(0, 1)
    px, py = x - start[:, 0], y - start[:, 1]
    share = np.clip((px * dx + py * dy) / (dx * dx + dy * dy + np.float32(1e-9)), 0, 1)
    px -= share * dx
    py -= share * dy
    return px * px + py * py
