"""Module 14: whether the profiler's times add up, what measuring costs, and what sessions leave in memory (Linux).

    python benchmarks/figures/profiling.py

Measured on the training step of `tt compare gpt-step`: 4 layers, 4 heads, 128 features, 12 x 64 tokens.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from figures import Figures

from tt_learn import Tensor
from tt_perf import Profiler
from tt_perf.benchmarking.jobs import JOBS


def add_up(figures: Figures) -> None:
    """Self times over the time on the clock; of five runs the middle one."""
    step, found = JOBS["gpt-step"].build(), []
    step()
    for _ in range(5):
        with Profiler() as profiler:
            start = time.perf_counter()
            for _ in range(3):
                step()
            wall = time.perf_counter() - start
        total = sum(row.self_cpu_time_total for row in profiler.key_averages()) / 1e6
        found.append(abs(total / wall - 1))
    figures.at_most("self times against the clock: difference", sorted(found)[2], 0.03, ".4f")


def overhead(figures: Figures) -> None:
    """A step in the profiler's block over one outside of it: the least processor time of 15, in turn."""
    step, plain, inside = JOBS["gpt-step"].build(), [], []
    for _ in range(15):
        plain.append(processor_time(step))
        with Profiler():
            inside.append(processor_time(step))
    figures.at_most("time of a step that is measured over one that is not", min(inside) / min(plain), 1.1)


def processor_time(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def sessions(figures: Figures) -> None:
    """Growth of the process over 1,000 sessions, without the garbage collector."""
    x = Tensor(np.ones((16, 16), "float32"), requires_grad=True)

    def session() -> None:
        with Profiler(profile_memory=True):
            (x @ x).sum().backward()

    gc.disable()
    for _ in range(50):
        session()
    start = resident()
    for _ in range(1000):
        session()
    figures.at_most("MB that 1,000 sessions leave", (resident() - start) / 1e6, 5, ".2f")
    gc.enable()


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * 4096


def main() -> int:
    figures = Figures()
    add_up(figures)
    overhead(figures)
    if sys.platform.startswith("linux"):
        sessions(figures)
    return figures.exit_code()


if __name__ == "__main__":
    sys.exit(main())
