"""The memory of training steps beside PyTorch's: bytes of arrays at their peak, libraries and interpreters left out.

    python benchmarks/peers/memory.py

Counted from before the model is made until three steps are done: parameters, gradients, the optimizer's state,
activations, scratch. TinyTorch's side asks `tracemalloc`, which NumPy tells of every array; PyTorch's side adds up the
allocations and releases that its profiler saw. Each side runs in a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tracemalloc
from typing import Any

import cnn
import gpt
import mlp
from side_by_side import MakeStep, measure

CASES: dict[str, tuple[Any, str]] = {
    "mlp deep: ten layers of 1024, batch 256": (mlp, "deep"),
    "mlp small: 784-128-10, batch 64": (mlp, "small"),
    "cnn: 3-32-64-128 channels, batch 64": (cnn, "32x32"),
    "gpt small: 4 layers, context 64, batch 12": (gpt, "small"),
    "gpt medium: 6 layers, context 256, batch 4": (gpt, "medium"),
}
STEPS = 3


def tinytorch_peak(make: MakeStep, size: str) -> int:
    make(size)  # imports, and what is made once, are not counted
    tracemalloc.start()
    step, _ = make(size)
    for _ in range(STEPS):
        step()
    return tracemalloc.get_traced_memory()[1]


def torch_peak(make: MakeStep, size: str) -> int:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step, _ = make(size)
        for _ in range(STEPS):
            step()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate(event.nbytes() for event in events))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", choices=("pytorch", "tinytorch"), help="measure one case here and print JSON")
    parser.add_argument("--case", choices=sorted(CASES))
    options = parser.parse_args()
    if options.side:
        module, size = CASES[options.case]
        ours = options.side == "tinytorch"
        peak = tinytorch_peak(module.tinytorch_step, size) if ours else torch_peak(module.torch_step, size)
        print(json.dumps({"seconds": 0, "memory": peak}))
        return
    print(f"{'':44}  {'tinytorch':>10}  {'pytorch':>10}  ratio")
    for case in CASES:
        ours, theirs = (
            measure([sys.executable, __file__, "--side", side, "--case", case]).memory
            for side in ("tinytorch", "pytorch")
        )
        print(f"{case:44}  {ours / 1e6:7.1f} MB  {theirs / 1e6:7.1f} MB  {ours / theirs:5.2f}")


if __name__ == "__main__":
    main()
