"""Grad modes: whether op calls are recorded, per thread, as a block or as a decorator.

`inference_mode` and `set_grad_enabled` are in `mode_variants.py`.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, ClassVar

from tt_core.engine.arguments import checked
from tt_learn.autograd.decorated import F, decorated


class _Recording(threading.local):  # per thread: a loader's thread must not switch the training loop's recording
    on = True


recording = _Recording()
"""`recording.on` is true if this thread records; backward and the plugin read it at each call."""


class GradMode:
    """A block, or a decorated function, in which recording is on or off."""

    def __init__(self, mode: bool) -> None:
        self._mode = mode
        self._before: list[bool] = []  # a stack, because one object may be entered again inside itself

    def __enter__(self) -> None:
        """Sets the mode, and remembers the one before."""
        self._before.append(recording.on)  # the mode to return to, which need not be the opposite one
        recording.on = self._mode

    def __exit__(self, *_: object) -> None:
        """Restores the mode that was there before the block."""
        recording.on = self._before.pop()

    @checked
    def __call__(self, function: F) -> F:
        """Decorates `function`: each call runs in a block of its own."""
        return decorated(function, functools.partial(GradMode, self._mode))


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
