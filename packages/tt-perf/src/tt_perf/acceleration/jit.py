"""Part of module 18: the plugin `jit`, for which Numba compiles `loops.py`.

Needs Numba: `pip install numba`. A loop is compiled when a kernel first needs it (`compiling.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tt_core.engine.dispatch import Op
from tt_core.engine.hookspecs import hookimpl
from tt_core.layers import Layer
from tt_language import GPT
from tt_learn.optimizers import Optimizer
from tt_perf.acceleration import uncovered
from tt_perf.acceleration.blas import Blas, find_blas
from tt_perf.acceleration.capture.tape import Tape
from tt_perf.acceleration.compiling import compiled, import_numba
from tt_perf.kernels.convolution import convolutions_from
from tt_perf.kernels.decoding.hook import Decoding
from tt_perf.kernels.normalization import norms_from
from tt_perf.kernels.ops import kernels_from
from tt_perf.kernels.optimizers import updates_from
from tt_perf.kernels.pairs import pairs_from, stages_on
from tt_perf.kernels.pooling import pools_from
from tt_perf.kernels.products import products_from
from tt_perf.kernels.sums import sums_from

Call = Callable[..., Any]


def compiled_token() -> Call:
    """The compiled function that works on one token of a GPT; see `decoding`. Raises `PluginError` without Numba."""
    import_numba()  # before the first import of a module that compiles: it chooses the width of vectors
    from tt_perf.kernels.decoding.machine import compiled_run

    return compiled_run()


class JitPlugin:
    """What `use("jit")` activates."""

    def __init__(self, functions: Callable[[], dict[str, Any]] = compiled) -> None:
        self._functions = functions
        self._kernels: dict[str, Call] | None = None
        self._loops: dict[str, Any] = {}
        self._pairs: dict[tuple[str, str], Call] = {}
        self._updates: dict[type[Optimizer], Call] = {}
        self._blas: Blas | None = None
        self._decoding = Decoding(compiled_token)
        self._binding = threading.RLock()

    captured_through = ("tt_wrap_layer",)  # in a training step, GPT's call is only passed on

    @hookimpl
    def tt_kernel(self, op: Op) -> Call | None:
        return self._bound().get(op.name)

    @hookimpl
    def tt_update(self, optimizer: type[Optimizer]) -> Call | None:
        self._bound()
        return self._updates.get(optimizer)

    @hookimpl
    def tt_fused(self, first: Op, second: Op) -> Call | None:
        self._bound()
        return self._pairs.get((first.name, second.name))

    @hookimpl
    def tt_rewrite(self, tape: Tape) -> None:
        kernels = self._bound()
        stages_on(tape, self._loops, kernels)

    @hookimpl
    def tt_wrap_layer(self, layer_type: type[Layer], call: Call) -> Call:
        return self._decoding.wrap(call) if layer_type is GPT and self._functions is compiled else call

    @hookimpl
    def tt_plugged(self) -> None:
        uncovered.calls.clear()

    @hookimpl
    def tt_report(self) -> str | None:
        told = [text for text in (uncovered.report(), self._decoding.report()) if text]
        return "\n".join(told) or None

    def _bound(self) -> dict[str, Call]:
        with self._binding:  # two threads that ask at once get the same kernels
            if self._kernels is None or self._blas != find_blas():
                blas, functions = find_blas(), self._functions()
                every = kernels_from, convolutions_from, pools_from, norms_from, sums_from, products_from
                kernels = {name: kernel for made in every for name, kernel in made(functions).items()}
                self._pairs, self._updates = pairs_from(functions), updates_from(functions)
                self._loops, self._kernels, self._blas = functions, kernels, blas
            return self._kernels


plugin = JitPlugin()
