"""1957, the perceptron: a machine that learns from its mistakes, with the forward `Linear` of Act I and no gradient."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tt_core.command.journey import TryIt, numbers_in, require
from tt_core.layers import Linear
from tt_core.random import generator, manual_seed
from tt_core.tensor.creation import from_numpy
from tt_core.tensor.tensor import Tensor


def two_clouds(n: int, gap: float = 1.0) -> tuple[Tensor, Tensor]:
    """`n` points (n, 2) on both sides of a random line, `gap` apart, and their side (n,), 0 or 1."""
    random = generator()
    angle = random.uniform(0, 2 * np.pi)
    normal, along = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    side = np.arange(n) % 2
    distance = np.where(side, 1, -1) * (gap / 2 + random.exponential(1.0, n))
    points = distance[:, None] * normal + random.normal(0, 2, n)[:, None] * along + normal * random.normal()
    return from_numpy(points.astype(np.float32)), from_numpy(side.astype(np.int64))


def learn(layer: Linear, x: Tensor, y: Tensor, most_epochs: int = 1000) -> tuple[int, int]:
    """Rosenblatt's rule (1958): on a mistake, move the weights by the input, towards the right side.

    Changes `layer` in place. Returns (mistakes made in all, epochs until one had none); `most_epochs` if none had.
    """
    mistakes = 0
    for epoch in range(most_epochs):
        before = mistakes
        for point, side in zip(x, y):
            error = side.item() - int(layer(point).item() > 0)
            if error:
                mistakes += 1
                np.add(layer.weight.data, error * point.data, out=layer.weight.data)
                if layer.bias is not None:
                    layer.bias.data += error
        if mistakes == before:
            return mistakes, epoch + 1
    return mistakes, most_epochs


def accuracy(layer: Linear, x: Tensor, y: Tensor) -> float:
    """Share of points (n, 2) that the layer puts on their side."""
    return float(np.mean((layer(x).data[:, 0] > 0) == (y.data == 1)))


def perceptron(data_dir: Path | None = None, out: Path | None = None, **_: object) -> TryIt:
    """Learn to separate 100 points, then judge 1,000 new ones. Raises `Shortfall` unless all of the 100 are right."""
    manual_seed(1957)
    x, y = two_clouds(1100)
    layer = Linear(2, 1)
    mistakes, epochs = learn(layer, x[:100], y[:100])
    seen, new = accuracy(layer, x[:100], y[:100]), accuracy(layer, x[100:], y[100:])
    print(f"100 points, {mistakes} mistakes, {epochs} epochs until one without: {seen:.1%} of them right")
    print(f"1,000 points it never saw: {new:.1%} right")
    require("perceptron", "accuracy on the points it learned from", seen, 1.0)

    def side_of(text: str) -> str:
        distance = layer(from_numpy(np.array(numbers_in(text, 2), np.float32))).item()
        return f"class {int(distance > 0)}: the weighted sum is {distance:.2f}"

    return TryIt("two coordinates, such as 1.5 -2", side_of)
