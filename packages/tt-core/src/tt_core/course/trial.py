"""One run of a check. The same check runs twice: on the framework's code, and in a child process on the learner's.

Both runs draw the same inputs from the same seed, and record what they compute. `judge` compares the two records.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tt_core.course import finder

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Seen:
    """One thing that a check computed."""

    call: str
    """What was called, as Python text."""
    value: Any
    """Arrays, numbers, texts, None, and lists of these."""
    why: str = ""
    """What to look at where it is wrong."""
    rtol: float = 1e-4
    atol: float = 1e-6


@dataclass
class Raised:
    """An error that ended a check."""

    kind: str
    message: str
    place: str
    """The line of the learner's file."""
    call: str = ""
    why: str = ""


@dataclass
class Trial:
    """What a check is given: random numbers to make inputs from, and `call` and `see` to record results."""

    seed: int
    report: Callable[[Seen], None]
    calling: tuple[str, str] = ("", "")
    """The call that is running, and what to look at when it fails."""
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def normal(self, *shape: int, dtype: Any = np.float32) -> Array:
        """Normally distributed numbers."""
        return self.rng.standard_normal(shape).astype(dtype)

    def call(self, function: Callable[..., Any], *arguments: Any, why: str = "", **options: Any) -> Any:
        """Call the function and record its result; returns it."""
        text = call_text(function, arguments, options)
        self.calling = text, why
        value = function(*arguments, **options)
        self.see(text, value, why)
        return value

    def see(self, text: str, value: object, why: str = "", rtol: float = 1e-4, atol: float = 1e-6) -> None:
        """Record a value under the text of what was computed."""
        self.report(Seen(text, plain(value), why, rtol, atol))

    def show(self, text: str, compute: Callable[[], Any], why: str = "", rtol: float = 1e-4, atol: float = 1e-6) -> Any:
        """Compute a value and record it under the text of what was computed; returns it."""
        self.calling = text, why
        value = compute()
        self.see(text, value, why, rtol, atol)
        return value

    def step(self, text: str, why: str = "") -> None:
        """Say what comes next, for the message of an error in it."""
        self.calling = text, why


def plain(value: object) -> Any:
    """Tensors as arrays, and arrays copied; lists and tuples of these as lists.

    >>> plain((1, [np.float32(2)], None))
    [1, [array(2., dtype=float32)], None]
    """
    if isinstance(value, bool | int | float | str | type(None)):
        return value
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return [[str(key), plain(part)] for key, part in value.items()]
    data = array_of(value)
    return np.array(data) if data is not None else f"<{type(value).__name__}>"


def array_of(value: object) -> Any:
    """The array of a tensor, an array itself, or None for anything else."""
    data = value if isinstance(value, np.ndarray | np.generic) else getattr(value, "data", None)
    return data if isinstance(data, np.ndarray | np.generic) else None


def call_text(function: object, arguments: tuple[Any, ...], options: dict[str, Any]) -> str:
    """A call as Python text, with small arrays written out.

    >>> call_text(np.add, (np.zeros(2), 1), {"dtype": "f4"})
    "add([0., 0.], 1, dtype='f4')"
    """
    name = str(getattr(function, "__qualname__", type(function).__name__))
    parts = [short(argument) for argument in arguments] + [f"{key}={short(value)}" for key, value in options.items()]
    return f"{name.replace('<lambda>', 'f')}({', '.join(parts)})"


def short(value: object, limit: int = 160) -> str:
    """A value as text; an array that is too long is told by its shape, a function by its name.

    >>> short(np.arange(3.0)), short(np.zeros((100, 100))), short(len)
    ('[0., 1., 2.]', 'array of shape (100, 100)', 'len')
    """
    data = array_of(value)
    if data is not None:
        array = np.asarray(data)
        if array.size <= 24:
            text = np.array2string(array, separator=", ", precision=4, max_line_width=10**6, floatmode="maxprec")
            text = re.sub(r" +(?=[],])", "", " ".join(text.split())).replace("[ ", "[")
            return text if len(text) <= limit else f"array of shape {array.shape}"
        return f"array of shape {array.shape}"
    name = getattr(value, "__name__", None) if callable(value) else None
    text = str(name) if name else " ".join(repr(value).split())
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def attempt(check: Callable[[Trial], None], seed: int, report: Callable[[Seen], None], mine: str = "") -> Raised | None:
    """Run a check; the error that ended it, or None. `mine` is the path of the learner's file."""
    trial = Trial(seed, report)
    try:
        check(trial)
    except Exception as error:
        line = _line_in(error, mine)
        place = f"line {line}" if line else ""
        call, why = trial.calling
        first = finder.unwritten(error) or error
        return Raised(type(first).__name__, " ".join(str(first).split())[:400], place, call, why)
    return None


def _line_in(error: BaseException | None, file: str) -> int | None:
    """The innermost line of `file` that led to an error, or to the errors that it was made of."""
    while error is not None:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        if lines:
            return lines[-1]
        error = error.__cause__ or error.__context__
    return None
