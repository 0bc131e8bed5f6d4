"""Part of module 19: `Timer` runs one piece of code again and again, `Measurement` holds the times.

Names and defaults are those of `torch.utils.benchmark`. It measures wall-clock time in this process, with the garbage
collector off. Comparing two pieces of code is `compare`'s work: two measurements made one after the other also differ
by other work of the machine.
"""

from __future__ import annotations

import math
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tt_core.engine.errors import TinyTorchError, is_integer, is_number
from tt_core.engine.plugins import use
from tt_perf.benchmarking import statistics


class BenchmarkError(TinyTorchError):
    """A measurement that cannot be made, read or trusted."""


@dataclass(frozen=True)
class Measurement:
    """The times of one piece of code: `raw_times` are seconds of blocks of `number_per_run` calls each.

    `cold_times` are the seconds of single calls before, which do not count. Raises `BenchmarkError` for no times, and
    for times that are not positive numbers.

    >>> measured = Measurement(2, (2.0, 2.2, 9.0), label="step")
    >>> measured.median, measured.times
    (1.1, (1.0, 1.1, 4.5))
    """

    number_per_run: int
    raw_times: Sequence[float]
    label: str = ""
    cold_times: Sequence[float] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Checks and freezes the arguments."""
        if not is_integer(self.number_per_run, 1):
            raise BenchmarkError(f"Measurement: number_per_run is {self.number_per_run!r:.60}, expected 1 or more")
        if not isinstance(self.label, str):
            raise BenchmarkError(f"Measurement: label is {self.label!r:.60}, expected text")
        object.__setattr__(self, "number_per_run", int(self.number_per_run))
        for name in ("raw_times", "cold_times"):
            object.__setattr__(self, name, _seconds(name, getattr(self, name)))
        if not self.raw_times:
            raise BenchmarkError("Measurement: there are no times; run the timer at least once")

    @property
    def times(self) -> tuple[float, ...]:
        """Seconds per call, one value for each block."""
        return tuple([seconds / self.number_per_run for seconds in self.raw_times])

    @property
    def median(self) -> float:
        """Seconds per call: the middle of the blocks."""
        return statistics.median(self.times)

    @property
    def mean(self) -> float:
        """Seconds per call on average; a few disturbed blocks change it, so `median` is printed."""
        return float(np.mean(self.times))

    @property
    def iqr(self) -> float:
        """The interquartile range of the blocks, in seconds per call."""
        return statistics.interquartile_range(self.times)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Seconds per call between which the true median lies, by the bootstrap."""
        check_number("Measurement.interval: confidence", confidence, 0, 1)
        return statistics.bootstrap_interval(self.times, confidence)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why these times should be read with care; empty for a quiet measurement."""
        return tuple(doubts(self))

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and text, for JSON."""
        return {
            "label": self.label,
            "number_per_run": self.number_per_run,
            "raw_times": list(self.raw_times),
            "cold_times": list(self.cold_times),
            "median": self.median,
            "iqr": self.iqr,
            "interval": list(self.interval()),
        }

    def __str__(self) -> str:
        low, high = self.interval()
        name = f"{self.label}: " if self.label else ""
        blocks = f"{len(self.raw_times)} x {self.number_per_run} calls"
        line = f"{name}{duration(self.median)} (95 %: {duration(low)} to {duration(high)}; {blocks})"
        return "\n".join([line, *(f"warning: {warning}" for warning in self.warnings)])


