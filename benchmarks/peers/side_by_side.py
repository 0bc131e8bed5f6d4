"""Run two or more programs in turn, round after round, and compare what they measured of themselves.

A shared machine drifts by tens of percent within minutes. So each side runs in a process of its own, the sides take
turns within a round, and what is compared is the ratio within each round; the table has its median and range.

A worker ends by printing one line of JSON, which `report` does for it:

    {"seconds": 0.041, "memory": 612000000, "detail": "torch 2.13.0"}

`main` is the command line of a comparison of two training steps; `gpt.py`, `cnn.py` and `mlp.py` give it the steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """What one process measured: median seconds of a step, its peak memory in bytes, and a word on what it ran."""

    seconds: float
    memory: int
    detail: str = ""


def report(step: Callable[[], object], *, warmup: int = 3, repeats: int = 20, detail: str = "") -> None:
    """Time `step`, and print the measurement as the last line of a worker."""
    for _ in range(warmup):
        step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    print(json.dumps({"seconds": statistics.median(times), "memory": peak_memory(), "detail": detail}))


def peak_memory() -> int:
    """The most memory this process ever had resident, in bytes; 0 where the platform does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure(command: Sequence[str], timeout: float = 600) -> Measurement:
    """Run one worker. Raises `RuntimeError` with what it wrote where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stderr.strip()}")
    return Measurement(**json.loads(done.stdout.strip().splitlines()[-1]))


def compare(sides: Mapping[str, Sequence[str]], rounds: int = 5, timeout: float = 600) -> dict[str, list[Measurement]]:
    """Run every side once a round, in turn; each round starts with another side."""
    found: dict[str, list[Measurement]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].append(measure(sides[name], timeout))
    return found


def ratios(found: Mapping[str, list[Measurement]], name: str, against: str) -> list[float]:
    """Seconds of one side over those of another, round by round."""
    return [a.seconds / b.seconds for a, b in zip(found[name], found[against])]


def table(found: Mapping[str, list[Measurement]], against: str) -> str:
    """A row a side: median milliseconds, memory, and the ratio to `against` with its range over the rounds."""
    width = max(len(name) for name in found)
    lines = [f"{'':{width}}  {'ms':>9}  {'MB':>7}  ratio to {against}"]
    for name, measurements in found.items():
        milliseconds = statistics.median(m.seconds for m in measurements) * 1e3
        memory = statistics.median(m.memory for m in measurements) / 1e6
        each = ratios(found, name, against)
        spread = f"{statistics.median(each):5.2f}  ({min(each):.2f} to {max(each):.2f})"
        lines.append(f"{name:{width}}  {milliseconds:9.2f}  {memory:7.0f}  {spread}  {measurements[-1].detail}")
    return "\n".join(lines)


MakeStep = Callable[[str], tuple[Callable[[], object], str]]
"""From the name of a size to one training step that returns its loss, and a word on what runs it."""


def main(script: str, doc: str, tinytorch: MakeStep, torch: MakeStep, repeats: Mapping[str, int]) -> None:
    """The command line of `script`: compare both sides, or be one of them. `repeats`: steps to time for each size."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--size", choices=sorted(repeats), default=next(iter(repeats)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plugin", action="append", default=[], help="one more side: jit, or several as jit+capture")
    parser.add_argument("--side", choices=("pytorch", "tinytorch"), help="measure one side here and print JSON")
    options = parser.parse_args()
    if options.side == "pytorch":
        step, detail = torch(options.size)
        return report(step, repeats=repeats[options.size], detail=detail)
    if options.side == "tinytorch":
        return _report_tinytorch(tinytorch, options.size, options.plugin, repeats[options.size])
    me = [sys.executable, script, "--size", options.size]
    sides = {side: [*me, "--side", side] for side in ("pytorch", "tinytorch")}
    for names in options.plugin:
        named = [argument for name in names.split("+") for argument in ("--plugin", name)]
        sides[f"tinytorch {names}"] = [*sides["tinytorch"], *named]
    print(table(compare(sides, options.rounds), against="pytorch"))


def _report_tinytorch(tinytorch: MakeStep, size: str, plugins: list[str], repeats: int) -> None:
    from tt_core import use
    from tt_perf import capture

    with use(*plugins, report=False):
        step, detail = tinytorch(size)
        if "capture" in plugins:  # by itself, the plugin captures the steps of a Trainer
            step = capture(step)
        report(step, repeats=repeats, detail=detail)
