"""Forms of one model side by side, for the milestone of 2024: bytes, quality, seconds, and which of them to ship."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tt_core.command.journey import Shortfall
from tt_core.engine.files import write_atomic
from tt_perf.benchmarking import Timer, compare
from tt_perf.benchmarking.charts import pareto_chart, pareto_front
from tt_perf.benchmarking.timer import duration
from tt_perf.profiling import Profiler
from tt_perf.quantization.report import nbytes

SMALLER = 4.0
"""How many times smaller than the original the shipped model must be."""


@dataclass(frozen=True)
class Variant:
    """A form of the model: bytes, quality (a share of 1, more is better), and seconds of a piece of work."""

    name: str
    model: Any
    bytes: int
    quality: float
    plugins: tuple[str, ...] = ()
    seconds: float = 0.0
    note: str = ""


def variant(name: str, model: Any, quality: Callable[[Any], float], note: str = "") -> Variant:
    """A form of the model with its bytes counted and its quality measured."""
    return Variant(name, model, nbytes(model), quality(model), note=note)


def timed(variants: Sequence[Variant], work: Callable[[Any], Any], parts: int = 1, rounds: int = 5) -> list[Variant]:
    """The variants with the seconds of `work(model)` under their plugins, measured in turn, divided by `parts`."""
    timers = [Timer(lambda model=v.model: work(model), label=v.name, plugins=v.plugins) for v in variants]  # type: ignore[misc]
    found = compare(*timers, rounds=rounds, min_block_time=1e-3)
    return [replace(v, seconds=measured.median / parts) for v, measured in zip(variants, found.measurements)]


def shipped(milestone: str, variants: Sequence[Variant], least: float) -> Variant:
    """The fastest of those that are 4 times smaller than the first, with a quality of at least `least`.

    Raises `Shortfall` where there is none.

    >>> small = Variant("int4", None, 20, 0.88)
    >>> shipped("systems", [Variant("float", None, 100, 0.9), small, Variant("int2", None, 10, 0.1)], 0.87).name
    'int4'
    """
    fine = [v for v in variants if v.quality >= least]
    small = [v for v in fine if variants[0].bytes >= SMALLER * v.bytes]
    if not small:
        best = min(fine, key=lambda v: v.bytes, default=variants[0])
        raise Shortfall(
            f"{milestone}: the smallest form with a quality of {least:.1%} or more is {best.name}, "
            f"{variants[0].bytes / best.bytes:.2f} times smaller; {SMALLER:g} times was to be reached"
        )
    return min(small, key=lambda v: v.seconds)


def table(variants: Sequence[Variant], unit: str, quality: str) -> list[str]:
    """A line for each variant: bytes, their share of the original's, quality, time of `unit`, such as "a token"."""
    first, width = variants[0], max(len(v.name) for v in variants)
    front = pareto_front(costs(variants))
    lines = [f"  {'':{width}} {'bytes':>12} {'of it':>6} {quality:>14} {'time ' + unit:>16}"]
    for v in variants:
        mark = "  on the Pareto front" if v.name in front else ""
        lines.append(
            f"  {v.name:{width}} {v.bytes:>12,} {v.bytes / first.bytes:6.3f} {v.quality:14.2%} "
            f"{duration(v.seconds):>16}{mark}"
        )
    return lines


def costs(variants: Sequence[Variant]) -> Mapping[str, tuple[float, float, float]]:
    """Seconds, bytes and quality by name, as the Pareto picture takes them."""
    return {v.name: (v.seconds, float(v.bytes), v.quality) for v in variants}


def draw(variants: Sequence[Variant], path: Path, title: str) -> None:
    """Write the Pareto picture."""
    write_atomic(path, pareto_chart(costs(variants), title).encode())
    print(f"systems: time, bytes and quality of each form are drawn in {path}")


def profiled(work: Callable[[], Any], rows: int = 3) -> None:
    """Print what took most of the time of `work`, and what bounds it on this machine."""
    work()
    with Profiler() as profiler:
        work()
    total = sum(each.seconds for each in profiler.verdicts())
    for each in profiler.verdicts()[:rows]:
        print(f"  {each.seconds / total:4.0%} {each}")
