"""What an exercise is: a function of the framework whose body the learner writes, with hints, points and checks.

The exercises of a module stand in `PACKAGE/exercises/MODULE.py`, as data beside the module: a tuple `EXERCISES`, in the
order in which to solve them. A check is a function that is given a `Trial`; its docstring says what it shows.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.command.journey import Module

if TYPE_CHECKING:
    from tt_core.course.trial import Trial


@dataclass(frozen=True)
class Exercise:
    """One function or method to write."""

    name: str
    """Its name in the file, such as `softmax` or `Linear.forward`."""
    file: str
    """The dotted name of the Python module that holds it, such as `tt_core.activations`."""
    points: int
    hints: tuple[str, str, str]
    """From a nudge to an outline."""
    checks: tuple[Callable[[Trial], None], ...]
    """From easy to hard."""
    helpers: tuple[str, ...] = ()
    """Functions that only the solution needs; they are taken out too."""
    timed: Callable[[], Callable[[], Any]] | None = field(default=None, repr=False)
    """Makes a call of the function at a size where its speed shows."""


def timing(function: Callable[..., Any], *given: Any, **options: Any) -> Callable[[], Callable[[], Any]]:
    """What to time: a call of `function` on random float32 arrays of the given shapes, other arguments unchanged.

    >>> timing(np.matmul, (2, 3), (3, 2))()().shape
    (2, 2)
    """

    def make() -> Callable[[], Any]:
        draw = np.random.default_rng(0)
        inputs = [draw.standard_normal(x).astype(np.float32) if isinstance(x, tuple) else x for x in given]
        return lambda: function(*inputs, **options)

    return make


def floats(*values: Any) -> Any:
    """A float32 array of the given numbers or rows, for a check."""
    return np.array(values, np.float32)


def doubles(*values: Any) -> Any:
    """The same in float64."""
    return np.array(values, np.float64)


def counted(*shape: int) -> Any:
    """The numbers 0, 1, 2, ... in a float32 array of this shape."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def exercises_of(module: Module) -> tuple[Exercise, ...]:
    """The exercises of a module, in order; none where it has no exercises.

    >>> [exercise.name for exercise in exercises_of(Module(2, "activations", 1, "", "tt_core.activations"))][:2]
    ['relu', 'leaky_relu']
    """
    package = module.path.partition(".")[0]
    name = f"{package}.exercises.{module.name}"
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # the package has no folder of exercises
        return ()
    return () if found is None else exercises_at(name)


def count_of(module: Module) -> int:
    """How many exercises a module has, without importing its package: by the entries of the tuple `EXERCISES`.

    >>> count_of(Module(2, "activations", 1, "", "tt_core.activations"))
    7
    """
    package = importlib.util.find_spec(module.path.partition(".")[0])
    for place in (package and package.submodule_search_locations) or ():
        path = Path(place, "exercises", f"{module.name}.py")
        if path.is_file():
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assigned = [x for x in body if isinstance(x, ast.Assign) and isinstance(x.value, ast.Tuple)]
            named = [x.value for x in assigned if "EXERCISES" in {getattr(target, "id", "") for target in x.targets}]
            return sum(len(value.elts) for value in named if isinstance(value, ast.Tuple))
    return 0


def exercises_at(name: str) -> tuple[Exercise, ...]:
    """The exercises of the Python module `name`, such as `tt_core.exercises.activations`."""
    return tuple(importlib.import_module(name).EXERCISES)


def files_of(module: Module) -> tuple[str, ...]:
    """The dotted names of the files that a learner writes for a module, in order.

    >>> files_of(Module(2, "activations", 1, "", "tt_core.activations"))
    ('tt_core.activations',)
    """
    return tuple(dict.fromkeys(exercise.file for exercise in exercises_of(module)))
