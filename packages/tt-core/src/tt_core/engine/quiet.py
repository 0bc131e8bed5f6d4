"""Runs kernels without NumPy's floating-point warnings: infinities and nan are values here, as in PyTorch.

NumPy keeps its error settings in a context variable. So a kernel that runs in a context of its own gives no warnings,
and the user's NumPy code keeps them. Entering a context takes 0.04 us, `np.errstate` 0.8 us. A context can be entered
once at a time: where a kernel calls its own op, or two threads call one op, the second call gets a new context.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import numpy as np

_quiet = contextvars.Context()
_quiet.run(np.seterr, all="ignore")


def quiet_context() -> contextvars.Context:
    """A new context in which NumPy gives no warnings.

    >>> quiet_context().run(np.divide, 1.0, 0.0)
    np.float64(inf)
    """
    return _quiet.copy()


def quietly(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Calls `function` while NumPy gives no warnings about infinities and nan, as kernels are called.

    >>> quietly(np.divide, 1.0, 0.0)
    np.float64(inf)
    """
    return _quiet.copy().run(function, *arguments, **options)


def is_entered(error: Exception) -> bool:
    """Whether `error` says that the context was entered already, so that nothing ran: it has no frame below."""
    trace = error.__traceback__
    return type(error) is RuntimeError and trace is not None and trace.tb_next is None
