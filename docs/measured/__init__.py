"""The numbers and pictures of the site, made when it is built. `tools/site.py` puts them into the pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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
