"""Part of module 19: pictures of measurements, as SVG text by `tt_learn.svg`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tt_learn.svg import SVG, line_chart, scatter_chart
from tt_perf.benchmarking.comparing import Comparison
from tt_perf.benchmarking.timer import BenchmarkError, Measurement

Costs = tuple[float, float, float]
"""Seconds, bytes, quality: lower is better for the first two, higher for the last."""


def distribution(measurements: Sequence[Measurement], title: str = "Time per call") -> SVG:
    """For each measurement the share of blocks that took at most so long: steep is steady, further left is faster.

    >>> distribution([Measurement(1, [0.001, 0.002, 0.003], "step")]).startswith("<svg")
    True
    """
    if not measurements:
        raise BenchmarkError("distribution: got no measurements, expected one or more")
    curves = {}
    for i, measured in enumerate(measurements):
        times = np.sort(measured.times)
        name = measured.label or f"{i + 1}"
        curves[name] = [(t * 1e3, 100 * (k + 1) / len(times)) for k, t in enumerate(times.tolist())]
    return line_chart(curves, title, "ms", "% of the blocks took at most so long")


def comparison_chart(comparison: Comparison, title: str = "Time per call") -> SVG:
    """The distribution of every contestant and of the control."""
    control = comparison.control
    again = Measurement(control.number_per_run, control.raw_times, "again")
    return distribution([*comparison.measurements, again], title)


def pareto_front(points: Mapping[str, Costs]) -> list[str]:
    """The Pareto front: names for which no other point is at least as good in all three costs and better in one.

    >>> pareto_front({"none": (2.0, 100, 0.9), "jit": (1.0, 100, 0.9), "int8": (3.0, 25, 0.8)})
    ['jit', 'int8']
    """

    def beats(a: Costs, b: Costs) -> bool:
        better = (a[0] <= b[0], a[1] <= b[1], a[2] >= b[2])
        return all(better) and a != b

    return [name for name, costs in points.items() if not any(beats(other, costs) for other in points.values())]


def pareto_chart(points: Mapping[str, Costs], title: str = "Latency, memory and quality") -> SVG:
    """Latency to the right, quality upwards, memory as the area of the circle; the Pareto front is filled.

    >>> pareto_chart({"none": (2.0, 100, 0.9), "jit": (1.0, 100, 0.9)}).count("<circle")
    2
    """
    places = {name: (seconds * 1e3, quality * 100) for name, (seconds, _, quality) in points.items()}
    sizes = {name: float(size) for name, (_, size, _) in points.items()}
    front = pareto_front(points)
    return scatter_chart(places, title, "ms (area: bytes; filled: not beaten in all three)", "quality, %", front, sizes)
