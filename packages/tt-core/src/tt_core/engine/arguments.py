"""Checks arguments against the type hints of a function, so that the hints are the only description of its arguments.

`@checked` is for constructors and functions that are not called in inner loops. Ops do not use it: their kernels raise
the errors, and `failures.py` adds the name of the op. Functions check ranges of values (`lr >= 0`) themselves.
"""

from __future__ import annotations

import collections.abc
import contextlib
import functools
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np

from tt_core.engine.errors import (
    ArgumentError,
    DTypeError,
    OutOfMemoryError,
    ShapeError,
    TinyTorchError,
    is_number,
    kind_of,
    shown,
)

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")
Check = Callable[[Any], bool]
_Checked = tuple[str, frozenset[type], Check]
"""A parameter, the types whose values all fit it, and the check of all others."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: raises `DTypeError` for an argument that does not fit its type hint.

    A float accepts any real number except booleans, an int any integer, a bool also 0 and 1. NumPy's numbers are
    accepted too. Text is not a sequence, and a list is accepted for a tuple of its length. Parameters without a hint,
    or with `Any`, are not checked.

    >>> @checked
    ... def scale(x: float, times: int = 1) -> float:
    ...     return x * times
    >>> scale(2, times=3)
    6
    >>> scale("2")
    Traceback (most recent call last):
        ...
    tt_core.engine.errors.DTypeError: scale: x is a number, got '2'
    """
    checks = _Checks(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs or len(args) > checks.first:  # a call without arguments to check pays nothing
            checks.run(args, kwargs)
        try:
            return function(*args, **kwargs)
        except AttributeError as error:
            given = dict(zip(checks.names, args)) | kwargs
            what = next((name for name, value in given.items() if value is error.obj), None)
            if what in (None, "self", "cls") or hasattr(error.obj, "dtype") or isinstance(error.obj, types.ModuleType):
                raise  # a missing attribute of a tensor or a module is not the caller's fault
            fact = f"{what} cannot be {shown(error.obj)}, which has no {error.name}"
            raise DTypeError(f"{_where(function, args)}: {fact}") from None
        except (MemoryError, OverflowError, ValueError) as error:
            ours = _kind_of(error)
            if ours is None:
                raise
            raise ours(f"{_where(function, args)}: {error}") from None

    return call


class _Checks:
    """The checks of a function's arguments, read from its hints at the first call, when every name is defined.

    With `tensors`, a tensor without dimensions stands for a number, as in PyTorch's functions.
    """

    def __init__(self, function: Callable[..., Any], tensors: bool = False) -> None:
        self.function, self.tensors = function, tensors
        code = function.__code__
        self.names = code.co_varnames[: code.co_argcount]
        self.star = code.co_varnames[code.co_argcount + code.co_kwonlyargcount] if code.co_flags & 0x04 else ""
        self.first = -1
        """How many parameters stand before the first one to check; -1 before the hints are read."""
        self.hints: dict[str, Any] = {}
        self.by_name: dict[str, _Checked] = {}
        self.in_order: list[_Checked] = []

    def _read(self) -> None:
        self.hints = hints = _hints(self.function)
        self.by_name = {name: (name, _sure(hint), check(hint)) for name, hint in hints.items()}
        self.in_order = [self.by_name.get(name, _UNCHECKED) for name in self.names]
        checked = [i for i, name in enumerate(self.names) if name in hints]
        # last, since other threads take it as the sign that everything is read
        self.first = min(checked, default=len(self.names) if self.star in hints else sys.maxsize)

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise `DTypeError` for the first argument that does not fit its hint."""
        if self.first < 0:
            self._read()
        if not self.by_name:
            return
        for (name, sure, fits), value in zip(self.in_order, args):
            if type(value) not in sure and not self._takes(value, fits):
                self._refuse(args, kwargs, name, value)
        if self.star in self.by_name:
            for value in args[len(self.names) :]:
                if not self._takes(value, self.by_name[self.star][2]):
                    self._refuse(args, kwargs, self.star, value)
        for given, value in kwargs.items():
            name, sure, fits = self.by_name.get(given, _UNCHECKED)
            if type(value) not in sure and not self._takes(value, fits):
                self._refuse(args, kwargs, name, value)

    def _takes(self, value: Any, fits: Check) -> bool:
        return fits(value) or (self.tensors and _is_number_tensor(value))

    def _refuse(self, args: tuple[Any, ...], kwargs: dict[str, Any], name: str, value: Any) -> NoReturn:
        """Raise `DTypeError`, or for what takes options or a state its own error for such a value."""
        function = self.function
        if function.__name__ in ("__init__", "load_state_dict", "add_param_group", "from_dict"):
            try:
                function(*args, **kwargs)
            except TinyTorchError:
                raise
            except Exception:  # what would have been a foreign traceback
                pass
        raise DTypeError(f"{_where(function, args)}: {name} is {describe(self.hints[name])}, got {shown(value)}")


def explained(function: Callable[P, R], name: str = "") -> Callable[P, R]:
    """Decorator for compositions of ops: an error that Python or NumPy raises inside is one of ours and names it.

    Arguments are checked as by `checked`, but a tensor without dimensions stands for a number.

    >>> @explained
    ... def twice(x):
    ...     return x.repeat(2)
    >>> twice(3)
    Traceback (most recent call last):
        ...
    tt_core.engine.errors.DTypeError: twice: 'int' object has no attribute 'repeat'
    """

    checks = _Checks(function, tensors=True)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            if kwargs or len(args) > checks.first:
                checks.run(args, kwargs)
            return function(*args, **kwargs)
        except TinyTorchError:
            raise
        except (AttributeError, TypeError, ValueError, IndexError, ArithmeticError, MemoryError) as error:
            ours = DTypeError if isinstance(error, AttributeError) else kind_of(error) or ArgumentError
            raise ours(f"{name or function.__name__}: {error}") from None

    return call


def explained_methods(owner: type[C]) -> type[C]:
    """Class decorator: `explained` for every method."""
    for name, method in list(vars(owner).items()):
        if isinstance(method, types.FunctionType):
            setattr(owner, name, explained(method, name))
    return owner


def _kind_of(error: Exception) -> type[TinyTorchError] | None:
    """Our class for what a size or a number that is too large, or a ragged list, makes Python or NumPy raise."""
    if isinstance(error, TinyTorchError):
        return None
    if isinstance(error, MemoryError):
        return OutOfMemoryError
    if isinstance(error, OverflowError):
        return ArgumentError
    if "inhomogeneous" in str(error):
        return ShapeError
    return OutOfMemoryError if any(words in str(error) for words in ("is too big", "Maximum allowed dim")) else None


def _hints(function: Any) -> dict[str, Any]:
    """The hints that say something, by parameter; those that only type checkers can read say nothing."""
    hints: dict[str, Any] = {}
    for name, hint in function.__annotations__.items():
        one = types.SimpleNamespace(__annotations__={name: hint})
        with contextlib.suppress(NameError):
            hints |= typing.get_type_hints(one, function.__globals__)
    return {name: hint for name, hint in hints.items() if hint is not Any and name != "return"}


def _where(function: Any, args: tuple[Any, ...]) -> str:
    """What was called, as a message names it."""
    where = function.__name__
    first = function.__code__.co_varnames[:1]
    if args and first in (("self",), ("cls",)):
        owner = type(args[0]).__name__ if first == ("self",) else args[0].__name__
        return owner if where == "__init__" else f"{owner}.{where}"
    return where


@functools.cache
def check(hint: object) -> Check:
    """A function that says whether a value is what a type hint says.

    >>> from collections.abc import Sequence
    >>> check(int | None)(3), check(Sequence[str])("ab"), check(tuple[float, float])([1, 2.5])
    (True, False, True)
    """
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if isinstance(hint, TypeVar):
        return check(hint.__bound__ or Any)
    kind: Any = typing.get_origin(hint) or hint
    inner = typing.get_args(hint)
    if kind is typing.Union or kind is types.UnionType:
        options = tuple(check(option) for option in inner)
        return lambda value: any(option(value) for option in options)
    if kind is collections.abc.Callable:
        return callable
    if kind is Any or not isinstance(kind, type) or getattr(kind, "_is_protocol", False):  # or a type variable
        return lambda value: True
    if kind is tuple:
        return _check_tuple(inner)
    if kind in _SERIES:
        return _check_series(inner)
    if kind is collections.abc.Mapping or kind is dict:
        key, entry = map(check, inner or (Any, Any))
        return lambda value: isinstance(value, Mapping) and all(key(k) and entry(value[k]) for k in value)
    return lambda value: isinstance(value, kind)


def _sure(hint: Any) -> frozenset[type]:
    """The types whose values all fit a hint, to be found without a call."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return frozenset().union(*map(_sure, typing.get_args(hint)))
    return frozenset(_SURE.get(hint, ()))


def _check_tuple(inner: tuple[Any, ...]) -> Check:
    if len(inner) == 2 and inner[1] is ...:
        part = check(inner[0])
        return lambda value: isinstance(value, (tuple, list)) and all(map(part, value))
    parts = tuple(check(each) for each in inner)

    def fits(value: Any) -> bool:
        right = isinstance(value, (tuple, list)) and len(value) == len(parts)
        return right and all(part(entry) for part, entry in zip(parts, value))

    return fits


def _check_series(inner: tuple[Any, ...]) -> Check:
    """Anything that can be walked but text and dictionaries; the entries are looked at in lists and tuples."""
    part = check(inner[0]) if inner else check(Any)

    def fits(value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return all(map(part, value))
        if hasattr(value, "dtype"):
            kinds = _KINDS.get(inner[0], "") if inner and inner[0] is not Any else "fiubU"
            return value.ndim > 0 and value.dtype.kind in kinds
        walked = hasattr(value, "__iter__") or hasattr(value, "__getitem__")
        return walked and not isinstance(value, (str, bytes, Mapping, type))

    return fits


def _is_integer(value: Any) -> bool:
    return type(value) is int or (isinstance(value, (int, np.integer)) and not isinstance(value, bool))


def _is_number_tensor(value: Any) -> bool:
    return getattr(value, "shape", None) == () and getattr(getattr(value, "dtype", None), "kind", "") in tuple("fiub")


def _is_flag(value: Any) -> bool:
    return value is True or value is False or isinstance(value, np.bool_) or (_is_integer(value) and value in (0, 1))


_SIMPLE: dict[Any, Check] = {
    int: _is_integer,
    float: is_number,
    bool: _is_flag,
    str: lambda value: isinstance(value, str),
    type(None): lambda value: value is None,
}
_SURE: dict[Any, tuple[type, ...]] = {
    int: (int,),
    float: (float, int),
    bool: (bool,),
    str: (str,),
    type(None): (type(None),),
}
_UNCHECKED: _Checked = ("", frozenset(), lambda value: True)
_SERIES = {collections.abc.Sequence, collections.abc.Iterable, list}
_KINDS = {int: "iu", float: "fiu", bool: "b", str: "U"}
"""The kinds of arrays that are accepted for a sequence of these types."""
_WORDS = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "a text",
    type(None): "None",
    os.PathLike: "a path",
    collections.abc.Callable: "a function",
    collections.abc.Mapping: "a dictionary",
    dict: "a dictionary",
}
_PLURALS = {int: "integers", float: "numbers", str: "texts", bool: "flags"}


def describe(hint: object) -> str:
    """A type hint in words.

    >>> from collections.abc import Sequence
    >>> describe(int | None), describe(Sequence[float]), describe(tuple[int, int])
    ('an integer or None', 'a list of numbers', 'a pair of integers')
    """
    if isinstance(hint, TypeVar):
        return describe(hint.__bound__)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        options = sorted(inner, key=lambda option: option is type(None))  # None is named last
        return " or ".join(dict.fromkeys(map(describe, options)))
    kind = origin or hint
    if kind in _WORDS:
        return _WORDS[kind]
    several = {2: "a pair", 3: "a triple"}.get(len(inner), "a tuple") if kind is tuple else "a list"
    if kind is tuple or kind in _SERIES:
        part = next((p for p in inner if p is not ...), Any)
        return f"{several} of {_PLURALS[part]}" if part in _PLURALS else several
    name = getattr(kind, "__name__", str(kind))
    return f"an {name}" if name[0] in "AEIOU" else f"a {name}"
