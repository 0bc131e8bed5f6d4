"""Part of module 14: measures every op, layer, backward pass and optimizer step from outside.

The measured code does not change: `Watcher` answers the hooks that wrap calls. Each wrap enters the call into the tree
of `tree.py` and leaves it again. While nothing is recorded, such as when a schedule waits, a wrap reads one variable.

It measures this process only. NumPy calls outside ops count as time of their caller.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tt_core import phase
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import HasArray, Op
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_core.layers import Layer
from tt_perf.profiling.flops import FLOPS
from tt_perf.profiling.memory import Holder, Memory
from tt_perf.profiling.sources import user_line
from tt_perf.profiling.tree import MOST_EVENTS, Frame, Key, Recording
from tt_perf.profiling.work import arrays, bytes_moved

if TYPE_CHECKING:
    from typing_extensions import Self

    from tt_learn.optimizers import Optimizer

Wrap = Callable[..., Any]


class ProfilerError(TinyTorchError, ValueError):
    """Options that a profiler cannot use, or a question about something it did not record."""


active: list[Watcher] = []
"""The active profilers, which `record_function` notifies of its blocks."""


class Watcher:
    """The plugin behind `Profiler`: fills a `Recording` while it is plugged in.

    >>> import tt_core
    >>> with Watcher() as watcher:
    ...     _ = tt_core.ones(2) + 1
    >>> [call.key.name for call, around in watcher.recording.calls() if around]
    ['add']
    """

    @checked
    def __init__(
        self,
        *,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = True,
        most_events: int = MOST_EVENTS,
    ) -> None:
        if most_events < 1:
            raise ProfilerError(f"{type(self).__name__}: most_events is {most_events}, expected 1 or more")
        self.record_shapes, self.with_stack = bool(record_shapes), bool(with_stack)
        self.profile_memory, self.with_flops = bool(profile_memory), bool(with_flops)
        self.most_events = int(most_events)
        self.recording: Recording | None = None
        """The last recording; None before the first."""
        self.memory: Memory | None = None
        self.names: dict[int, str] = {}
        """What layers are called, by id; others go by their type."""
        self._live: Recording | None = None
        self._blocks = 0  # how many `with` blocks it is in
        self._entering = threading.Lock()

    # --- coming and going

    def __enter__(self) -> Self:
        with self._entering:
            if not self._blocks:
                manager.register(self)
            self._blocks += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._entering:
            self._blocks -= 1
            if not self._blocks and manager.is_registered(self):
                manager.unregister(self)

    def start(self) -> None:
        """Plug in, as a block does at its beginning."""
        self.__enter__()

    def stop(self) -> None:
        """Unplug, as a block does at its end. Raises `ProfilerError` without `start()` before."""
        if not self._blocks:
            raise ProfilerError(f"{type(self).__name__}.stop: it was not started")
        self.__exit__()

    @hookimpl
    def tt_plugged(self) -> None:
        self._begin()
        active.append(self)

    @hookimpl
    def tt_unplugged(self) -> None:
        if self in active:
            active.remove(self)
        self._end()

    def _begin(self) -> None:
        """Start a new recording."""
        self.memory = Memory(self.most_events) if self.profile_memory else None
        self.recording = self._live = Recording(self.most_events)

    def _end(self) -> None:
        """Stop recording; the recording can then be read."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
            if self.memory is not None:
                self.memory.stop()

    def reset(self) -> None:
        """Discard the recording."""
        if self._live is not None:
            self._begin()
        else:
            self.recording = self.memory = None

    # --- the wraps

    @hookimpl(tryfirst=True)
    def tt_wrap_op(self, op: Op, call: Wrap) -> Wrap:
        keys = {moment: Key("op", op.name, moment) for moment in ("forward", "backward", "recomputation")}
        flops = FLOPS.get(op.name)

        def measured(*inputs: Any, **attributes: Any) -> Any:
            live = self._live
            if live is None:
                return call(*inputs, **attributes)
            key: Key = keys[phase()]
            if self.record_shapes or self.with_stack:
                key = self._detailed(live, key, inputs)
            frame = live.enter(key)
            try:
                output = call(*inputs, **attributes)
            except BaseException:
                live.leave(frame)
                raise
            node = getattr(output[0] if type(output) is tuple and output else output, "grad_fn", None)
            if node is not None:
                frame.node = node.number
                if key.site:
                    node.site = key.site
            live.leave(frame)
            done = frame.call
            if self.with_flops:
                if flops is not None:
                    done.flops += flops(inputs, output, attributes)
                read, written = bytes_moved(op, inputs, output)
                done.read += read
                done.written += written
            done.output += output.data.nbytes if isinstance(output, HasArray) else _bytes(output)
            if self.memory is not None:
                done.allocated += self._watch(self.memory, key, inputs, output, node)
            return output

        return measured

    @hookimpl(tryfirst=True)
    def tt_wrap_layer(self, layer_type: type[Layer], call: Wrap) -> Wrap:
        name = layer_type.__name__

        def measured(layer: Any, *inputs: Any, **options: Any) -> Any:
            live = self._live
            if live is None:
                return call(layer, *inputs, **options)
            if self.memory is not None:
                self._watch_model(self.memory, layer)
            called = self.names.get(id(layer), name) if self.names else name
            key = Key("layer", called, phase(), "", _shapes(inputs) if self.record_shapes else ())
            return _inside(live, live.enter(key), call, layer, *inputs, **options)

        return measured

    @hookimpl(tryfirst=True)
    def tt_wrap_step(self, optimizer: type[Optimizer], call: Wrap) -> Wrap:
        key = Key("optimizer", f"{optimizer.__name__}.step")

        def measured(stepped: Any, closure: Any) -> Any:
            live = self._live
            if live is None:
                return call(stepped, closure)
            result = _inside(live, live.enter(key), call, stepped, closure)
            if self.memory is not None:
                taken = stepped.memory()
                self.memory.hold(Holder("optimizer", type(stepped).__name__), taken.state + taken.scratch)
            return result

        return measured

    @hookimpl(tryfirst=True)
    def tt_wrap_backward(self, call: Wrap) -> Wrap:
        whole = Key("backward", "backward", "backward")

        def measured(walk: Any, roots: Any) -> None:
            live = self._live
            if live is None:
                return call(walk, roots)
            visit, before = walk.visit, walk.__dict__.get("visit")

            def watched(node: Any, gradients: list[Any]) -> None:
                frame = live.enter(Key("backward", node.name, "backward", getattr(node, "site", "")))
                frame.node = node.number
                _inside(live, frame, visit, node, gradients)

            walk.visit = watched
            try:
                _inside(live, live.enter(whole), call, walk, roots)
            finally:
                if before is None:
                    del walk.visit  # which would be a reference cycle
                else:
                    walk.visit = before

        return measured

    def _detailed(self, live: Recording, key: Key, inputs: tuple[Any, ...]) -> Key:
        """The key with the shapes and the source line of this call; in backward, the line of the forward call."""
        site = ""
        if self.with_stack:
            site = user_line(3) if key.phase == "forward" else live.here().stack[-1].call.key.site
        return Key(key.kind, key.name, key.phase, site, _shapes(inputs) if self.record_shapes else ())

    def _watch(self, memory: Memory, key: Key, inputs: Any, output: Any, node: Any) -> int:
        """Count what a call took, returned and keeps for its gradient; returns the bytes that it allocated."""
        for x in inputs:
            if isinstance(x, HasArray):
                memory.watch(x.data, "inputs", key.name)
        category = "gradients" if key.phase == "backward" else "activations"
        made = (output.data,) if isinstance(output, HasArray) else arrays(output)
        allocated = sum(memory.watch(array, category, key.name, key.site) for array in made)
        if node is not None and node.functions is not None:
            name = f"kept by {key.name}"
            allocated += sum(memory.watch(array, "activations", name, key.site) for array in node.saved())
        return allocated

    def _watch_model(self, memory: Memory, layer: Layer) -> None:
        """Count the parameters and buffers that this layer itself holds."""
        for registry in (layer._parameters, layer._buffers, layer._transient):
            for name, value in registry.items():
                if value is not None:
                    memory.watch(value.data, "parameters", f"{type(layer).__name__}.{name}")


def _inside(live: Recording, frame: Frame, call: Wrap, *inputs: Any, **options: Any) -> Any:
    try:
        return call(*inputs, **options)
    finally:
        live.leave(frame)


def _bytes(output: Any) -> int:
    return sum(array.nbytes for array in arrays(output))


def _shapes(inputs: tuple[Any, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple([x.data.shape if isinstance(x, HasArray) else () for x in inputs])