class Timer:
    """Measures a statement: a callable without arguments, or text that is compiled in the namespace `globals`.

    `setup` runs before each block, outside the clock. `plugins` are active while the statement runs, so that
    `compare(Timer(step), Timer(step, plugins=["jit"]))` shows what a plugin is worth. `timer` is the clock, a function
    that returns seconds. Raises `BenchmarkError` for what cannot be run.

    >>> measured = Timer(lambda: sum(range(100)), label="sum").blocked_autorange(min_run_time=0.01)
    >>> measured.median > 0, measured.label
    (True, 'sum')
    """

    def __init__(
        self,
        stmt: str | Callable[[], Any] = "pass",
        setup: str | Callable[[], Any] = "pass",
        timer: Callable[[], float] = time.perf_counter,
        globals: Mapping[str, Any] | None = None,
        label: str | None = None,
        *,
        plugins: Sequence[str] = (),
    ) -> None:
        for name, value in (("stmt", stmt), ("setup", setup)):
            if not isinstance(value, str) and not callable(value):
                raise BenchmarkError(f"Timer: {name} is {value!r:.60}, expected a callable or text")
        if not callable(timer):
            raise BenchmarkError(f"Timer: timer is {timer!r:.60}, expected a clock such as time.perf_counter")
        if globals is not None and not isinstance(globals, Mapping):
            raise BenchmarkError(f"Timer: globals is {globals!r:.60}, expected a dictionary of names")
        if label is not None and not isinstance(label, str):
            raise BenchmarkError(f"Timer: label is {label!r:.60}, expected text")
        if not isinstance(plugins, (list, tuple)) or not all(isinstance(name, str) for name in plugins):
            raise BenchmarkError(f"Timer: plugins is {plugins!r:.60}, expected a list of names")
        self.plugins = tuple(plugins)
        self.label = _name_of(stmt) if label is None else label
        try:
            # Text is compiled and run by the standard library, as `python -m timeit` does: it is the user's own code in
            # the user's own process. Nothing in this package passes on text that came from a file.
            self._timeit = timeit.Timer(stmt, setup, timer, {} if globals is None else dict(globals))
        except (SyntaxError, ValueError) as error:
            raise BenchmarkError(f"Timer: the text is no Python: {str(error).splitlines()[0]:.80}") from None

    def active(self) -> AbstractContextManager[Any]:
        """A block in which the plugins of this timer are plugged in."""
        return use(*self.plugins, report=False)

    def seconds(self, number: int) -> float:
        """Seconds that `number` calls take in all, without a warm-up or a change of plugins."""
        if not is_integer(number, 1):
            raise BenchmarkError(f"Timer.seconds: number is {number!r:.60}, expected 1 or more")
        return max(self._timeit.timeit(int(number)), 1e-9)  # a coarse clock may not have moved

    def timeit(self, number: int = 1_000_000) -> Measurement:
        """One block of `number` calls, after a warm-up of a hundredth of them, at least two."""
        if not is_integer(number, 1):
            raise BenchmarkError(f"Timer.timeit: number is {number!r:.60}, expected 1 or more")
        with self.active():
            self.seconds(max(int(number) // 100, 2))
            return Measurement(int(number), (self.seconds(int(number)),), self.label)

    def blocked_autorange(
        self, callback: Callable[[int, float], Any] | None = None, min_run_time: float = 0.2
    ) -> Measurement:
        """Blocks of as many calls as the clock needs to be exact, for `min_run_time` seconds, after a warm-up.

        `callback(number, seconds)` is called after each block.
        """
        check_number("Timer.blocked_autorange: min_run_time", min_run_time, 0, 3600)
        if callback is not None and not callable(callback):
            raise BenchmarkError(f"Timer.blocked_autorange: callback is {callback!r:.60}, expected a function")
        times: list[float] = []
        with self.active():
            cold = warm_up(self)
            number = calls_per_block(self, min_run_time / 100)
            while sum(times) < min_run_time or len(times) < 5:
                times.append(self.seconds(number))
                if callback is not None:
                    callback(number, times[-1])
        return Measurement(number, times, self.label, cold)


def warm_up(timer: Timer, calls: int = 5, seconds: float = 0.05) -> list[float]:
    """Run a statement until it had `calls` calls and `seconds`; returns the seconds of each call.

    First calls load code and data into caches, compile, or allocate: more than one may be slow.
    """
    times: list[float] = []
    while len(times) < calls or (sum(times) < seconds and len(times) < 100):
        times.append(timer.seconds(1))
    return times


def calls_per_block(timer: Timer, seconds: float) -> int:
    """1, 2, 5, 10, 20, ...: the fewest calls that take `seconds`."""
    number = 1
    for exponent in range(9):
        for factor in (1, 2, 5):
            number = factor * 10**exponent
            if timer.seconds(number) >= seconds:
                return number
    return number


def doubts(measured: Measurement) -> list[str]:
    """The reasons why a series of times should be read with care."""
    found = []
    count, factor = statistics.slow_start(measured.times)
    if count:
        first = "first block" if count == 1 else f"first {count} blocks"
        found.append(f"the {first} took {factor:.1f} times as long as the later ones: warm up first")
    change = statistics.drift(measured.times[count:])
    if change != 1:
        found.append(f"the blocks became {describe_change(change)} while it was measured: does the frequency change?")
    spread = measured.iqr / measured.median
    if spread > 0.2:
        found.append(f"the blocks differ by {spread:.0%} of their median: is the machine busy?")
    return found


def describe_change(factor: float) -> str:
    """A factor of time in words.

    >>> describe_change(1.25), describe_change(0.8)
    ('25 % slower', '20 % faster')
    """
    return (
        f"{factor - 1:.0%} slower".replace("%", " %") if factor > 1 else f"{1 - factor:.0%} faster".replace("%", " %")
    )


def duration(seconds: float) -> str:
    """Seconds with a unit and three digits.

    >>> duration(0.00123), duration(4.2e-8)
    ('1.23 ms', '42 ns')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size * 0.9995:
            return f"{seconds / size:.3g} {unit}" if seconds < size * 999.5 else f"{seconds / size:.0f} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def check_number(what: str, value: float, above: float, most: float) -> None:
    """Raise `BenchmarkError` unless `above` < value <= `most`."""
    if isinstance(value, bool) or not is_number(value) or not above < value <= most:
        raise BenchmarkError(f"{what} is {value!r:.60}, expected a number above {above} and at most {most}")


def _seconds(name: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, (Sequence, np.ndarray)) or isinstance(values, (str, bytes)):
        raise BenchmarkError(f"Measurement: {name} is {values!r:.60}, expected a list of seconds")
    fine = all(is_number(x) and not isinstance(x, bool) and x > 0 and math.isfinite(x) for x in values)
    if not fine:
        raise BenchmarkError(f"Measurement: {name} holds values that are no positive seconds: {values!r:.60}")
    return tuple([float(x) for x in values])


def _name_of(statement: Any) -> str:
    name = statement if isinstance(statement, str) else getattr(statement, "__name__", type(statement).__name__)
    return " ".join(str(name).split())[:40]
