"""The errors a user can act on: each is one line that says what was given, what was expected, what to do.

A command prints a `TinyTorchError` without a traceback and exits with 1. Any other exception is a bug of the framework.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

if TYPE_CHECKING:
    from tt_core.engine.protocols import Array
    from tt_core.tensor.tensor import Tensor


class TinyTorchError(Exception):
    """An error that a user can act on, in one line.

    >>> from tt_core import zeros
    >>> try:
    ...     zeros(2, 3) @ zeros(2, 3)
    ... except TinyTorchError as error:
    ...     print(type(error).__name__, error)
    ShapeError matmul: a has rows of 3, b has columns of 2; they must be of one length (a (2, 3), b (2, 3))
    """

    def __str__(self) -> str:
        text = super().__str__()
        return " ".join(text.split()) if "\n" in text else text  # arrays are printed over several lines


class ShapeError(TinyTorchError, ValueError):
    """Shapes or values that do not fit together."""


class ArgumentError(TinyTorchError, ValueError):
    """A value that an argument does not take: a seed, a mode, a probability, an option."""


class OutOfMemoryError(TinyTorchError, MemoryError):
    """An array that does not fit in memory."""


class DTypeError(TinyTorchError, TypeError):
    """A dtype or a Python type that the operation does not take."""


class OutOfRangeError(TinyTorchError, IndexError):
    """An index outside the dimension it selects from."""


class PluginError(TinyTorchError):
    """A plugin that is unknown, does not load, or answers a hook that does not exist."""


class FileError(TinyTorchError, OSError):
    """A file that cannot be read or written."""


_OURS = (
    (IndexError, OutOfRangeError),
    (TypeError, DTypeError),
    (MemoryError, OutOfMemoryError),
    ((ValueError, OverflowError, FloatingPointError), ShapeError),  # the last: integers divided by zero
)


def kind_of(error: Exception) -> type[TinyTorchError] | None:
    """The framework's class for an error of NumPy's or of its own; None for an error that a user cannot act on.

    >>> kind_of(IndexError()).__name__
    'OutOfRangeError'
    """
    if isinstance(error, TinyTorchError):
        return type(error)
    return next((ours for theirs, ours in _OURS if isinstance(error, theirs)), None)


def check_floats(x: Tensor | Array) -> None:
    """Raises `DTypeError` for an array of integers or booleans, which would be truncated or rounded silently."""
    if x.dtype.kind != "f":
        raise DTypeError(f"needs a floating dtype, got {x.dtype}; call .float() first")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: similar known names, or all known names.

    >>> did_you_mean("profilr", ["jit", "profiler"])
    'did you mean profiler?'
    >>> did_you_mean("xyz", ["jit", "profiler"])
    'known: jit, profiler'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"


def is_integer(value: object, least: int) -> TypeGuard[int]:
    """Whether `value` is an integer, Python's or NumPy's, of at least `least`.

    >>> is_integer(3, 1), is_integer(0, 1), is_integer(2.0, 1)
    (True, False, False)
    """
    return isinstance(value, (int, np.integer)) and int(value) >= least


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a real number, Python's or NumPy's, and not a boolean.

    >>> is_number(3), is_number(np.float32(0.5)), is_number(True), is_number("3")
    (True, True, False, False)
    """
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def shown(value: object) -> str:
    """A value in one short line, for the end of a message.

    >>> shown(-1), shown("text"), shown(np.zeros((2, 3)))
    ('-1', "'text'", 'an array of shape (2, 3)')
    """
    if hasattr(value, "shape") and getattr(value, "shape", ()) != ():
        return f"{'an array' if isinstance(value, np.ndarray) else 'a tensor'} of shape {tuple(value.shape)}"
    if value is None or isinstance(value, (str, int, float, complex, np.generic, list, tuple, dict, bytes)):
        text = " ".join(reprlib.repr(value).split())
        return text if len(text) <= 60 else f"{text[:57]}..."
    if isinstance(value, np.dtype):
        return f"the dtype {value}"
    return an(type(value).__name__) if not isinstance(value, type) else f"the class {value.__name__}"


def an(noun: str) -> str:
    """`noun` with its article.

    >>> an("tensor"), an("int")
    ('a tensor', 'an int')
    """
    return f"an {noun}" if noun[:1] in "aeiouAEIO" else f"a {noun}"
