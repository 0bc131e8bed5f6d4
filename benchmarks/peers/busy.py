"""Training steps beside programs that keep cores busy: a core that another program takes should cost its share.

    python benchmarks/peers/busy.py [--job mlp gpt] [--neighbours 0 1 4] [--rounds 5] [--seconds 3] [--side tinytorch]

mlp is 784-128-10 with batch 64, gpt is 4 layers, 4 heads, 128 features, context 64, batch 12, as in `mlp.py` and
`gpt.py`. A neighbour is a process that spins. Each figure comes from a process of its own that times steps for some
seconds, once a round for each number of neighbours, in turn. The table has the medians over the rounds, and their
ratios to the quiet median (no neighbours) of the same round. A mean far above its median tells of steps that waited.

The load average beside them is that before the first round: above about 0.3, "quiet" was not quiet. To compare with
another commit, run this script with PYTHONPATH set to the packages of a worktree.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import gpt
import mlp

JOBS = {"mlp": mlp, "gpt": gpt}
SPIN = "import itertools\nfor _ in itertools.count(): pass"
WANTED = {"mlp": 2.0, "gpt": 2.2}
"""The most that a step beside one neighbour on two cores should take, over the quiet median; the mean 2.5."""


def timed(job: str, side: str, seconds: float) -> list[float]:
    """Milliseconds of each step in so many seconds, after a third of that time to warm up."""
    step, _ = getattr(JOBS[job], f"{side}_step")("small")
    times: list[float] = []
    for limit in (seconds / 3, seconds):
        times.clear()
        end = time.perf_counter() + limit
        while (start := time.perf_counter()) < end:
            step()
            times.append((time.perf_counter() - start) * 1e3)
    return times


@contextlib.contextmanager
def neighbours(number: int) -> Iterator[None]:
    """A block beside so many processes that spin."""
    spinning = [subprocess.Popen([sys.executable, "-S", "-c", SPIN]) for _ in range(number)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def measure(job: str, side: str, seconds: float, number: int) -> tuple[float, float]:
    """Median and mean milliseconds of a step in a new process, beside so many neighbours."""
    command = [sys.executable, __file__, "--job", job, "--side", side, "--seconds", str(seconds), "--worker"]
    with neighbours(number):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stderr.strip()}")
    median, mean = json.loads(done.stdout.splitlines()[-1])
    return median, mean


def table(job: str, numbers: Sequence[int], found: Sequence[Sequence[tuple[float, float]]]) -> str:
    """A row for each number of neighbours; `found`: for each round, median and mean beside each number."""
    lines = [f"{job}: neighbours  median ms  mean ms  median / quiet        mean / quiet median"]
    for i, number in enumerate(numbers):
        median, mean = (statistics.median(turn[i][j] for turn in found) for j in (0, 1))
        medians, means = ([turn[i][j] / turn[0][0] for turn in found] for j in (0, 1))
        wanted = f"  wanted: {WANTED[job]}, mean 2.5" if number == 1 else ""
        lines.append(f"{number:15}  {median:9.2f}  {mean:7.2f}  {_spread(medians)}  {_spread(means)}{wanted}")
    return "\n".join(lines)


def _spread(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--job", nargs="+", choices=sorted(JOBS), default=list(JOBS))
    parser.add_argument("--neighbours", nargs="+", type=int, default=[0, 1, 4])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--side", choices=("tinytorch", "torch"), default="tinytorch")
    parser.add_argument("--worker", action="store_true", help="time steps here and print median and mean as JSON")
    options = parser.parse_args()
    if options.worker:
        times = timed(options.job[0], options.side, options.seconds)
        print(json.dumps([statistics.median(times), statistics.fmean(times)]))
        return
    if hasattr(os, "getloadavg"):
        print(f"load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    for job in options.job:
        turns = range(options.rounds)
        found = [[measure(job, options.side, options.seconds, n) for n in options.neighbours] for _ in turns]
        print(table(job, options.neighbours, found), flush=True)


if __name__ == "__main__":
    main()
