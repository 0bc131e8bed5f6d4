"""The journey's rows: the twenty modules and the milestones, which each package brings for its own act."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Module:
    """One of the twenty modules: its number, name, act, the capability it gives, and where its file is."""

    number: int
    name: str
    act: int
    capability: str
    path: str
    """Dotted name of the Python module."""


@dataclass(frozen=True)
class Milestone:
    """A moment of history to run again with what was built so far."""

    name: str
    year: int
    title: str
    act: int
    run: Callable[..., None]
    """Called as `run(data_dir=Path | None, out=Path)`; prints what it measured, raises when it fell short."""


def act_name(act: int) -> str:
    """The title of an act.

    >>> act_name(1)
    'I Foundation'
    """
    return ("I Foundation", "II Learning", "III Data & Scale", "IV Language", "V Production", "VI Integration")[act - 1]


def in_data_dir(data_dir: Path | None, *parts: str) -> Path | None:
    """The file or folder below `data_dir` if it exists there."""
    path = data_dir.joinpath(*parts) if data_dir else None
    return path if path and path.exists() else None
