"""What the scripts of this folder share: a table of figures that were promised and measured."""

from __future__ import annotations

import time
from collections.abc import Callable

import tt_core


class Figures:
    """Prints a line for each figure as it is measured, and knows whether one was missed.

    >>> figures = Figures()
    >>> figures.at_most("bytes, int8", 0.2604, 0.27)
    kept    bytes, int8                                                    0.260  <= 0.27
    >>> figures.missed
    []
    """

    def __init__(self) -> None:
        self.missed: list[str] = []

    def at_most(self, name: str, value: float, limit: float, form: str = ".3f") -> None:
        """A figure that must not be above `limit`."""
        self._row(name, value, f"<= {limit:g}", value <= limit, form)

    def at_least(self, name: str, value: float, limit: float, form: str = ".3f") -> None:
        """A figure that must not be below `limit`."""
        self._row(name, value, f">= {limit:g}", value >= limit, form)

    def _row(self, name: str, value: float, wanted: str, kept: bool, form: str) -> None:
        if not kept:
            self.missed.append(name)
        print(f"{'kept' if kept else 'MISSED':6}  {name:58} {value:>9{form}}  {wanted}", flush=True)

    def exit_code(self) -> int:
        """1 where a figure was missed."""
        return 1 if self.missed else 0


def time_ratio(new: Callable[[], object], old: Callable[[], object], rounds: int = 9) -> float:
    """Processor time of `new` over that of `old` on one thread: the least of `rounds` in which they take turns.

    So what other programs take does not count; several threads would add the time that they wait for each other.
    """
    threads = tt_core.get_num_threads()
    tt_core.set_num_threads(1)
    try:
        for call in (new, old):
            call()  # compiles, and fills caches
        seconds: dict[Callable[[], object], list[float]] = {new: [], old: []}
        for i in range(rounds):
            for call in (new, old) if i % 2 else (old, new):
                start = time.process_time()
                call()
                seconds[call].append(time.process_time() - start)
        return min(seconds[new]) / min(seconds[old])
    finally:
        tt_core.set_num_threads(threads)
