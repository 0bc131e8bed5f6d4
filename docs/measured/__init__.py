"""The numbers and pictures of the site, made when it is built. `tools/site.py` puts them into the pages."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np


def number(low: float, high: float, form: str = ".2g") -> Callable[[Callable[[], float]], Callable[[], float]]:
    """A function that measures a number for a page; the build fails unless it lies between `low` and `high`."""

    def mark(function: Any) -> Any:
        function.kind, function.low, function.high, function.format = "number", low, high, form
        return function

    return mark


def picture(function: Any) -> Any:
    """A function that returns a picture as SVG text; the first line of its docstring describes it."""
    function.kind = "picture"
    return function


def seconds(call: Callable[[], Any], rounds: int = 9) -> float:
    """The median time of a call."""
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def fastest(*calls: Callable[[], Any], rounds: int = 15) -> list[float]:
    """The shortest time of each call, which take turns, so that a busy machine changes their ratio little."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - start)
    return best
