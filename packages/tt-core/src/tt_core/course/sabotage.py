"""Solutions that are spoilt by a rule, to test that checks and milestones notice it. Used by tests alone.

A sabotage computes what the framework computes and then changes the result: zeros, half of it, the opposite sign,
reversed along the last dimension, or the first argument in its place. What returns nothing is not done.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any

import numpy as np

from tt_core.course.blanks import definitions
from tt_core.course.exercises import Exercise
from tt_core.course.folder import reference_text
from tt_core.tensor.tensor import Tensor

KINDS = ("zeros", "half", "negated", "reversed", "input")
"""How a result is changed."""


def sabotages(exercise: Exercise) -> dict[str, str]:
    """Bodies in the place of an exercise's own, by the kind of what is wrong with them.

    >>> from tt_core.exercises.activations import EXERCISES
    >>> print(sabotages(EXERCISES[0])["half"])
    def right(x):
        return np.maximum(x, 0)
    from tt_core.course.sabotage import spoilt
    return spoilt(right(x), 'half', x)
    """
    source = reference_text(exercise.file)
    node = dict(definitions(ast.parse(source)))[exercise.name]
    if isinstance(node, ast.ClassDef):
        return {"none": "pass"}
    first = node.body[1 if ast.get_docstring(node) is not None and len(node.body) > 1 else 0].lineno
    body = textwrap.dedent("\n".join(source.splitlines()[first - 1 : node.end_lineno]))
    given = node.args
    every = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    names = [argument.arg for argument in every if argument is not None]
    right = f"def right({', '.join(names)}):\n{textwrap.indent(body, '    ')}"
    call = f"right({', '.join(names)})"
    if not _gives_something(node):
        return {"none": "pass"}
    own = [name for name in names if name not in ("self", "cls", "ctx")] or names
    spoil = "from tt_core.course.sabotage import spoilt"
    first_one = own[0] if own else "None"
    return {kind: f"{right}\n{spoil}\nreturn spoilt({call}, {kind!r}, {first_one})" for kind in KINDS}


def _gives_something(function: ast.AST) -> bool:
    """Whether a function returns or yields a value."""
    found = False
    for node in ast.iter_child_nodes(function):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            continue
        found |= isinstance(node, ast.Return) and node.value is not None
        found |= isinstance(node, ast.Yield | ast.YieldFrom) or _gives_something(node)
    return found


def spoilt(value: object, kind: str, first: object) -> Any:
    """A result, changed: each number, array or text, the first part of a pair, what functions and iterators give.

    >>> spoilt(4.0, "half", None), spoilt((1, 2), "zeros", None), spoilt("ab", "reversed", None)
    (2.0, (0, 2), 'ba')
    """
    if kind == "input":
        return first
    if isinstance(value, Tensor):
        return type(value)(spoilt(value.data, kind, None))
    if isinstance(value, np.ndarray | np.generic):
        return _spoilt_array(np.asarray(value), kind)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return type(value)(_CHANGES[kind](value))
    if isinstance(value, str | bytes):
        return {"zeros": value[:0], "half": value[: len(value) // 2]}.get(kind, value[::-1])
    return _spoilt_parts(value, kind)


_CHANGES: dict[str, Callable[[Any], Any]] = {
    "zeros": lambda x: x * 0 if x else x + 1,
    "half": lambda x: x // 2 if isinstance(x, int) else x / 2,
    "negated": lambda x: -x,
    "reversed": lambda x: x + 1,
}


def _spoilt_array(value: Any, kind: str) -> Any:
    if value.dtype == np.bool_:
        return np.zeros_like(value) if kind == "zeros" else ~value
    if kind == "reversed":
        return np.ascontiguousarray(value[..., ::-1]) if value.ndim else value + 1
    if kind == "half" and value.dtype.kind != "f":
        return value // 2
    with np.errstate(all="ignore"):
        return np.asarray(_CHANGES[kind](value) if kind != "zeros" else np.zeros_like(value)).astype(value.dtype)


def _spoilt_parts(value: Any, kind: str) -> Any:
    if isinstance(value, Mapping):
        return {key: spoilt(part, kind, None) for key, part in value.items()} if kind != "zeros" else {}
    if isinstance(value, Iterator):
        return iter(()) if kind == "zeros" else (spoilt(part, kind, None) for part in value)
    if isinstance(value, FunctionType):
        return lambda *given, **options: spoilt(value(*given, **options), kind, given[0] if given else None)
    if isinstance(value, list | tuple) and value:
        if kind == "reversed" and len(value) > 1 and value[::-1] != value:
            return value[::-1]
        return type(value)([spoilt(value[0], kind, None), *value[1:]]) if type(value) in (list, tuple) else None
    return None
