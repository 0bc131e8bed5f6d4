"""Part of module 19: `compare` says which of several pieces of code is faster, by how much, and how sure that is.

Three things make the answer honest.

- The contestants take turns, block by block, in a new random order each round. A machine that slows down meanwhile
  slows down all of them, and the ratio of one round does not notice.
- The first contestant runs twice under two names. The difference between the two is this measurement's own error (the
  A/A control); no smaller difference is reported as one.
- The result is a ratio with an interval, not two times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tt_core.engine.errors import is_integer
from tt_perf.benchmarking import statistics
from tt_perf.benchmarking.comparison_table import CONTROL, ComparisonTable
from tt_perf.benchmarking.environment import environment, load_per_core
from tt_perf.benchmarking.timer import (
    BenchmarkError,
    Measurement,
    Timer,
    calls_per_block,
    check_number,
    warm_up,
)


@dataclass(frozen=True)
class Ratio:
    """The time of one contestant as a share of the first one's: `ratio` 0.5 takes half as long.

    `differs` is True when the interval from `low` to `high` excludes 1 and the A/A control is closer to 1.
    """

    label: str
    ratio: float
    low: float
    high: float
    differs: bool

    @property
    def speedup(self) -> float:
        """How many times as fast as the first one."""
        return 1 / self.ratio

    @property
    def verdict(self) -> str:
        """In one word or two."""
        return ("faster" if self.ratio < 1 else "slower") if self.differs else "no difference found"


@dataclass(frozen=True)
class Comparison(ComparisonTable):
    """What `compare` measured: the contestants, the first one again as `control`, and the machine's description.

    Block i of every measurement belongs to the same round. Raises `BenchmarkError` for series of different lengths.

    >>> a, b = Measurement(1, [2.0, 2.1, 1.9], "a"), Measurement(1, [1.0, 1.1, 0.9], "b")
    >>> result = Comparison((a, b), control=Measurement(1, [2.1, 2.0, 1.9]))
    >>> round(result.ratios[0].ratio, 2), result.ratios[0].verdict
    (0.5, 'faster')
    """

    measurements: tuple[Measurement, ...]
    control: Measurement
    confidence: float = 0.95
    environment: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check that there is something to compare, round by round."""
        lengths = {len(measured.raw_times) for measured in (*self.measurements, self.control)}
        if len(self.measurements) < 2 or len(lengths) != 1:
            raise BenchmarkError(
                f"Comparison: got {len(self.measurements)} measurements of {sorted(lengths)} rounds; "
                "two or more of the same number of rounds are needed"
            )

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """Each contestant but the first, against the first."""
        return tuple([self._against_first(measured) for measured in self.measurements[1:]])

    @property
    def control_ratio(self) -> Ratio:
        """The first contestant against itself, labelled `CONTROL`; what differs here is an error of the measurement."""
        ratio, low, high = statistics.ratio_interval(self.measurements[0].times, self.control.times, self.confidence)
        return Ratio(CONTROL, ratio, low, high, not low <= 1 <= high)

    def _against_first(self, measured: Measurement) -> Ratio:
        """A contestant against the first: differs if the interval excludes 1 and the control is nearer to 1."""
        ratio, low, high = statistics.ratio_interval(self.measurements[0].times, measured.times, self.confidence)
        # the same code measured twice differs by this much, so a smaller difference means nothing
        own_error = abs(math.log(self.control_ratio.ratio))
        return Ratio(measured.label, ratio, low, high, not low <= 1 <= high and abs(math.log(ratio)) > own_error)


def compare(
    *contestants: Timer | Callable[[], Any], rounds: int = 25, min_block_time: float = 0.005, confidence: float = 0.95
) -> Comparison:
    """Measure two or more contestants in turn, and the first one once more as a control; the ratios are to the first.

    A contestant is a `Timer` or a callable without arguments. Each round runs a block of each, of
    about `min_block_time` seconds; all ratios get intervals for `confidence`. Raises `BenchmarkError` for fewer than
    two contestants and for numbers out of range.

    >>> result = compare(Timer("sum(range(50))"), Timer("sum(range(5000))"), rounds=5, min_block_time=1e-4)
    >>> result.ratios[0].ratio > 1, result.ratios[0].verdict
    (True, 'slower')
    """
    for contestant in contestants:
        if not isinstance(contestant, Timer) and not callable(contestant):
            raise BenchmarkError(f"compare: a contestant is {contestant!r:.60}, expected a Timer or a callable")
    timers = [timer if isinstance(timer, Timer) else Timer(timer) for timer in contestants]
    if len(timers) < 2:
        raise BenchmarkError(f"compare: got {len(timers)} contestants, expected two or more")
    if not is_integer(rounds, 5) or rounds > 100_000:
        raise BenchmarkError(f"compare: rounds is {rounds!r:.60}, expected 5 to 100000")
    check_number("compare: min_block_time", min_block_time, 0, 60)
    check_number("compare: confidence", confidence, 0, 0.9999)
    load = load_per_core()  # before the work of this comparison adds to it
    # (calls a block, cold times) of each; the calls are chosen so that the clock's own step, 50 ns, does not count
    prepared = [_prepared(timer, min_block_time) for timer in timers]
    timers.append(timers[0])  # the A/A control: what this pair differs by is the error of the measurement
    numbers = [number for number, _ in prepared]
    times = take_turns([_block(timer, number) for timer, number in zip(timers, [*numbers, numbers[0]])], int(rounds))
    *measured, control = [
        Measurement(number, seconds, timer.label, cold)
        for timer, (number, cold), seconds in zip(timers, [*prepared, (numbers[0], [])], times)
    ]
    return Comparison(tuple(measured), control, float(confidence), {**environment(), "load": load})


def take_turns(blocks: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Run every block once in each round, in a new random order; returns the seconds of each, by round."""
    random, times = np.random.default_rng(0), [[0.0] * rounds for _ in blocks]
    for i in range(rounds):
        # a fixed order would let each contestant always find the cache as the same other one left it
        for k in random.permutation(len(blocks)):
            times[k][i] = blocks[k]()
    return times


def _prepared(timer: Timer, seconds: float) -> tuple[int, list[float]]:
    """The calls per block, and the seconds of the calls that warmed up."""
    with timer.active():
        cold = warm_up(timer)
        return calls_per_block(timer, seconds), cold


def _block(timer: Timer, number: int) -> Callable[[], float]:
    def block() -> float:
        with timer.active():
            timer.seconds(1)  # plugging in binds the ops again, and caches hold another contestant's data
            return timer.seconds(number)

    return block
