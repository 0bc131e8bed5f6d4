"""Numbers and pictures of lesson 06, optimizers."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

import tt_core as tt
import tt_learn
from measured import fastest, number, picture
from tt_learn.svg import line_chart

CURVATURE = np.array([1.0, 100.0], np.float32)
MOST = 400
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "SGD": (tt_learn.SGD, {"lr": 0.018}),
    "momentum": (tt_learn.SGD, {"lr": 0.018, "momentum": 0.8}),
    "Adam": (tt_learn.Adam, {"lr": 0.1}),
}


@functools.cache
def losses(kind: str) -> list[float]:
    """The loss at each step in a valley that is a hundred times as steep across as along."""
    w = tt_learn.Tensor([10.0, 1.0], requires_grad=True)
    make, options = KINDS[kind]
    optimizer, seen = make([w], **options), []
    for _ in range(MOST):
        optimizer.zero_grad()
        loss = (w * w * tt.from_numpy(CURVATURE)).sum() * 0.5
        loss.backward()
        optimizer.step()
        seen.append(float(loss.item()))
    return seen


def steps_to(kind: str, goal: float = 0.01) -> float:
    """The first step from which on the loss stays below `goal`."""
    above = [step for step, loss in enumerate(losses(kind)) if loss > goal]
    return float(above[-1] + 1)


@number(150, 350, ".0f")
def steps_of_sgd() -> float:
    """Steps of SGD."""
    return steps_to("SGD")


@number(15, 90, ".0f")
def steps_with_momentum() -> float:
    """Steps with momentum."""
    return steps_to("momentum")


@number(1, 400, ".0f")
def steps_of_adam() -> float:
    """Steps of Adam."""
    return steps_to("Adam")


@picture
def losses_of_optimizers() -> str:
    """The loss by the step, as a power of ten, in a valley a hundred times as steep across as along."""
    series = {
        kind: [(float(i), float(np.log10(max(loss, 1e-8)))) for i, loss in enumerate(losses(kind)[:250])]
        for kind in KINDS
    }
    return line_chart(series, "", "step", "log10 of the loss")


def _trained(make: Any, **options: Any) -> Any:
    """An optimizer of a linear layer with a million weights that has gradients and has made a step."""
    layer = tt.Linear(1000, 1000)
    optimizer = make(layer.parameters(), lr=1e-3, **options)
    layer(tt.ones(1, 1000)).sum().backward()
    optimizer.step()
    return optimizer


@number(1, 1, ".0f")
def factor_of_sgd() -> float:
    """Parameters and state of SGD, in sizes of the parameters."""
    return _trained(tt_learn.SGD).memory().factor


@number(2, 2, ".0f")
def factor_of_momentum() -> float:
    """The same with momentum."""
    return _trained(tt_learn.SGD, momentum=0.9).memory().factor


@number(3, 3, ".0f")
def factor_of_adam() -> float:
    """The same for Adam."""
    return _trained(tt_learn.Adam).memory().factor


@number(16, 16, ".0f")
def bytes_of_adam() -> float:
    """Bytes for each parameter of Adam: the parameter, its gradient, and two numbers of state."""
    return sum(_trained(tt_learn.Adam).memory().per_parameter.values())


@number(1, 100, ".1f")
def adam_times_sgd() -> float:
    """How many times as long a step of Adam takes as one of SGD, on a million parameters."""
    adam, sgd = fastest(_trained(tt_learn.Adam).step, _trained(tt_learn.SGD).step)
    return adam / sgd
