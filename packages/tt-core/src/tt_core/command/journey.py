"""The rows of the journey: the twenty modules and the milestones. Each package adds those of its act."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tt_core.engine.errors import ArgumentError, TinyTorchError


@dataclass(frozen=True)
class Module:
    """One of the twenty modules: its number, name, act, the capability it adds, and its Python module."""

    number: int
    name: str
    act: int
    capability: str
    path: str
    """Dotted name of the Python module."""
    builds: str = ""
    """What the learner writes."""
    insight: str = ""
    """What it teaches about the cost of a system."""
    why: str = ""
    """Why it comes now."""

    @property
    def tier(self) -> str:
        """Foundation (01 to 07), Architecture (08 to 13) or Optimization (14 to 20).

        >>> Module(8, "dataloader", 3, "load data", "tt_data.dataloader").tier
        'Architecture'
        """
        return TIERS[(self.number > 7) + (self.number > 13)]


TIERS = ("Foundation", "Architecture", "Optimization")


@dataclass(frozen=True)
class Act:
    """One of the six acts."""

    number: int
    name: str
    package: str
    hours: str
    shift: str
    """What changes with it."""


ACTS = (
    Act(1, "I Foundation", "tt-core", "8-12", "parts that compute, and cannot learn yet"),
    Act(2, "II Learning", "tt-learn", "6-9", "gradients wake them up; the hardest act"),
    Act(3, "III Data & Scale", "tt-data", "6-8", "data larger than memory, and structure in space"),
    Act(4, "IV Language", "tt-language", "12-15", "sequences, attention, the way to GPT"),
    Act(5, "V Production", "tt-perf", "18-24", "measure, then make it small and fast; the broadest act"),
    Act(6, "VI Integration", "tinygpt", "8-10", "one system of everything, and no new technique"),
)


@dataclass(frozen=True)
class TryIt:
    """A model to play with after its milestone: what to type, and the answer to what was typed."""

    question: str
    answer: Callable[[str], str]


@dataclass(frozen=True)
class Milestone:
    """A milestone of history, repeated with the modules built so far."""

    name: str
    year: int
    title: str
    act: int
    run: Callable[..., TryIt | None]
    """Called as `run(data_dir=Path | None, out=Path)`; prints what it measured, raises when it fell short."""
    takes: str = ""
    """What it does and how long that takes on two cores, in one line; printed before anything is imported."""


def act_name(act: int) -> str:
    """The title of an act.

    >>> act_name(1)
    'I Foundation'
    """
    return ACTS[act - 1].name


class Shortfall(TinyTorchError):
    """A milestone that did not reach what it claims."""


def require(milestone: str, what: str, reached: float, needed: float) -> None:
    """Raise `Shortfall` unless `reached` is at least `needed`; both are shares of 1.

    >>> require("xor", "accuracy of two layers", 1.0, 1.0)
    """
    if not reached >= needed:
        raise Shortfall(f"{milestone}: {what} is {reached:.2%}, {needed:.0%} was to be reached")


def deferred(where: str) -> Callable[..., Any]:
    """The function `"package.module:name"`, imported when it is called: a command's list of names stays quick.

    >>> deferred("math:sqrt")(9)
    3.0
    """

    def call(*arguments: Any, **options: Any) -> Any:
        return pkgutil.resolve_name(where)(*arguments, **options)

    return call


def numbers_in(text: str, count: int) -> list[float]:
    """The numbers in a line that a user typed; raises `ArgumentError` unless there are `count`.

    >>> numbers_in("1.5, -2", 2)
    [1.5, -2.0]
    """
    try:
        found = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        found = []
    if len(found) != count:
        raise ArgumentError(f"{text!r}: type {count} number{'s' * (count > 1)}")
    return found


def in_data_dir(data_dir: Path | None, *parts: str) -> Path | None:
    """The file or folder below `data_dir` if it exists there, else None.

    >>> in_data_dir(Path("no-such-folder"), "mnist") is None
    True
    """
    path = data_dir.joinpath(*parts) if data_dir else None
    return path if path and path.exists() else None
