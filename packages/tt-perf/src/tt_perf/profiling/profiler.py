"""Part of module 14: what a user calls: a profiler that measures in a block, and whose results are read afterwards."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tt_core.engine.arguments import checked
from tt_core.engine.hookspecs import hookimpl
from tt_learn.svg import SVG
from tt_perf.profiling import averages, pictures, roofline, trace
from tt_perf.profiling.roofline import Machine, Verdict
from tt_perf.profiling.tree import Event, Key, Recording, outermost
from tt_perf.profiling.watching import ProfilerError, Watcher

KINDS = ("layer", "range", "step", "backward", "optimizer", "op")


@dataclass
class Entry:
    """The totals of one op or of one type of layer; a layer inside another of its type counts once in `seconds`."""

    name: str
    kind: str
    calls: int = 0
    seconds: float = 0.0
    self_seconds: float = 0.0
    output_bytes: int = 0
    flops: int = 0
    """FLOPs of an op itself; ops called inside it have entries of their own."""
    bytes_read: int = 0
    bytes_written: int = 0
    backward_seconds: float = 0.0
    """The part of `self_seconds` that belongs to backward passes, recomputation included."""


class Profiler(Watcher):
    """Measures everything that runs while it is plugged in: `with Profiler() as profiler: ...`, or `use("profiler")`.

    `record_shapes` separates calls with different shapes, `with_stack` those from different lines of your program.
    `profile_memory` measures the memory of tensors, `with_flops` computes FLOPs and bytes moved. At most `most_events`
    single events are kept for traces. Each activation starts a new recording. Raises `DTypeError` for
    options of another type, `ProfilerError` for no event to keep.

    >>> import tt_core
    >>> with Profiler() as profiler:
    ...     _ = tt_core.Linear(2, 3)(tt_core.ones(4, 2))
    >>> [(entry.name, entry.calls, entry.flops) for entry in profiler.entries()]
    [('Linear', 1, 0), ('linear', 1, 48)]
    """

    @hookimpl
    def tt_report(self) -> str | None:
        return str(self) if self.entries() else None

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
        """Seconds of the recording."""
        return self._read().ns / 1e9

    @checked
    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0) -> averages.Averages:
        """Totals by name, as PyTorch's: `print(profiler.key_averages().table(sort_by="self_cpu_time_total"))`.

        Forward and backward are separate rows, and so are input shapes and source lines if they are asked for. Raises
        `ProfilerError` if these were not recorded, or nothing was.
        """
        return averages.averages(self, group_by_input_shape, group_by_stack_n)

    def events(self) -> list[Event]:
        """The single calls, in the order they ended; only the last `most_events` are kept."""
        return list(self._read().events)

    @checked
    def verdicts(self, machine: Machine | None = None) -> list[Verdict]:
        """The limit of each op: memory, computation or the overhead of calls; measures the machine if none is given."""
        return roofline.verdicts(self, machine)

    # --- reading: files and pictures

    @checked
    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the events as JSON for Perfetto (ui.perfetto.dev) and chrome://tracing."""
        trace.export_chrome_trace(self, path)

    @checked
    def export_stacks(self, path: str | os.PathLike[str], metric: str = "self_cpu_time_total") -> None:
        """Write collapsed stacks for flamegraph.pl or speedscope: a line for each, with its microseconds.

        `metric` is "self_cpu_time_total", "self_cpu_memory_usage" or "flops". Raises `ProfilerError` for any other.
        """
        trace.export_stacks(self, path, metric)

    def flame_graph(self) -> SVG:
        """A flame graph: which call made which, and how long each took."""
        return pictures.flame_graph(self)

    def memory_timeline(self) -> SVG:
        """The memory of tensors over time, with the peak and its holders; needs `profile_memory=True`."""
        return pictures.memory_timeline(self)

    @checked
    def roofline(self, machine: Machine | None = None) -> SVG:
        """Each op between the limits of this machine, which is measured if not given."""
        return pictures.roofline(self, machine)

    def __str__(self) -> str:
        return averages.table_by_op_and_layer(self)

    def __repr__(self) -> str:
        return str(self) if self.entries() else f"{type(self).__name__}()"

    def _repr_html_(self) -> str:
        """What a notebook shows: the same table."""
        return averages.html_by_op_and_layer(self)

    def _read(self) -> Recording:
        if self.recording is None:
            raise ProfilerError(f"{type(self).__name__}: nothing was recorded yet; run your program in its block")
        return self.recording


def _by_op_and_layer(key: Key) -> tuple[str, str]:
    """All visits of backward are one row."""
    return (key.kind, "backward" if key.kind == "backward" else key.name)


plugin = Profiler()
"""What `use("profiler")` activates; `print(tt_perf.profiling.plugin)` shows the table of the last time."""
