"""Grad modes: whether op calls are recorded, per thread, as a block or as a decorator."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Generator
from typing import Any, ClassVar, TypeVar, cast

from tt_core.engine.arguments import checked

F = TypeVar("F", bound=Callable[..., Any])


class _Recording(threading.local):
    on = True


recording = _Recording()
"""`recording.on` tells whether this thread records; backward and the plugin read it at each call."""


class GradMode:
    """A block, or a decorated function, in which recording is on or off."""

    def __init__(self, mode: bool) -> None:
        self._mode = mode
        self._before: list[bool] = []  # a stack, because one object may be entered again inside itself

    def __enter__(self) -> None:
        self._before.append(recording.on)
        recording.on = self._mode

    def __exit__(self, *_: object) -> None:
        recording.on = self._before.pop()

    @checked
    def __call__(self, function: F) -> F:
        """Decorates `function`; every call has a stack of its own, because threads may call it at the same time."""
        decorate = _decorated_generator if inspect.isgeneratorfunction(function) else _decorated
        return cast(F, functools.wraps(function)(decorate(function, self._mode)))


def _decorated(function: Callable[..., Any], mode: bool) -> Callable[..., Any]:
    def run(*inputs: Any, **options: Any) -> Any:
        with GradMode(mode):
            return function(*inputs, **options)

    return run


def _decorated_generator(function: Callable[..., Any], mode: bool) -> Callable[..., Any]:
    """The generator's body runs in the mode; the code that reads from it and sends to it does not."""

    def run(*inputs: Any, **options: Any) -> Generator[Any, Any, Any]:
        sent = None
        with contextlib.closing(function(*inputs, **options)) as steps:
            while True:
                try:
                    with GradMode(mode):
                        value = steps.send(sent)
                except StopIteration as end:
                    return end.value
                sent = yield value

    return run


class _FixedMode(GradMode):
    """A mode under its own name; the decorator works with and without parentheses."""

    mode: ClassVar[bool]

    def __new__(cls, function: Any = None) -> Any:
        if function is None:
            return super().__new__(cls)
        if not callable(function):
            given, name = type(function).__name__, cls.__name__
            raise TypeError(f"{name}: decorates a function, got {given}; or write `with {name}():`")
        return cls()(function)

    def __init__(self) -> None:
        super().__init__(self.mode)


class no_grad(_FixedMode):
    """Disables recording in a block or a decorated function.

    >>> from tt_learn import Tensor
    >>> x = Tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (x * 2).requires_grad
    False
    """

    mode = False


class enable_grad(_FixedMode):
    """Enables recording in a block or a decorated function, also inside `no_grad`.

    >>> from tt_learn import Tensor
    >>> x = Tensor([1.0], requires_grad=True)
    >>> with no_grad(), enable_grad():
    ...     (x * 2).requires_grad
    True
    """

    mode = True


def is_grad_enabled() -> bool:
    """Returns whether this thread records op calls now.

    >>> with no_grad():
    ...     is_grad_enabled()
    False
    """
    return recording.on


class inference_mode(GradMode):
    """Same as `no_grad`; with `mode=False`, a block that changes nothing.

    >>> from tt_learn import tensor
    >>> x = tensor([1.0], requires_grad=True)
    >>> with inference_mode():
    ...     (x * 2).requires_grad
    False
    """

    def __new__(cls, mode: Any = True) -> Any:
        if callable(mode):  # as a decorator without parentheses
            return cls()(mode)
        return super().__new__(cls)

    @checked
    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode and recording.on)


class set_grad_enabled(GradMode):
    """Turns recording on or off from now on, or for a block or a decorated function.

    >>> with set_grad_enabled(False):
    ...     is_grad_enabled()
    False
    >>> is_grad_enabled()
    True
    """

    @checked
    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        super().__enter__()

    def __enter__(self) -> None:
        if not self._before:  # it was left, and is entered again
            super().__enter__()

    @checked
    def __call__(self, function: F) -> F:
        self.__exit__()
        return super().__call__(function)
