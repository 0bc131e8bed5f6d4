"""Numbers and pictures of lesson 05, autograd."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

import tt_core as tt
import tt_learn
from measured import fastest, number, picture
from measured._memory import kept_bytes, peak_bytes
from tt_learn.autograd import checkpoint, no_grad
from tt_learn.autograd.drawing import draw_graph

WIDTH, DEPTH, ROWS = 64, 16, 512
X = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)


class Block(tt.Layer):
    """A linear map and GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = tt.Linear(WIDTH, WIDTH)

    def forward(self, x: Any) -> Any:
        return tt.gelu(self.linear(x))


@functools.cache
def blocks() -> list[Block]:
    """The blocks that are measured."""
    tt.manual_seed(0)
    return [Block() for _ in range(DEPTH)]


def plain(x: Any) -> Any:
    """The output of all blocks."""
    for block in blocks():
        x = block(x)
    return x


def checkpointed(x: Any) -> Any:
    """The same, with one checkpoint for each four blocks."""

    def four(x: Any, first: int) -> Any:
        for block in blocks()[first : first + 4]:
            x = block(x)
        return x

    for first in range(0, DEPTH, 4):
        x = checkpoint(four, x, first=first)
    return x


def step(forward: Any) -> None:
    """A forward and a backward pass."""
    forward(tt_learn.Tensor(X)).sum().backward()
    for block in blocks():
        block.zero_grad()


@number(3, 8, ".1f")
def kept_for_backward() -> float:
    """Megabytes that a result keeps for its backward pass."""
    return kept_bytes(lambda: plain(tt_learn.Tensor(X))) / 1e6


@number(0.1, 0.4, ".2f")
def kept_without_gradients() -> float:
    """Megabytes that the same result keeps under no_grad()."""

    def call() -> Any:
        with no_grad():
            return plain(tt_learn.Tensor(X))

    return kept_bytes(call) / 1e6


@number(0.2, 0.4, ".2f")
def parameter_megabytes() -> float:
    """Megabytes of the parameters of these blocks."""
    return sum(p.nbytes for block in blocks() for p in block.parameters()) / 1e6


@number(0.1, 0.8, ".2f")
def checkpoint_memory() -> float:
    """The peak of memory with checkpoints, as a share of that without."""
    step(plain)
    return peak_bytes(lambda: step(checkpointed)) / peak_bytes(lambda: step(plain))


@number(0.9, 6, ".1f")
def checkpoint_time() -> float:
    """The time of a step with checkpoints, as a multiple of that without."""
    plain_time, checkpoint_time = fastest(lambda: step(plain), lambda: step(checkpointed), rounds=9)
    return checkpoint_time / plain_time


@number(1.1, 40, ".1f")
def backward_times_forward() -> float:
    """How many times as long forward and backward take as forward under no_grad()."""

    def forward() -> None:
        with no_grad():
            plain(tt_learn.Tensor(X))

    forward_time, both = fastest(forward, lambda: step(plain), rounds=9)
    return both / forward_time


@picture
def graph_of_a_product() -> str:
    """The graph of exp(x w + b), summed: leaves at the top, the result at the bottom."""
    x, w, b = (tt_learn.Tensor([1.0, 2.0], requires_grad=True) for _ in range(3))
    return draw_graph((x * w + b).exp().sum(), names={"x": x, "w": w, "b": b})
