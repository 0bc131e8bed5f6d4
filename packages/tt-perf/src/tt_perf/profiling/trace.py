"""Part of module 14: events as files that other programs open.

The trace is Chrome's format: "X" events with a beginning and a duration in microseconds from 0, nested strictly within
a thread; "M" events that name process and threads; arrows from a forward call to the visit of backward that belongs to
it. Times are whole nanoseconds divided by 1,000, so rounding lets no event outlast the one around it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tt_core.engine.errors import did_you_mean
from tt_core.engine.files import write_atomic
from tt_perf.profiling.tree import Call, Event, Key
from tt_perf.profiling.watching import ProfilerError

if TYPE_CHECKING:
    from tt_perf.profiling.profiler import Profiler

METRICS: dict[str, Callable[[Call], int]] = {
    "self_cpu_time_total": lambda call: call.self_ns // 1000,
    "self_cpu_memory_usage": lambda call: call.allocated,
    "flops": lambda call: call.flops,
}


def export_chrome_trace(profiler: Profiler, path: str | os.PathLike[str]) -> None:
    """Write what `chrome_trace` returns to a file. Raises `FileError` where that cannot be written."""
    write_atomic(path, json.dumps(chrome_trace(profiler), separators=(",", ":"), allow_nan=False).encode())


def chrome_trace(profiler: Profiler) -> dict[str, Any]:
    """The events as Chrome's trace format has them, ready for `json.dumps`."""
    recording = profiler._read()
    pid = os.getpid()
    names = {event.thread: "ended thread" for event in recording.events}
    names |= {ident: thread.name for ident, thread in list(recording.threads.items())}
    order = {ident: i + 1 for i, ident in enumerate(names)}
    events = sorted(recording.events, key=lambda event: (event.start, -event.end))
    return {
        "displayTimeUnit": "ms",
        "otherData": {"dropped_events": recording.dropped},
        "traceEvents": [
            _names(pid, 0, "process_name", "tinytorch"),
            *(_names(pid, order[ident], "thread_name", name) for ident, name in names.items()),
            *(_slice(event, recording.start, pid, order[event.thread]) for event in events),
            *_arrows(events, recording.start, pid, order),
        ],
    }


def _names(pid: int, tid: int, what: str, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": pid, "tid": tid, "name": what, "args": {"name": name}}


def _slice(event: Event, start: int, pid: int, tid: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if event.key.site:
        arguments["source"] = event.key.site
    if event.key.shapes:
        arguments["Input Dims"] = event.key.shapes
    if event.node >= 0:
        arguments["Sequence number"] = event.node
    return {
        "ph": "X",
        "pid": pid,
        "tid": tid,
        "name": event.name,
        "cat": f"{event.key.kind} {event.key.phase}",
        "ts": (event.start - start) / 1000,
        "dur": (event.end - event.start) / 1000,
        "args": arguments,
    }


def _arrows(events: list[Event], start: int, pid: int, order: dict[int, int]) -> Iterator[dict[str, Any]]:
    """From each recorded forward call to the visit of its node."""
    made = {event.node: event for event in events if event.node >= 0 and event.key.kind == "op"}
    for visit in events:
        call = made.get(visit.node) if visit.key.kind == "backward" and visit.node >= 0 else None
        if call is not None:
            for event, ph in ((call, "s"), (visit, "f")):
                arrow = {"ph": ph, "id": visit.node, "name": "fwdbwd", "cat": "fwdbwd", "pid": pid}
                arrow |= {"tid": order[event.thread], "ts": (event.start - start) / 1000}
                yield arrow | ({"bp": "e"} if ph == "f" else {})


def export_stacks(profiler: Profiler, path: str | os.PathLike[str], metric: str) -> None:
    """Write collapsed stacks: `outer;inner value`, one line for each node of the tree that has a value."""
    if metric not in METRICS:
        raise ProfilerError(f"export_stacks: metric is {metric!r:.60}; {did_you_mean(metric, METRICS)}")
    if metric == "self_cpu_memory_usage" and not profiler.profile_memory:
        raise ProfilerError("export_stacks: self_cpu_memory_usage needs a profile made with profile_memory=True")
    value = METRICS[metric]
    totals: dict[str, int] = {}
    for call, around in profiler._read().calls():
        stack = ";".join(map(_frame, (*around, call.key)))
        totals[stack] = totals.get(stack, 0) + value(call)
    text = "".join(f"{stack} {total}\n" for stack, total in totals.items() if total > 0)
    write_atomic(path, text.encode())


def _frame(key: Key) -> str:
    """A call in a collapsed stack, where a semicolon and a line break separate."""
    name = f"{key.title} ({key.site})" if key.site else key.title
    return name.replace(";", ",").replace("\n", " ")
