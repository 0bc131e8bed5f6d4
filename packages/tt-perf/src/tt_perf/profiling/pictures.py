"""Part of module 14: a profile as pictures, of the pieces in `tt_learn.svg`: flame graph, memory, roofline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tt_learn.svg import (
    COLOURS,
    LEFT,
    MOST_POINTS,
    RIGHT,
    SVG,
    WIDTH,
    Box,
    Scale,
    area,
    around,
    circle,
    drawing,
    framed,
    legend,
    line,
    named_circle,
    rectangle,
    text,
)
from tt_perf.profiling.averages import microseconds, size
from tt_perf.profiling.memory import CATEGORIES, Holder, largest
from tt_perf.profiling.roofline import Machine
from tt_perf.profiling.tree import Call, Key, Recording
from tt_perf.profiling.watching import ProfilerError

if TYPE_CHECKING:
    from tt_perf.profiling.profiler import Profiler

# --- flame graph

_SHEET, _ROW, _MARGIN, _LETTER = 1200, 19, 20, 6.2  # pixels
_COLOUR = {
    "outside": "#d8d8d8",
    "layer": "#a9c9ea",
    "forward op": "#9fd6ae",
    "backward op": "#f2b48f",
    "backward": "#f7d9c4",
    "optimizer": "#c9b6e4",
    "range": "#f0e2a8",
}
_DEEPEST = 80  # rows; deeper calls are part of their callers


def flame_graph(profiler: Profiler) -> SVG:
    """Calls as boxes below their caller, as wide as their time, in the order of the first call."""
    roots = [root for root in _with_beginning(profiler._read()) if root.ns > 0]
    total = sum(root.ns for root in roots)
    if not total:
        raise ProfilerError("flame_graph: nothing was recorded yet")
    scale = (_SHEET - 2 * _MARGIN) / total
    boxes = list(_boxes(roots, scale))
    depth = max(row for row, *_ in boxes) + 1
    parts = [
        text(_MARGIN, 26, f"Flame graph: {microseconds(total / 1e3)}", size=17, weight="bold"),
        *legend(list(_COLOUR), list(_COLOUR.values()), right=_SHEET - _MARGIN),
    ]
    for row, x, width, call in boxes:
        top = 46 + row * _ROW
        tip = f"{_named(call.key)}: {microseconds(call.ns / 1e3)}, self {microseconds(call.self_ns / 1e3)}"
        parts.append(rectangle(x, top, width, _ROW, _COLOUR[_kind(call.key)], f"{tip}, {call.count:,} calls"))
        letters = int((width - 6) / _LETTER)
        if letters >= 3:
            name = call.key.title
            parts.append(text(x + 3, top + 14, name if len(name) <= letters else name[: letters - 1] + "…", size=11))
    return drawing(parts, _SHEET, 46 + depth * _ROW + _MARGIN)


def _with_beginning(recording: Recording) -> list[Call]:
    """The trees; in the tree of the starting thread, the time before the first call is a call of its own."""
    roots, key = recording.roots(), Key("outside", "before the first op")
    if roots and recording.ns_before:
        began, home = Call(key), roots[0]
        began.count, began.ns = 1, min(recording.ns_before, home.self_ns)
        home.children = {key: began, **home.children}
        home.inside += began.ns
    return roots


def _boxes(roots: list[Call], scale: float) -> Iterator[tuple[int, float, float, Call]]:
    """Row, left edge, width and call of each box that is wide enough to be seen."""
    x = float(_MARGIN)
    stack: list[tuple[int, float, Call]] = []
    for root in roots:
        stack.append((0, x, root))
        x += root.ns * scale
    while stack:
        row, x, call = stack.pop()
        width = call.ns * scale
        if width < 0.4 or row >= _DEEPEST:
            continue
        yield row, x, width, call
        for child in call.children.values():
            stack.append((row + 1, x, child))
            x += child.ns * scale


def _kind(key: Key) -> str:
    if key.kind == "op":
        return "forward op" if key.phase == "forward" else "backward op"
    return {"thread": "outside", "step": "range"}.get(key.kind, key.kind)


def _named(key: Key) -> str:
    return f"{key.title} ({key.site})" if key.site else key.title


# --- memory

_MB = 1 << 20
_LONG = 10 * 10**9  # nanoseconds, from which on the axis counts seconds


def memory_timeline(profiler: Profiler) -> SVG:
    """The memory that tensors held over time, by category; the peak is marked, with its holders below."""
    memory = profiler.memory
    if memory is None:
        raise ProfilerError("memory_timeline: needs a profile that was made with profile_memory=True")
    if not memory.samples:
        raise ProfilerError("memory_timeline: no tensor was seen; run your program in the profiler's block")
    samples = list(memory.samples)
    samples = largest(samples, -(-len(samples) // MOST_POINTS))
    start, peak = memory.start, memory.peak
    unit, ns = ("s", 1e9) if samples[-1][0] - start > _LONG else ("ms", 1e6)
    points = [((moment - start) / ns, sum(held) / _MB) for moment, held in samples]

    def drawn(x_at: Scale, y_at: Scale) -> list[str]:
        parts = []
        xs = [x for x, _ in points]
        lower = [0.0] * len(xs)
        for i, colour in zip(range(len(CATEGORIES)), COLOURS):
            upper = [low + held[i] / _MB for low, (_, held) in zip(lower, samples)]
            edge = _steps(xs, upper) + _steps(xs, lower)[::-1]
            parts.append(area([(x_at(x), y_at(y)) for x, y in edge], colour))
            lower = upper
        x, y = x_at((peak.moment - start) / ns), y_at(peak.total / _MB)
        parts.append(line([(LEFT, y), (WIDTH - RIGHT, y)], "#333333", 1, "6 4"))
        left = x > WIDTH / 2
        parts.append(text(x + (-8 if left else 8), y - 6, f"peak {size(peak.total)}", "end" if left else "start"))
        return [*parts, circle(x, y, 3.5, "#333333"), *legend(CATEGORIES)]

    holders = sorted(peak.holders.items(), key=lambda item: -item[1])
    lines = [f"{size(count):>9}  {_holder(holder)}" for holder, count in holders[:10]]
    below = ["Held at the peak:", *lines, *([f"and {len(holders) - 10} others"] if len(holders) > 10 else [])]
    axis = f"{unit} since the profile began"
    return framed([(points[0][0], 0.0), *points], drawn, "Memory", axis, "MB held by tensors", below=below)


def _steps(xs: list[float], ys: list[float]) -> list[tuple[float, float]]:
    """Each value until the next one comes."""
    corners = [(x, y) for x, before, y in zip(xs[1:], ys, ys[1:]) for y in (before, y)]
    return [(xs[0], ys[0]), *corners]


def _holder(holder: Holder) -> str:
    return f"{holder.category}: {holder.name}" + (f" ({holder.site})" if holder.site else "")


# --- roofline

_BOUND = {"memory": COLOURS[0], "compute": COLOURS[1], "overhead": COLOURS[3]}
_NAMED = 8  # ops that get a label


def roofline(profiler: Profiler, machine: Machine | None) -> SVG:
    """FLOPs per byte to the right, GFLOP/s upwards, below the roofs of the machine; area is the share of the time."""
    verdicts = profiler.verdicts(machine)
    found = [each for each in verdicts if each.flops and each.bytes_moved]
    if not found:
        raise ProfilerError("roofline: no op that computes was recorded")
    machine = found[0].machine
    total = sum(each.seconds for each in verdicts)
    places = [(each.intensity, each.flops / each.seconds / 1e9) for each in found]
    low, high = min(x for x, _ in places) / 1.5, max(machine.ridge * 4, *(x * 1.5 for x, _ in places))
    bandwidth, peak = machine.bytes_per_second / 1e9, machine.flops_per_second / 1e9
    roof = [(low, low * bandwidth), (machine.ridge, peak), (high, peak)]

    def drawn(x_at: Scale, y_at: Scale) -> list[str]:
        parts = [line([(x_at(x), y_at(y)) for x, y in roof], "#333333", 2)]
        spots = [(x_at(x), y_at(y), max(3.0, 22 * (v.seconds / total) ** 0.5)) for v, (x, y) in zip(found, places)]
        taken: list[Box] = [around(*spot) for spot in spots]
        for x, y, words in (
            (x_at(machine.ridge), y_at(peak) - 8, f"{peak:.1f} GFLOP/s"),
            (x_at(low) + 22, y_at(low * bandwidth) + 4, f"{bandwidth:.1f} GB/s"),
        ):
            parts.append(text(x, y, words, weight="bold", halo=True))
            taken.append((x, y - 10, x + 8 * len(words), y + 3))
        parts += [circle(x, y, r, _BOUND[each.bound], str(each)) for each, (x, y, r) in zip(found, spots)]
        parts += [named_circle(each.name, *spot, taken, 11) for each, spot in zip(found[:_NAMED], spots)]
        return [*parts, *legend(list(_BOUND), list(_BOUND.values()))]

    lines = [f"{each.seconds / total:6.1%}  {each}" for each in found[:8]]
    return framed([*places, *roof], drawn, "Roofline", "FLOPs per byte moved", "GFLOP/s", logarithmic=True, below=lines)
