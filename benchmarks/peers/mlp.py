"""A training step of a multi-layer perceptron beside PyTorch's: forward, cross entropy, backward, one step of Adam.

    python benchmarks/peers/mlp.py [--size small|deep] [--rounds 5] [--plugin jit ...]

small is 784-128-10 with batch 64, the network of 1986 on MNIST; deep is ten layers of width 1024 with batch 256, for
the memory of a step. Each side runs in a process of its own, on all threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from side_by_side import main

SIZES = {"small": ([784, 128, 10], 64, 2000), "deep": ([1024] * 11, 256, 20)}
"""Widths, batch, steps that are timed."""


def batch(size: str) -> tuple[np.ndarray, np.ndarray]:
    widths, rows, _ = SIZES[size]
    random = np.random.default_rng(0)
    return random.standard_normal((rows, widths[0]), np.float32), random.integers(widths[-1], size=rows)


def tinytorch_step(size: str) -> tuple[Callable[[], object], str]:
    import tt_core as tt
    import tt_learn

    widths, *_ = SIZES[size]
    layers = [part for a, b in itertools.pairwise(widths) for part in (tt.Linear(a, b), tt.ReLU())][:-1]
    model = tt.Sequential(*layers)
    optimizer = tt_learn.Adam(model.parameters(), lr=1e-3)
    x, y = map(tt.tensor, batch(size))

    def step() -> Any:
        optimizer.zero_grad()
        loss = tt.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, f"tinytorch {tt_learn.__version__}, numpy {np.__version__}"


def torch_step(size: str) -> tuple[Callable[[], object], str]:
    import torch
    from torch import nn

    widths, *_ = SIZES[size]
    layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())][:-1]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = map(torch.tensor, batch(size))

    def step() -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, f"torch {torch.__version__} eager, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main(__file__, __doc__, tinytorch_step, torch_step, {name: steps for name, (_, _, steps) in SIZES.items()})
