"""Part of `capture`: one step runs as always, and everything it computes is written down.

The recorder plugs in for this one step. It answers `tt_kernel` with the kernels that would run anyway, each in a
function that notes what went in and came out. So a tape holds what the gradients' rules computed as well, and which
array is the result of which call follows from the arrays themselves. What changes tensors and is no op (gradients that
are set, clipping, running statistics, optimizers) is noted through hooks of its own.

A *slot* is a place for one array: an argument of the step, an array that was there before (a parameter), a constant, or
a result. Whatever cannot be followed stops the recording with a reason, while the step itself goes on.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tt_core
from tt_core.engine import mutation
from tt_core.engine.dispatch import Array, Op, residuals_of
from tt_core.engine.effects import Effect
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_learn.autograd import Node, Tensor
from tt_learn.autograd.backward import Backward, Roots
from tt_learn.optimizers import Optimizer
from tt_perf.acceleration.capture.traced import Traced, recording
from tt_perf.acceleration.capture.watch import RandomState, Watch

Kernel = Callable[..., Any]


@dataclass
class Call:
    """One kernel: `results` holds the slots of what it returns, in the order in which nested tuples are read."""

    op: Op
    kernel: Kernel
    inputs: tuple[int, ...]
    attributes: dict[str, Any]
    results: tuple[int, ...]
    shapes: tuple[Any, ...]
    """The shape of each result, None for what is not an array."""
    views: tuple[int | None, ...]
    """For each result, the slot of the input whose memory it shares."""


@dataclass
class SetGradient:
    """`tensor.grad` becomes the array of a slot, or None."""

    tensor: Tensor
    slot: int | None


@dataclass
class Expect:
    """Whether a gradient is there, which the step looked at before it set it."""

    tensor: Tensor
    there: bool


@dataclass
class Change:
    """A function under `@effect`; `Slot` stands for tensors in its arguments."""

    effect: Effect
    arguments: Any
    options: dict[str, Any]
    result: int | None


@dataclass
class Step:
    """A step of an optimizer."""

    optimizer: Optimizer


@dataclass
class Finite:
    """A number that must be finite, or the step is run again without its tape, to raise its error."""

    slot: int


@dataclass(frozen=True)
class Slot:
    """Stands for the tensor of a slot."""

    number: int


Instruction = Call | SetGradient | Expect | Change | Step | Finite


@dataclass
class Tape:
    """Everything that one step computed."""

    instructions: list[Instruction] = field(default_factory=list)
    arguments: tuple[int, ...] = ()
    """Slots of the tensors that the step was given."""
    constants: dict[int, Any] = field(default_factory=dict)
    """By slot: arrays that were there before the step or were made by it, and numbers."""
    fresh: set[int] = field(default_factory=set)
    """Slots of constants that the step made."""
    doubtful: set[int] = field(default_factory=set)
    """Of these, and of results, the ones that may depend on the arguments in a way that the recorder cannot see."""
    result: Any = None
    """What the step returned, with `Slot` for its tensors."""
    slots: int = 0
    inputs: list[bytes] = field(default_factory=list)
    """The contents of the arguments, if a constant is doubtful."""

    def difference(self, other: Tape) -> str | None:
        """How `other`, recorded later for the same kind of arguments, differs; None if a replay of one is the other."""
        for mine, yours in zip(self.instructions, other.instructions):
            if not _same(mine, yours):
                return f"{_described(mine)} became {_described(yours)}"
        if len(self.instructions) != len(other.instructions):
            return f"{len(self.instructions)} calls became {len(other.instructions)}"
        if not _same(self.result, other.result) or self.arguments != other.arguments:
            return "it returns something else"
        if self.constants.keys() != other.constants.keys() or self.fresh != other.fresh:
            return "it uses other constants"
        for slot, value in self.constants.items():
            if value is not other.constants[slot] and not (slot in self.fresh and _same(value, other.constants[slot])):
                return f"a constant of {_user_of(self, slot)} has another value each time"
        return None


# --- the recorder


class Recorder:
    """Writes down one step; `refusal` says why it stopped."""

    def __init__(self, watch: Watch) -> None:
        self.tape = Tape()
        self.refusal: str | None = None
        self.paused = 0
        self.watch = watch
        self._known: dict[int, tuple[int, weakref.ref[Array]]] = {}  # by an array's id: its slot
        self._owners: dict[int, weakref.ref[Array]] = {}  # arrays whose memory a known array is a view of
        self._there = {id(x.data): x.data for x in watch.tensors.values()} | watch.arrays
        self._with_gradient: set[int] = set()  # tensors whose gradient the step has set or looked at
        self._traced: list[weakref.ref[Any]] = []
        self._moment = mutation.now()
        self._random = tt_core.get_rng_state()

    def refuse(self, reason: str) -> None:
        """Stops recording; the step goes on."""
        self.refusal = self.refusal or reason

    def made(self, tensor: Any) -> None:
        """A tensor that will be an ordinary one after the recording."""
        self._traced.append(weakref.ref(tensor))

    # --- slots

    def argument(self, array: Array) -> None:
        """A slot for an argument of the step."""
        if id(array) in self._known or id(array) in self._there:
            self.refuse("two arguments, or an argument and a parameter, share an array")
        self.tape.arguments += (self._result(array),)

    def _new(self) -> int:
        self.tape.slots += 1
        return self.tape.slots - 1

    def _result(self, array: Any) -> int:
        """A new slot for an array that was computed or given."""
        slot = self._new()
        if type(array) is np.ndarray:
            self._known[id(array)] = slot, _forgetting(self._known, array)
            owner = mutation.owner(array)
            if owner is not array:
                self._owners[id(owner)] = _forgetting(self._owners, owner)
        return slot

    def _slot_of(self, x: Any) -> int:
        """The slot of what a kernel was given."""
        if type(x) is np.ndarray and id(x) in self._known:
            return self._known[id(x)][0]
        slot = self._new()
        self.tape.constants[slot] = x
        if isinstance(x, np.ndarray):
            self._known[id(x)] = slot, _forgetting(self._known, x)
            if id(x) not in self._there:
                self._check_origin(x)
                self.tape.fresh.add(slot)
                if x.size > 1 and not _counts_up(x):
                    self.tape.doubtful.add(slot)
        elif x is not None:
            self.tape.fresh.add(slot)
        return slot

    def _check_origin(self, array: Array) -> None:
        owner = mutation.owner(array)
        if owner is not array and (id(owner) in self._known or id(owner) in self._owners or id(owner) in self._there):
            self.refuse("it takes a part of a tensor's array past the ops")
        elif owner is not array and not isinstance(array.base, np.ndarray):
            self.refuse("it uses an array whose memory belongs to something else")

    def _watched(self, tensor: Tensor) -> bool:
        return id(tensor) in self.watch.tensors

    # --- what happens

    def begin(self, op: Op) -> None:
        """Checks, before a kernel, that nothing happened beside the kernels."""
        if mutation.now() != self._moment or op.random:
            self._check_beside()

    def _check_beside(self) -> None:
        if mutation.now() != self._moment:
            references = [reference for _, reference in self._known.values()]
            arrays = [*self._there.values(), *[array for array in [each() for each in references] if array is not None]]
            if any(mutation.changed_since(array, self._moment) for array in arrays):
                self.refuse("it changes a tensor in place")
            self._moment = mutation.now()  # or another thread has changed something else
        if tt_core.get_rng_state() != self._random:
            self.refuse("it draws random numbers outside of ops")

    def call(self, op: Op, kernel: Kernel, arrays: Sequence[Any], attributes: dict[str, Any], returned: Any) -> None:
        """Notes a kernel that ran."""
        if op.random:
            self._random = tt_core.get_rng_state()
        inputs = tuple([self._slot_of(x) for x in arrays])
        leaves = list(_leaves(returned))
        views = tuple([self._source(leaf, arrays, inputs) for leaf in leaves])
        results = tuple([self._result(leaf) for leaf in leaves])
        shapes = tuple([getattr(leaf, "shape", None) for leaf in leaves])
        if any(_holds_array(value) for value in attributes.values()):
            self.tape.doubtful.update(results)
        self.tape.instructions.append(Call(op, kernel, inputs, dict(attributes), results, shapes, views))

    def _source(self, leaf: Any, arrays: Sequence[Any], slots: tuple[int, ...]) -> int | None:
        if not isinstance(leaf, np.ndarray):
            return None
        owner = mutation.owner(leaf)
        for x, slot in zip(arrays, slots):
            if isinstance(x, np.ndarray) and mutation.owner(x) is owner:
                return slot
        return None

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
            if gradient._requires_grad or id(array) in self._there:
                return self.refuse("it sets a gradient that has history, or that was there before")
            slot = self._slot_of(array)
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
        call(walk, roots)

    def change(self, effect: Effect, call: Kernel, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        """Runs a function under `@effect`, and notes it."""
        arguments = [list(x) if isinstance(x, Iterator) else x for x in arguments]
        noted = _replaced(arguments, self._stand_in), _replaced(options, self._stand_in)
        with self.pause():
            result = call(*arguments, **options)
        slot = None
        if isinstance(result, Tensor):
            slot = self._result(result.data)
            result = _swapped(result)
            self.made(result)
        elif result is not None:
            self.refuse(f"{effect.__name__} returns something that is not a tensor")
        self.tape.instructions.append(Change(effect, *noted, slot))
        return result

    def step(self, call: Kernel, optimizer: Optimizer, closure: Any) -> Any:
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
        self.tape.instructions.append(Finite(self._slot_of(loss.__dict__["data"])))

    def _stand_in(self, x: Any) -> Any:
        if not isinstance(x, Tensor) or self._watched(x):
            return x
        return Slot(self._slot_of(x.__dict__["data"]))

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

    def end(self, result: Any, arguments: Sequence[Array]) -> None:
        """Notes what the step returned."""
        self._check_beside()
        self.tape.result = _replaced(result, self._returned)
        if self.tape.doubtful:
            self.tape.inputs = [array.tobytes() for array in arguments]

    def _returned(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            node = getattr(x, "grad_fn", None)
            if node is not None and node.functions is not None:
                self.refuse("it returns a tensor with history; call backward() in the step, or run it under no_grad()")
            if self._watched(x):
                return x
            return Slot(self._slot_of(x.__dict__["data"]))
        if not isinstance(x, (type(None), bool, int, float, str)):
            self.refuse(f"it returns a {type(x).__name__}; return tensors")
        return x

    def restore(self) -> None:
        """Makes every traced tensor an ordinary one."""
        for reference in self._traced:
            tensor = reference()
            if tensor is not None:
                tensor.__class__ = tensor.ordinary


# --- the hooks


class RecordingHooks:
    """The plugin of the one step that is recorded."""

    _asking = False

    def __init__(self) -> None:
        self._kernels: dict[str, Kernel] = {}
        self._asked = -1  # when, in changes of plugins

    @hookimpl(tryfirst=True)
    def tt_kernel(self, op: Op) -> Kernel | None:
        if self._asking:
            return None
        if self._asked != plugins.changes:
            self._kernels, self._asked = {}, plugins.changes
        if op.name not in self._kernels:  # a plugin may make another function each time that it is asked
            self._asking = True
            try:
                self._kernels[op.name] = manager.answers("tt_kernel", op=op) or op.kernel
            finally:
                self._asking = False
        return _noting(op, self._kernels[op.name])

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
    recording = False  # whether the change is that a recording begins or ends

    def note(self) -> None:
        self.changes += not self.recording


plugins = Plugins()
LOOKS_ON = ("tt_wrap_op", "tt_observe_op", "tt_wrap_layer", "tt_wrap_backward", "tt_wrap_step", "tt_wrap_effect")
_BOUND = {*LOOKS_ON, "tt_kernel", "tt_tensor_type", "tt_update", "tt_observe_step", "tt_fused"}
manager.rebinders.append((plugins.note, _BOUND))
_hooks = RecordingHooks()
_one_at_a_time = threading.Lock()
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
        with _inside(recorder):
            returned = _as_arrays(kernel(*arrays, **attributes))
        recorder.call(op, kernel, arrays, attributes, returned)
        return returned

    noting.op = op  # type: ignore[attr-defined]
    noting.residuals = residuals_of(kernel)  # type: ignore[attr-defined]
    noting.checks = getattr(kernel, "checks", False)  # type: ignore[attr-defined]
    noting.__module__ = kernel.__module__
    _kernels[op.name, kernel] = noting
    return noting


class _inside:
    """A kernel is running: what it calls belongs to it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __enter__(self) -> None:
        self._recorder.paused += 1

    def __exit__(self, *_: object) -> None:
        self._recorder.paused -= 1


