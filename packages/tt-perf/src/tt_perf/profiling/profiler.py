"""Part of module 14: the plugin that measures every op, layer, backward pass and optimizer step from outside.

Nothing that is measured knows of it: it answers the hooks that wrap calls. Each wrap enters the call into the tree of
`tree.py` and leaves it again; what a table or picture shows is read off that tree afterwards. Where nothing is to be
recorded (`schedule` waits), a wrap costs one look at a variable.

It measures this process alone, and NumPy outside of ops only as time of whoever called it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tt_core import phase
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import HasArray, Op
from tt_core.engine.errors import TinyTorchError, shown
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_core.layers import Layer
from tt_perf.profiling.memory import Holder, Memory
from tt_perf.profiling.sources import user_line
from tt_perf.profiling.tree import MOST_EVENTS, Event, Frame, Key, Recording, outermost
from tt_perf.profiling.work import FLOPS, MOVES, arrays, bytes_moved

if TYPE_CHECKING:
    import os

    from tt_learn.optimizers import Optimizer
    from tt_learn.svg import SVG
    from tt_perf.profiling.averages import Averages
    from tt_perf.profiling.roofline import Machine, Verdict

Wrap = Callable[..., Any]
KINDS = ("layer", "range", "step", "backward", "optimizer", "op")


class ProfilerError(TinyTorchError, ValueError):
    """Options that a profiler cannot work with, or a question that it has nothing to answer with."""


@dataclass
class Entry:
    """What was measured of one op, or of one type of layer; `seconds` count a layer inside one of its type once."""

    name: str
    kind: str
    calls: int = 0
    seconds: float = 0.0
    self_seconds: float = 0.0
    output_bytes: int = 0
    flops: int = 0
    """Of its own work, for an op; what is called inside has its own entry."""
    bytes_read: int = 0
    bytes_written: int = 0
    backward_seconds: float = 0.0
    """The part of `self_seconds` that belongs to backward passes, recomputation included."""


active: list[Profiler] = []
"""Profilers that are plugged in, which `record_function` tells of its blocks."""


class Profiler:
    """Measures everything that runs while it is plugged in: `with Profiler() as profiler: ...`, or `use("profiler")`.

    `record_shapes` tells calls with different shapes apart, `with_stack` those from different lines of your program,
    `profile_memory` watches what tensors hold, `with_flops` works out FLOPs and bytes moved. At most `most_events`
    single events are kept for traces. Each time it is plugged in, it starts afresh. Raises `DTypeError` for
    options of another type, `ProfilerError` for no event to keep.

    >>> import tt_core
    >>> with Profiler() as profiler:
    ...     _ = tt_core.Linear(2, 3)(tt_core.ones(4, 2))
    >>> [(entry.name, entry.calls, entry.flops) for entry in profiler.entries()]
    [('Linear', 1, 0), ('linear', 1, 48)]
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
            raise ProfilerError(f"{type(self).__name__}: most_events is {shown(most_events)}, expected 1 or more")
        self.record_shapes, self.with_stack = bool(record_shapes), bool(with_stack)
        self.profile_memory, self.with_flops = bool(profile_memory), bool(with_flops)
        self.most_events = int(most_events)
        self.recording: Recording | None = None
        """What was measured last; None before the first time."""
        self.memory: Memory | None = None
        self.names: dict[int, str] = {}
        """What layers are called, by id; others go by their type."""
        self._live: Recording | None = None
        self._blocks = 0  # how many `with` blocks it is in
        self._entering = threading.Lock()

    # --- coming and going

    def __enter__(self) -> Profiler:
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

    @hookimpl
    def tt_plugged(self) -> None:
        self.start()
        active.append(self)

    @hookimpl
    def tt_unplugged(self) -> None:
        if self in active:
            active.remove(self)
        self.stop()

    def start(self) -> None:
        """Record from now on, and forget what was recorded before."""
        self.memory = Memory(self.most_events) if self.profile_memory else None
        self.recording = self._live = Recording(self.most_events)

    def stop(self) -> None:
        """Record no longer; what was recorded can be read."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
            if self.memory is not None:
                self.memory.stop()

    def reset(self) -> None:
        """Forget what was measured so far."""
        if self._live is not None:
            self.start()
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
            node = getattr(output, "grad_fn", None)
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

    @hookimpl
    def tt_report(self) -> str | None:
        return str(self) if self.entries() else None

    def _detailed(self, live: Recording, key: Key, inputs: tuple[Any, ...]) -> Key:
        """The key with the shapes and the source line of this call; in backward, the line of the forward call."""
        site = ""
        if self.with_stack:
            site = user_line(3) if key.phase == "forward" else live.here().stack[-1].call.key.site
        return Key(key.kind, key.name, key.phase, site, _shapes(inputs) if self.record_shapes else ())

    def _watch(self, memory: Memory, key: Key, inputs: Any, output: Any, node: Any) -> int:
        """Count what a call took, returned and keeps for its gradient; returns the bytes that it allocated."""
        backward = key.phase == "backward"
        for array in arrays(inputs):
            memory.watch(array, Holder("inputs", f"input of {key.name}"))
        holder = Holder("gradients" if backward else "activations", key.name, key.site)
        allocated = sum(memory.watch(array, holder) for array in arrays(output))
        if node is not None and node.functions is not None:
            kept = Holder("activations", f"kept by {key.name}", key.site)
            allocated += sum(memory.watch(array, kept) for array in node.saved())
        return allocated

    def _watch_model(self, memory: Memory, layer: Layer) -> None:
        """Count the parameters and buffers that this layer itself holds."""
        for registry in (layer._parameters, layer._buffers, layer._transient):
            for name, value in registry.items():
                if value is not None:
                    memory.watch(value.data, Holder("parameters", f"{type(layer).__name__}.{name}"))

    # --- reading: tables

    def entries(self) -> list[Entry]:
        """What was measured, by op and by type of layer: layers first, ops last, the most self time first."""
        found: dict[tuple[str, str], Entry] = {}
        if self.recording is None:
            return []
        for group, call, first in outermost(self.recording.calls(), _by_op_and_layer):
            kind, name = group
            if kind == "thread":
                continue
            entry = found.setdefault(group, Entry(name, kind))
            entry.calls += call.count
            entry.seconds += call.ns / 1e9 if first else 0.0
            entry.self_seconds += call.self_ns / 1e9
            entry.backward_seconds += call.self_ns / 1e9 if call.key.phase != "forward" else 0.0
            entry.output_bytes += call.output
            entry.flops += call.flops
            entry.bytes_read += call.read
            entry.bytes_written += call.written
        return sorted(found.values(), key=lambda e: (KINDS.index(e.kind), -e.self_seconds))

    @property
    def seconds(self) -> float:
        """How long was recorded."""
        return self._read().ns / 1e9

    @checked
    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0) -> Averages:
        """Totals by name, as PyTorch's: `print(profiler.key_averages().table(sort_by="self_cpu_time_total"))`.

        Forward and backward apart; by shapes of the inputs and by source lines too, where these were recorded. Raises
        `ProfilerError` where they were not, or nothing was.
        """
        from tt_perf.profiling.averages import averages

        return averages(self, group_by_input_shape, group_by_stack_n)

    def events(self) -> list[Event]:
        """The single calls, in the order they ended; only the last `most_events` are kept."""
        return list(self._read().events)

    def verdicts(self, machine: Machine | None = None) -> list[Verdict]:
        """What bounds each op: memory, computation or the overhead of calls; the machine is measured if not given."""
        from tt_perf.profiling.roofline import verdicts

        return verdicts(self, machine)

    # --- reading: files and pictures

    @checked
    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the events as JSON for Perfetto (ui.perfetto.dev) and chrome://tracing."""
        from tt_perf.profiling.trace import export_chrome_trace

        export_chrome_trace(self, path)

    @checked
    def export_stacks(self, path: str | os.PathLike[str], metric: str = "self_cpu_time_total") -> None:
        """Write collapsed stacks for flamegraph.pl or speedscope: a line for each, with its microseconds.

        `metric` is "self_cpu_time_total", "self_cpu_memory_usage" or "flops". Raises `ProfilerError` for any other.
        """
        from tt_perf.profiling.trace import export_stacks

        export_stacks(self, path, metric)

    def flame_graph(self) -> SVG:
        """Who called whom and how long it took, as a picture."""
        from tt_perf.profiling.pictures import flame_graph

        return flame_graph(self)

    def memory_timeline(self) -> SVG:
        """What tensors held over time, with the peak and who held it; needs `profile_memory=True`."""
        from tt_perf.profiling.pictures import memory_timeline

        return memory_timeline(self)

    def roofline(self, machine: Machine | None = None) -> SVG:
        """Each op between the limits of this machine, which is measured if not given."""
        from tt_perf.profiling.pictures import roofline

        return roofline(self, machine)

    def __str__(self) -> str:
        from tt_perf.profiling.averages import table_by_op_and_layer

        return table_by_op_and_layer(self)

    def __repr__(self) -> str:
        return str(self) if self.entries() else f"{type(self).__name__}()"

    def _repr_html_(self) -> str:
        """What a notebook shows: the same table."""
        from tt_perf.profiling.averages import html_by_op_and_layer

        return html_by_op_and_layer(self)

    def _read(self) -> Recording:
        if self.recording is None:
            raise ProfilerError(f"{type(self).__name__}: nothing was recorded yet; run your program in its block")
        return self.recording


def known(name: str) -> bool:
    """Whether the FLOPs of an op are known."""
    return name in FLOPS or name in MOVES


def _inside(live: Recording, frame: Frame, call: Wrap, *inputs: Any, **options: Any) -> Any:
    try:
        return call(*inputs, **options)
    finally:
        live.leave(frame)


def _by_op_and_layer(key: Key) -> tuple[str, str]:
    """All visits of backward are one row."""
    return (key.kind, "backward" if key.kind == "backward" else key.name)


def _bytes(output: Any) -> int:
    return sum(array.nbytes for array in arrays(output))


def _shapes(inputs: tuple[Any, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple([x.data.shape if isinstance(x, HasArray) else () for x in inputs])


plugin = Profiler()
"""What `use("profiler")` activates; `print(tt_perf.profiling.plugin)` shows the table of the last time."""
