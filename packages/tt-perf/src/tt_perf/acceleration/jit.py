"""Part of module 18: the plugin `jit`, for which Numba compiles `loops.py`.

Needs Numba: `pip install numba`. A function is compiled when it is first called, in about 0.25 s, and kept on disk
for the next process, beside Python's own compiled files.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from tt_core.engine.dispatch import Op
from tt_core.engine.errors import PluginError
from tt_core.engine.hookspecs import hookimpl
from tt_learn.optimizers import Optimizer
from tt_perf.acceleration import loops
from tt_perf.acceleration.kernels import kernels_from
from tt_perf.acceleration.updates import updates_from

Call = Callable[..., Any]

_ANY_ORDER = ("layer_norm", "layer_norm_backward", "total_of", "int8_linear", "int4_linear")
"""Loops whose sums may be added in another order, which vectors need. The exponential function rests on its order."""


def compiled() -> dict[str, Any]:
    """All of `loops.py` by name, with its functions to be compiled for the types they are first called with.

    Raises `PluginError` without Numba.
    """
    try:
        import numba  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise PluginError(f"jit needs Numba ({error}): pip install numba") from None
    names = dict(vars(loops))
    for name, function in vars(loops).items():
        if isinstance(function, types.FunctionType):
            order = {"reassoc"} if name in _ANY_ORDER else set()
            options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", *order}}
            # the same code, but the loops that it calls are the compiled ones
            names[name] = _kept(numba.njit, types.FunctionType(function.__code__, names, name), options)
    return names


def _kept(compile: Call, function: Call, options: dict[str, Any]) -> Call:
    """Compiled, and kept on disk where there is a folder for it: Python's `__pycache__`, or one of the user's."""
    try:
        return compile(function, cache=True, **options)
    except RuntimeError:
        return compile(function, **options)


class JitPlugin:
    """What `use("jit")` activates."""

    def __init__(self, functions: Callable[[], dict[str, Any]] = compiled) -> None:
        self._functions = functions
        self._kernels: dict[str, Call] | None = None
        self._updates: dict[type[Optimizer], Call] = {}

    @hookimpl
    def tt_kernel(self, op: Op) -> Call | None:
        return self._bound().get(op.name)

    @hookimpl
    def tt_update(self, optimizer: type[Optimizer]) -> Call | None:
        self._bound()
        return self._updates.get(optimizer)

    def _bound(self) -> dict[str, Call]:
        if self._kernels is None:
            functions = self._functions()
            self._kernels, self._updates = kernels_from(functions), updates_from(functions)
        return self._kernels


plugin = JitPlugin()