def record(
    step: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    tensors: Sequence[Tensor],
    watch: Watch,
) -> tuple[Any, Tape | str]:
    """Runs `step` and returns its result with its tape, or with the reason why there is none.

    `tensors` are those among its arguments. An error of the step passes.
    """
    recorder, states = Recorder(watch), RandomState()
    swapped, before = [*watch.tensors.values(), *tensors], plugins.changes
    swapped += [x._grad for x in watch.tensors.values() if type(x._grad) is Tensor]
    with _one_at_a_time, _plugged_in():
        arrays = [x.data for x in tensors]
        for array in arrays:
            recorder.argument(array)
        for x in swapped:
            x.__class__ = Traced
        recording.recorder, recording.thread = recorder, threading.get_ident()
        try:
            result = step(*arguments, **options)
            with _inside(recorder):
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


@contextlib.contextmanager
def _plugged_in() -> Iterator[None]:
    """A block in which the hooks of recordings are answered."""
    plugins.recording = True
    manager.register(_hooks, "capture-recorder")
    plugins.recording = False
    try:
        yield
    finally:
        plugins.recording = True
        manager.unregister(_hooks)
        plugins.recording = False


# --- small things


def _forgetting(known: dict[int, Any], array: Array) -> weakref.ref[Array]:
    """A reference that takes the array's entry out when it is freed, because Python uses ids again."""
    key = id(array)

    def forget(reference: weakref.ref[Array]) -> None:
        entry = known.get(key)
        if entry is reference or (type(entry) is tuple and entry[1] is reference):
            del known[key]

    return weakref.ref(array, forget)


