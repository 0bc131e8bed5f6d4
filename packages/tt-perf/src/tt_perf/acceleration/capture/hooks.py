"""Part of `capture`: the plugin that is active while one step is recorded, and that tells the recorder what runs."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.dispatch import Op, residuals_of
from tt_core.engine.effects import Effect
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_learn.autograd import Tensor
from tt_learn.optimizers import Optimizer
from tt_perf.acceleration.capture.traced import Traced, recording

if TYPE_CHECKING:
    from tt_perf.acceleration.capture.record import Recorder

Kernel = Callable[..., Any]


class RecordingHooks:
    """The plugin of the one step that is recorded."""

    def __init__(self) -> None:
        self._kernels: tuple[int, dict[str, Kernel]] = (-1, {})  # and when they were asked for, in changes of plugins
        self._asking = threading.local()

    @hookimpl(tryfirst=True)
    def tt_kernel(self, op: Op) -> Kernel | None:
        if getattr(self._asking, "others", False):
            return None
        asked, kernels = self._kernels
        if asked != plugins.changes:
            kernels = {}
            self._kernels = plugins.changes, kernels
        if op.name not in kernels:  # a plugin may make another function each time that it is asked
            self._asking.others = True
            try:
                kernels[op.name] = manager.answers("tt_kernel", op=op) or op.kernel
            finally:
                self._asking.others = False
        return _noting(op, kernels[op.name])

    @hookimpl(tryfirst=True)
    def tt_tensor_type(self) -> type[Tensor]:
        return Traced

    @hookimpl
    def tt_wrap_backward(self, call: Kernel) -> Kernel:
        return _through(lambda recorder, *given: recorder.backward(call, *given), call)

    @hookimpl
    def tt_wrap_step(self, optimizer: type[Optimizer], call: Kernel) -> Kernel:
        return _through(lambda recorder, *given: recorder.step(call, *given), call)

    @hookimpl
    def tt_wrap_effect(self, effect: Effect, call: Kernel) -> Kernel:
        return _through(
            lambda recorder, *given, **options: recorder.change(effect, call, given, options),
            call,
        )


class Plugins:
    """Counts how often the plugins that take part in a step have changed, those of recordings aside."""

    changes = 0
    recording = 0  # the thread in which a recording begins or ends, which is no change
    _count = itertools.count(1)  # two threads never set the same number

    def note(self) -> None:
        if self.recording != threading.get_ident():
            self.changes = next(self._count)


plugins = Plugins()
LOOKS_ON = ("tt_wrap_op", "tt_observe_op", "tt_wrap_layer", "tt_wrap_backward", "tt_wrap_step", "tt_wrap_effect")
_BOUND = {*LOOKS_ON, "tt_kernel", "tt_tensor_type", "tt_update", "tt_observe_step", "tt_fused", "tt_rewrite"}
manager.rebinders.append((plugins.note, _BOUND))
_hooks = RecordingHooks()
_kernels: dict[tuple[str, Kernel], Kernel] = {}  # the same functions each time, so that calls of ops are found again


def _through(recorded: Kernel, call: Kernel) -> Kernel:
    """`recorded` with the recorder first, where one is at work in this thread; `call` elsewhere."""

    def either(*given: Any, **options: Any) -> Any:
        recorder = recording.here()
        return call(*given, **options) if recorder is None else recorded(recorder, *given, **options)

    return either


def _noting(op: Op, kernel: Kernel) -> Kernel:
    """`kernel`, and each of its calls noted."""
    if (op.name, kernel) in _kernels and _kernels[op.name, kernel].op is op:  # type: ignore[attr-defined]
        return _kernels[op.name, kernel]

    def noting(*arrays: Any, **attributes: Any) -> Any:
        recorder = recording.here()
        if recorder is None:
            return kernel(*arrays, **attributes)
        recorder.begin(op)
        with inside(recorder):
            returned = as_arrays(kernel(*arrays, **attributes))
        recorder.call(op, kernel, arrays, attributes, returned)
        return returned

    noting.op = op  # type: ignore[attr-defined]
    noting.residuals = residuals_of(kernel)  # type: ignore[attr-defined]
    noting.checks = getattr(kernel, "checks", False)  # type: ignore[attr-defined]
    noting.__module__ = kernel.__module__
    _kernels[op.name, kernel] = noting
    return noting


class inside:
    """A kernel is running: what it calls belongs to it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __enter__(self) -> None:
        self._recorder.paused += 1

    def __exit__(self, *_: object) -> None:
        self._recorder.paused -= 1


@contextlib.contextmanager
def plugged_in() -> Iterator[None]:
    """A block in which the hooks of recordings are answered."""
    with _unnoted():
        manager.register(_hooks, "capture-recorder")
    try:
        yield
    finally:
        with _unnoted():
            manager.unregister(_hooks)


@contextlib.contextmanager
def _unnoted() -> Iterator[None]:
    plugins.recording = threading.get_ident()
    try:
        yield
    finally:
        plugins.recording = 0


def as_arrays(returned: object) -> Any:
    """What a kernel returned, with arrays for NumPy's numbers, as the dispatch makes them."""
    if type(returned) is np.ndarray or returned is None:
        return returned
    return tuple([as_arrays(part) for part in returned]) if type(returned) is tuple else np.asarray(returned)
