"""Definitions that may replace an older one; all others are errors.

A notebook cell that runs twice defines in `__main__` what it has defined before. A learner's file from an older version
may define what the framework has moved to another file of the same module since.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

from tt_core.course import finder

if TYPE_CHECKING:
    pass

_noticed: set[str] = set()


def redefined(what: str, old: object, new: object) -> bool:
    """Whether `new` may replace `old`: it comes from the same cell in `__main__`, or one of them from a learner's file.

    `what` names the thing in the warning, which comes the first time that a cell replaces it. Functions and classes are
    compared themselves, other objects by their type.

    >>> redefined("op double", redefined, redefined)  # not from `__main__`
    False
    """
    origin = _origin(new)
    if finder.moved(_origin(old)[0], origin[0]):
        return True
    if origin[0] != "__main__" or origin != _origin(old):
        return False
    if what not in _noticed:
        _noticed.add(what)
        warnings.warn(f"{what} is defined again in __main__ and replaces the old one", stacklevel=_level_of_main())
    return True


def _level_of_main() -> int:
    """The `stacklevel` with which a warning of the caller names the line of `__main__` that is running."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") != "__main__":
        level, frame = level + 1, frame.f_back
    return level


def _origin(thing: Any) -> tuple[Any, Any]:
    """The module and the qualified name of a function, of a class, or of an object's class."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return getattr(named, "__module__", None), named.__qualname__
