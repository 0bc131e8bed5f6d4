"""Part of `capture`: one step runs as always, and everything it computes is written down.

The recorder plugs in for this one step. It answers `tt_kernel` with the kernels that would run anyway, each in a
function that notes what went in and came out. So a tape holds what the gradients' rules computed as well, and which
array is the result of which call follows from the arrays themselves. What changes tensors and is no op (gradients that
are set, clipping, running statistics, optimizers) is noted through hooks of its own.

Whatever cannot be followed stops the recording with a reason, while the step itself goes on.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import tt_core
from tt_core.engine import mutation
from tt_core.engine.dispatch import Array, Op
from tt_core.engine.effects import Effect
from tt_learn.autograd import Node, Tensor
from tt_learn.autograd.backward import Backward, Roots
from tt_learn.optimizers import Optimizer
from tt_perf.acceleration.capture.hooks import inside, plugged_in, plugins
from tt_perf.acceleration.capture.slots import Slots
from tt_perf.acceleration.capture.tape import (
    Call,
    Change,
    Expect,
    Finite,
    Kernel,
    SetGradient,
    Slot,
    Step,
    Tape,
    replaced,
)
from tt_perf.acceleration.capture.traced import Traced, recording
from tt_perf.acceleration.capture.watch import RandomState, Watch

one_at_a_time = threading.Lock()
"""Held by the thread that records. Others run their steps as usual: a step that waits for another one never ends."""


class Recorder:
    """Writes down one step; `refusal` says why it stopped."""

    def __init__(self, watch: Watch) -> None:
        self.tape = Tape()
        self.slots = Slots(self.tape, {id(x.data): x.data for x in watch.tensors.values()} | watch.arrays)
        self.refuse = self.slots.refuse
        self.paused = 0
        self.watch = watch
        self._with_gradient: set[int] = set()  # tensors whose gradient the step has set or looked at
        self._traced: list[weakref.ref[Any]] = []
        self._ended = False
        self._moment = mutation.now()
        self._random = tt_core.get_rng_state()

    @property
    def refusal(self) -> str | None:
        """Why the recording has stopped."""
        return self.slots.refusal

    def made(self, tensor: Any) -> None:
        """A tensor that will be an ordinary one after the recording."""
        self._traced.append(weakref.ref(tensor))
        if self._ended:  # of another thread, which has been slower than `restore`
            tensor.__class__ = tensor.ordinary

    def _watched(self, tensor: Tensor) -> bool:
        return id(tensor) in self.watch.tensors

    # --- what happens

    def begin(self, op: Op) -> None:
        """Checks, before a kernel, that nothing happened beside the kernels."""
        if mutation.now() != self._moment or op.random:
            self._check_beside()

    def _check_beside(self) -> None:
        if mutation.now() != self._moment:
            if any(mutation.changed_since(array, self._moment) for array in self.slots.alive()):
                self.refuse("it changes a tensor in place")
            self._moment = mutation.now()  # or another thread has changed something else
        if tt_core.get_rng_state() != self._random:
            self.refuse("it draws random numbers outside of ops")

    def call(self, op: Op, kernel: Kernel, arrays: Sequence[Any], attributes: dict[str, Any], returned: object) -> None:
        """Notes a kernel that ran."""
        if op.random:
            self._random = tt_core.get_rng_state()
        inputs = tuple([self.slots.of(x) for x in arrays])
        leaves = list(_leaves(returned))
        views = tuple([self.slots.source(leaf, arrays, inputs) for leaf in leaves])
        results = tuple([self.slots.result(leaf) for leaf in leaves])
        shapes = tuple([getattr(leaf, "shape", None) for leaf in leaves])
        if any(_holds_array(value) for value in attributes.values()):
            self.tape.doubtful.update(results)
        self.tape.instructions.append(Call(op, kernel, inputs, dict(attributes), results, shapes, views))

    def look(self, tensor: Traced, gradient: Tensor | None) -> None:
        """Notes that somebody reads a gradient; if the step has not set it, it must be there again, or not."""
        if self._watched(tensor) and id(tensor) not in self._with_gradient:
            self._with_gradient.add(id(tensor))
            self.tape.instructions.append(Expect(tensor, gradient is not None))

    def gradient(self, tensor: Traced, gradient: Tensor | None) -> None:
        """Notes that a gradient is set."""
        if not self._watched(tensor):
            if gradient is not None:
                self.refuse("it sets the gradient of a tensor that cannot be watched")
            return
        self._with_gradient.add(id(tensor))
        slot = None
        if gradient is not None:
            array = gradient.__dict__["data"]
            if gradient._requires_grad or id(array) in self.slots.there:
                return self.refuse("it sets a gradient that has history, or that was there before")
            slot = self.slots.of(array)
        self.tape.instructions.append(SetGradient(tensor, slot))

    def backward(self, call: Callable[[Backward, Roots], None], walk: Backward, roots: Roots) -> None:
        """Runs a backward pass, and looks at what it visits."""
        visit, finish = walk.visit, walk.finish

        def visited(node: Node, gradients: list[Any]) -> None:
            if node.hooks:
                self.refuse(f"a hook is registered on a result of {node.name}")
            if getattr(type(node), "open", False) or _is_custom(node):
                self.refuse(f"{node.name} is not an op: what it runs in backward is Python")
            visit(node, gradients)

        def finished(leaf: Any, g: Any) -> None:
            if recording.here() is self:
                if not self._watched(leaf):
                    self.refuse("a tensor that cannot be watched gets a gradient")
                elif leaf._grad is not None:
                    self.refuse("gradients are accumulated; call zero_grad() in the step")
            finish(leaf, g)

        walk.visit, walk.finish = visited, finished  # type: ignore[method-assign]
        try:
            call(walk, roots)
        finally:  # or the walk refers to itself, and keeps its gradients until the garbage collector runs
            del walk.visit, walk.finish

    def change(self, effect: Effect, call: Kernel, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        """Runs a function under `@effect`, and notes it."""
        arguments = [list(x) if isinstance(x, Iterator) else x for x in arguments]
        noted = replaced(arguments, self._stand_in), replaced(options, self._stand_in)
        with self.pause():
            result = call(*arguments, **options)
        slot = None
        if isinstance(result, Tensor):
            slot = self.slots.result(result.data)
            result = _swapped(result)
            self.made(result)
        elif result is not None:
            self.refuse(f"{effect.__name__} returns something that is not a tensor")
        self.tape.instructions.append(Change(effect, *noted, slot))
        return result

    def step(self, call: Kernel, optimizer: Optimizer, closure: object) -> Any:
        """Runs a step of an optimizer, and notes it."""
        if closure is not None:
            self.refuse(f"{optimizer.name} is given a closure")
            return call(optimizer, closure)
        with self.pause():
            call(optimizer, None)
        self.tape.instructions.append(Step(optimizer))
        return None

    def finite(self, loss: Tensor) -> None:
        """Notes that a number must be finite."""
        self.tape.instructions.append(Finite(self.slots.of(loss.__dict__["data"])))

    def _stand_in(self, x: Any) -> Any:
        if not isinstance(x, Tensor) or self._watched(x):
            return x
        return Slot(self.slots.of(x.__dict__["data"]))

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """A block that is not recorded, because a replay runs the same code again; it may change tensors in place."""
        self._check_beside()
        self.paused += 1
        try:
            yield
        finally:
            self.paused -= 1
            self._moment = mutation.now()
            self._random = tt_core.get_rng_state()

    def end(self, result: object, arguments: Sequence[Array]) -> None:
        """Notes what the step returned."""
        self._check_beside()
        self.tape.result = replaced(result, self._returned)
        if self.tape.doubtful:
            self.tape.inputs = [array.tobytes() for array in arguments]

    def _returned(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            node = getattr(x, "grad_fn", None)
            if node is not None and node.functions is not None:
                self.refuse("it returns a tensor with history; call backward() in the step, or run it under no_grad()")
            if self._watched(x):
                return x
            return Slot(self.slots.of(x.__dict__["data"]))
        if not isinstance(x, (type(None), bool, int, float, str)):
            self.refuse(f"it returns a {type(x).__name__}; return tensors")
        return x

    def restore(self) -> None:
        """Makes every traced tensor an ordinary one."""
        self._ended = True
        for reference in self._traced:
            tensor = reference()
            if tensor is not None:
                tensor.__class__ = tensor.ordinary


def record(
    step: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    tensors: Sequence[Tensor],
    watch: Watch,
) -> tuple[Any, Tape | str]:
    """Runs `step` and returns its result with its tape, or with the reason why there is none.

    `tensors` are those among its arguments. An error of the step passes. The caller holds `one_at_a_time`.
    """
    recorder, states = Recorder(watch), RandomState()
    swapped, before = [*watch.tensors.values(), *tensors], plugins.changes
    with plugged_in():
        arrays = [x.data for x in tensors]
        for array in arrays:
            recorder.slots.argument(array)
        try:
            for x in swapped:
                x.__class__ = Traced
            for x in watch.tensors.values():
                if type(x._grad) is Tensor:  # held by the tensor alone, so that `zero_grad` frees it
                    recorder.made(_swapped(x._grad))
            recording.thread, recording.recorder = threading.get_ident(), recorder
            result = step(*arguments, **options)
            with inside(recorder):
                recorder.end(result, arrays)
        finally:
            recording.recorder = None
            for x in swapped:
                x.__class__ = Tensor
            recorder.restore()
    if states != RandomState():
        recorder.refuse("it draws from Python's or NumPy's global generator")
    if plugins.changes != before:
        recorder.refuse("plugins come or go in it")
    return result, recorder.refusal or recorder.tape


def _swapped(tensor: Tensor) -> Any:
    tensor.__class__ = Traced
    return tensor


def _leaves(returned: Any) -> Iterator[Any]:
    if type(returned) is tuple:
        for part in returned:
            yield from _leaves(part)
    else:
        yield returned


def _holds_array(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_holds_array, value))
    return isinstance(value, (np.ndarray, tt_core.Tensor))


def _is_custom(node: Node) -> bool:
    """Whether a node belongs to a `Function`."""
    return "_record_function" in getattr(node.functions, "__qualname__", "")