def _swapped(tensor: Tensor) -> Any:
    tensor.__class__ = Traced
    return tensor


def _as_arrays(returned: Any) -> Any:
    """What a kernel returned, with arrays for NumPy's numbers, as the dispatch makes them."""
    if type(returned) is np.ndarray or returned is None:
        return returned
    return tuple([_as_arrays(part) for part in returned]) if type(returned) is tuple else np.asarray(returned)


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


def _counts_up(array: Array) -> bool:
    """Whether an array holds one number only, or 0, 1, 2, ...: what `zeros`, `ones` and `arange` make."""
    flat = array.reshape(-1)
    return bool((flat == flat[0]).all()) or bool((flat == np.arange(flat.size)).all())


def _is_custom(node: Node) -> bool:
    """Whether a node belongs to a `Function`."""
    return "_record_function" in getattr(node.functions, "__qualname__", "")


def _replaced(value: Any, replace: Callable[[Any], Any]) -> Any:
    """Nested containers with other leaves."""
    if type(value) in (tuple, list):
        return type(value)([_replaced(part, replace) for part in value])
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[_replaced(part, replace) for part in value])
    if type(value) is dict:
        return {key: _replaced(part, replace) for key, part in value.items()}
    return replace(value)


def _same(a: Any, b: Any) -> bool:
    """Whether two pieces of tapes are equal, to the bit."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (Call, SetGradient, Expect, Change, Step, Finite)):
        return _same(vars(a), vars(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.strides == b.strides and a.tobytes() == b.tobytes()
    if isinstance(a, (float, np.generic)):
        return np.asarray(a).tobytes() == np.asarray(b).tobytes()
    if isinstance(a, (int, str, slice, np.dtype, Slot)):
        return bool(a == b)
    return False


def _described(instruction: Instruction) -> str:
    if isinstance(instruction, Call):
        attributes = ", ".join(f"{name}={value}" for name, value in instruction.attributes.items())
        return f"{instruction.op.name}({attributes})"
    return type(instruction).__name__


def _user_of(tape: Tape, slot: int) -> str:
    users = (each.op.name for each in tape.instructions if isinstance(each, Call) and slot in each.inputs)
    return next(users, "the result")
