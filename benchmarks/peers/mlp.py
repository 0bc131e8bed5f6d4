"""A training step of a multi-layer perceptron beside PyTorch's: forward, cross entropy, backward, one step of Adam.

    python benchmarks/peers/mlp.py [--size small|deep] [--rounds 5] [--plugin jit ...]

small is 784-128-10 with batch 64, the network of 1986 on MNIST; deep is ten layers of width 1024 with batch 256, for
the memory of a step. Each side runs in a process of its own, on all threads.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable

import numpy as np
from side_by_side import compare, report, table

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

    def step() -> float:
        optimizer.zero_grad()
        loss = tt.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, f"tinytorch {tt_learn.__version__}, numpy {np.__version__}"


def torch_step(size: str) -> tuple[Callable[[], object], str]:
    import torch
    from torch import nn

    widths, *_ = SIZES[size]
    layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())][:-1]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = map(torch.tensor, batch(size))

    def step() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, f"torch {torch.__version__} eager, {torch.get_num_threads()} threads"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plugin", action="append", default=[])
    parser.add_argument("--side", choices=("tinytorch", "torch"), help="run one side alone and print its JSON")
    given = parser.parse_args()
    if given.side is None:
        command = [sys.executable, __file__, "--size", given.size, "--side"]
        plugins = [word for name in given.plugin for word in ("--plugin", name)]
        sides = {"tinytorch": [*command, "tinytorch", *plugins], "torch": [*command, "torch"]}
        print(f"MLP {given.size}, a training step, NumPy kernels and plugins: {', '.join(given.plugin) or 'none'}")
        print(table(compare(sides, given.rounds), "torch"))
        return
    if given.side == "torch":
        step, detail = torch_step(given.size)
        report(step, repeats=SIZES[given.size][2], warmup=20, detail=detail)
        return
    import tt_core

    with tt_core.use(*given.plugin):
        step, detail = tinytorch_step(given.size)
        report(step, repeats=SIZES[given.size][2], warmup=20, detail=detail)


if __name__ == "__main__":
    main()
