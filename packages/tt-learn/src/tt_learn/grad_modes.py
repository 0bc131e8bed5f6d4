"""Part of module 05, autograd: PyTorch's other ways to turn recording on and off."""

from __future__ import annotations

from typing import Any

from tt_learn.autograd import F, _recording, _RecordingMode


class inference_mode(_RecordingMode):
    """Same as `no_grad`; with `mode=False`, same as a block that changes nothing.

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

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode and _recording.on)


class set_grad_enabled(_RecordingMode):
    """Turn recording on or off from now on, or for a block or a decorated function.

    >>> from tt_learn import is_grad_enabled
    >>> with set_grad_enabled(False):
    ...     is_grad_enabled()
    False
    >>> is_grad_enabled()
    True
    """

    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        super().__enter__()

    def __enter__(self) -> None:
        if not self._before:  # left, and entered again
            super().__enter__()

    def __call__(self, function: F) -> F:
        self.__exit__()
        return super().__call__(function)
