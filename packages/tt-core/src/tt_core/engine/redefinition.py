"""Notebook cells that run twice: a definition in `__main__` replaces the old one, anywhere else it is an error."""

from __future__ import annotations

import warnings
from typing import Any

_noticed: set[str] = set()


def redefined(what: str, old: Any, new: Any) -> bool:
    """Whether `new` defines `old` again in `__main__`, under the same qualified name; warns the first time.

    `what` names the thing in the warning. Functions and classes are compared themselves, other objects by their type.

    >>> redefined("op double", redefined, redefined)  # not from `__main__`
    False
    """
    origin = _origin(new)
    if origin[0] != "__main__" or origin != _origin(old):
        return False
    if what not in _noticed:
        _noticed.add(what)
        warnings.warn(f"{what} is defined again in __main__ and replaces the old one", stacklevel=4)
    return True


def _origin(thing: Any) -> tuple[Any, Any]:
    """The module and the qualified name of a function, of a class, or of an object's class."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return getattr(named, "__module__", None), named.__qualname__
