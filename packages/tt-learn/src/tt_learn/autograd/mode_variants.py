"""Two more grad modes of PyTorch's: `inference_mode`, and `set_grad_enabled`, which also works without a block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tt_core.engine.arguments import checked
from tt_learn.autograd.decorated import F
from tt_learn.autograd.modes import GradMode, recording

if TYPE_CHECKING:
    from collections.abc import Callable


class inference_mode(GradMode):
    """Same as `no_grad`; with `mode=False`, a block that changes nothing.

    >>> from tt_learn import tensor
    >>> x = tensor([1.0], requires_grad=True)
    >>> with inference_mode():
    ...     (x * 2).requires_grad
    False
    """

    def __new__(cls, mode: bool | Callable[..., Any] = True) -> Any:
        if callable(mode):  # as a decorator without parentheses
            return cls()(mode)
        return super().__new__(cls)

    @checked
    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode and recording.on)


class set_grad_enabled(GradMode):
    """Turns recording on or off from now on, or for a block or a decorated function.

    >>> from tt_learn import is_grad_enabled
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
