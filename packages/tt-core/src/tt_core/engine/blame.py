"""Names the plugin whose wrap or observer raised an error, from the error's traceback, so that calls pay nothing."""

from __future__ import annotations

import os
from types import CodeType

from tt_core.engine.errors import PluginError, TinyTorchError

_owners: dict[int, tuple[CodeType, str]] = {}
"""The code of each wrap and observer with a description of its owner; "" for the framework's code that a wrap calls.

By the code's id, because the hash of a code object takes 20 us.
"""


def remember(function: object, owner: str) -> bool:
    """Remembers that errors from the body of `function` belong to `owner`, such as "plugin memo: its wrap".

    Returns whether its code is seen for the first time.
    """
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    if not isinstance(code, CodeType):
        return False
    known = id(code) in _owners
    _owners[id(code)] = (code, owner)
    return not known


def blame(where: str, error: Exception, called: object = None) -> None:
    """Raises `PluginError` from `error` if a plugin's wrap or observer raised it; `where` is the op or the layer.

    `called` is the outermost wrap, which is at fault for an error without a frame of its own: it does not take the
    arguments of the op.
    Errors for users (`TinyTorchError`) and errors without a single cause (recursion, memory) pass.
    """
    if isinstance(error, (TinyTorchError, RecursionError, MemoryError)):
        return
    owner, trace = "", error.__traceback__
    if trace is not None and trace.tb_next is None and isinstance(error, TypeError):
        owner = _owners.get(id(getattr(called, "__code__", None)), (None, ""))[1]
    while trace is not None:
        code = trace.tb_frame.f_code
        owner = _owners.get(id(code), (code, owner))[1]  # the innermost known owner
        trace = trace.tb_next
    if owner:
        raise PluginError(f"{owner} of {where} raises {described(error)}") from error


def described(error: Exception) -> str:
    """An error in one line, with the file and line that raised it.

    >>> described(KeyError("x"))
    "KeyError: 'x'"
    """
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {error}{place}"
