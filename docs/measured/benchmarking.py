"""Numbers and pictures of lesson 19, benchmarking."""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np

import tt_core
from measured import number, picture
from tt_learn.svg import line_chart
from tt_perf.benchmarking import compare
from tt_perf.benchmarking.statistics import bootstrap_interval, median, ratio_interval


@functools.cache
def timings() -> Any:
    """Microseconds of 400 calls of softmax, in order, the first ones included."""
    x = tt_core.randn(64, 256)
    times = []
    for _ in range(400):
        start = time.perf_counter()
        tt_core.softmax(x, -1)
        times.append(1e6 * (time.perf_counter() - start))
    return np.array(times)


@picture
def times_in_order() -> str:
    """Microseconds of 400 calls in order: most are alike, and a few take much longer."""
    most = 6 * float(np.median(timings()))
    points = [(i, min(float(t), most)) for i, t in enumerate(timings())]
    return line_chart({"one call": points}, x_label="call", y_label="microseconds, cut at 6 medians")


@number(1, 10000, ".1f")
def slowest_call() -> float:
    """The slowest of the calls, in medians."""
    return float(timings().max() / np.median(timings()))


@number(0.8, 5000, ".2f")
def mean_by_median() -> float:
    """The mean of the calls, in medians."""
    return float(timings().mean() / np.median(timings()))


@number(0.8, 1, ".2f")
def fastest_by_median() -> float:
    """The time of the tenth of calls that are fastest, in medians."""
    return float(np.percentile(timings(), 10) / np.median(timings()))


# --- a machine that is simulated, so that the truth is known


def noise(random: Any, rounds: int) -> Any:
    """Times around 1 with a long tail on one side."""
    return 1 + 0.05 * random.lognormal(0, 1, rounds)


def false_alarm(random: Any, rounds: int, turns: bool) -> bool:
    """Whether the same code, measured twice on a machine that slows down by 10 %, is called different."""
    slower = np.linspace(1, 1.1, 2 * rounds)
    times = noise(random, 2 * rounds) * slower
    if turns:  # in a new random order each round
        pairs = random.permuted(times.reshape(rounds, 2), axis=1)
        a, b = pairs[:, 0], pairs[:, 1]
    else:
        a, b = times[:rounds], times[rounds:]
    _, low, high = ratio_interval(a, b)
    return not low <= 1 <= high


@functools.cache
def alarms(turns: bool) -> float:
    """Percent of 200 comparisons of a thing with itself that find a difference."""
    random = np.random.default_rng(0)
    return 100 * float(np.mean([false_alarm(random, 25, turns) for _ in range(200)]))


@number(60, 100, ".0f")
def alarms_one_after_the_other() -> float:
    """Percent of false alarms where one is measured after the other."""
    return alarms(turns=False)


@number(0, 12, ".0f")
def alarms_in_turn() -> float:
    """Percent of false alarms where the two take turns."""
    return alarms(turns=True)


@number(85, 100, ".0f")
def coverage() -> float:
    """Percent of 200 bootstrap intervals of 25 values each that hold the true median."""
    random, truth, inside = np.random.default_rng(0), 1.05, 0
    for _ in range(200):
        low, high = bootstrap_interval(noise(random, 25))
        inside += low <= truth <= high
    return inside / 2


@functools.cache
def spread_of(statistic: str) -> float:
    """By how many percent the statistic of 25 times varies from series to series; every tenth value is disturbed."""
    random, found = np.random.default_rng(0), []
    for _ in range(300):
        values = noise(random, 25) * np.where(random.random(25) < 0.1, 5, 1)
        found.append(median(values) if statistic == "median" else values.mean())
    return 100 * float(np.std(found) / np.mean(found))


@number(0.5, 3, ".1f")
def spread_of_median() -> float:
    """Of the median."""
    return spread_of("median")


@number(10, 30, ".0f")
def spread_of_mean() -> float:
    """Of the mean."""
    return spread_of("mean")


@picture
def interval_by_rounds() -> str:
    """The 95 % interval of the median by the number of values, for one simulated series; the truth is 1.05."""
    values = noise(np.random.default_rng(1), 400)
    counts = (5, 7, 10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320, 400)
    ends = {n: bootstrap_interval(values[:n]) for n in counts}
    curves = {
        "low": [(n, ends[n][0]) for n in counts],
        "median": [(n, median(values[:n])) for n in counts],
        "high": [(n, ends[n][1]) for n in counts],
    }
    return line_chart(curves, x_label="values", y_label="seconds")


@functools.cache
def measured() -> Any:
    """A matrix product against relu, by `compare`."""
    x = tt_core.randn(256, 256)
    return compare(lambda: tt_core.relu(x), lambda: x @ x, rounds=15, min_block_time=0.005)


@number(1.1, 10000, ".0f")
def product_by_relu() -> float:
    """The time of the product as a multiple of that of relu."""
    return float(measured().ratios[0].ratio)


@number(0.3, 3, ".3f")
def control() -> float:
    """The time of relu as a multiple of itself."""
    return float(measured().control_ratio.ratio)
