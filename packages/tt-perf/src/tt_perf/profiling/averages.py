"""Part of module 14: totals as tables: by op and layer in our columns, by name in PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tt_core.engine.arguments import checked
from tt_core.engine.errors import did_you_mean
from tt_core.engine.notebook import table
from tt_perf.profiling.tree import Call, Key, outermost
from tt_perf.profiling.watching import ProfilerError

if TYPE_CHECKING:
    from tt_perf.profiling.profiler import Entry, Profiler

OUTSIDE = "(outside of ops and layers)"


# --- PyTorch's columns


@dataclass
class FunctionEventAvg:
    """The totals of all calls with one name; times in microseconds, as in PyTorch."""

    key: str
    kind: str
    phase: str = "forward"
    input_shapes: tuple[tuple[int, ...], ...] = ()
    stack: tuple[str, ...] = ()
    count: int = 0
    cpu_time_total: float = 0.0
    self_cpu_time_total: float = 0.0
    cpu_memory_usage: int = 0
    self_cpu_memory_usage: int = 0
    flops: int = 0
    bytes_moved: int = 0

    def add(self, call: Call) -> None:
        """Adds the calls of a node, without the time and memory of calls inside them."""
        self.count += call.count
        self.self_cpu_time_total += call.self_ns / 1e3
        self.self_cpu_memory_usage += call.allocated
        self.flops += call.flops
        self.bytes_moved += call.read + call.written

    @property
    def cpu_time(self) -> float:
        """Microseconds of one call on average."""
        return self.cpu_time_total / self.count if self.count else 0.0


SORT = ("cpu_time", "cpu_time_total", "self_cpu_time_total", "cpu_memory_usage", "self_cpu_memory_usage", "count",
        "flops")  # fmt: skip


class Averages(list[FunctionEventAvg]):
    """The rows that `key_averages` returns; `table()` shows them."""

    shapes = stacks = memory = flops = False

    @property
    def self_cpu_time_total(self) -> float:
        """Total microseconds: the length of the recording, and the work of other threads during it."""
        return sum(row.self_cpu_time_total for row in self)

    @checked
    def table(
        self, sort_by: str | None = None, row_limit: int = 100, max_name_column_width: int = 55, header: str = ""
    ) -> str:
        """The rows as text in PyTorch's columns, the largest `sort_by` first; `row_limit` -1 shows all.

        Raises `DTypeError` for arguments of another type, `ProfilerError` for an unknown column.
        """
        if sort_by is not None and sort_by not in SORT:
            raise ProfilerError(f"table: cannot sort by {sort_by!r:.60}; {did_you_mean(sort_by, SORT)}")
        if row_limit < -1:
            raise ProfilerError(f"table: row_limit is {row_limit}, expected a number of rows, or -1 for all")
        if max_name_column_width < 4:
            raise ProfilerError(f"table: max_name_column_width is {max_name_column_width}, expected 4 or more")
        rows = sorted(self, key=lambda row: -getattr(row, sort_by)) if sort_by else list(self)
        shown_rows = rows if row_limit == -1 else rows[:row_limit]
        body = text_table(self._columns(max_name_column_width), shown_rows)
        footer = f"Self CPU time total: {microseconds(self.self_cpu_time_total)}"
        return "\n".join([*([header] if header else []), *body, footer])

    def _columns(self, width: int) -> list[tuple[str, Callable[[FunctionEventAvg], str]]]:
        total = self.self_cpu_time_total or 1.0
        columns: list[tuple[str, Callable[[FunctionEventAvg], str]]] = [
            ("Name", lambda row: row.key if len(row.key) <= width else f"{row.key[: width - 3]}..."),
            ("Self CPU %", lambda row: f"{row.self_cpu_time_total / total:.2%}"),
            ("Self CPU", lambda row: microseconds(row.self_cpu_time_total)),
            ("CPU total %", lambda row: f"{row.cpu_time_total / total:.2%}"),
            ("CPU total", lambda row: microseconds(row.cpu_time_total)),
            ("CPU time avg", lambda row: microseconds(row.cpu_time)),
        ]
        if self.memory:
            columns += [
                ("CPU Mem", lambda row: size(row.cpu_memory_usage)),
                ("Self CPU Mem", lambda row: size(row.self_cpu_memory_usage)),
            ]
        columns.append(("# of Calls", lambda row: str(row.count)))
        if self.shapes:
            columns.append(("Input Shapes", lambda row: str([list(shape) for shape in row.input_shapes])))
        if self.stacks:
            columns.append(("Source Location", lambda row: "".join(row.stack[:1])))
        if self.flops:
            columns.append(("Total MFLOPs", lambda row: f"{row.flops / 1e6:.3f}" if row.flops else "--"))
        return columns

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        """What a notebook shows: the same table, the most self time first."""
        columns = self._columns(80)
        rows = sorted(self, key=lambda row: -row.self_cpu_time_total)[:100]
        return table([name for name, _ in columns], [[value(row) for _, value in columns] for row in rows])


def averages(profiler: Profiler, by_shape: bool, by_stack: int) -> Averages:
    """The rows of `Profiler.key_averages`."""
    _check_grouping(profiler, group_by_input_shape=by_shape, group_by_stack_n=by_stack)

    def group(key: Key) -> tuple[str, str, tuple[tuple[int, ...], ...], str]:
        name = OUTSIDE if key.kind == "thread" else key.title
        return key.kind, name, key.shapes if by_shape else (), key.site if by_stack else ""

    rows: dict[Any, FunctionEventAvg] = {}
    calls = list(profiler._read().calls())
    allocated = _allocated_within(call for call, _ in calls)
    for mine, call, first in outermost(iter(calls), group):
        kind, name, shapes, site = mine
        row = rows.get(mine)
        if row is None:
            stack = (site,) if site else ()
            row = rows[mine] = FunctionEventAvg(name, kind, call.key.phase, shapes, stack)
        row.add(call)
        if first:  # not inside another call of this row
            row.cpu_time_total += call.ns / 1e3
            row.cpu_memory_usage += allocated[id(call)]
    result = Averages(rows.values())
    result.shapes, result.stacks = bool(by_shape), bool(by_stack)
    result.memory, result.flops = profiler.profile_memory, profiler.with_flops
    return result


# --- our columns


def table_by_op_and_layer(profiler: Profiler) -> str:
    """Layers, ranges, backward, optimizer and ops, then the time outside all of them."""
    entries = profiler.entries()
    total = sum(entry.self_seconds for entry in entries) or 1.0
    columns: list[tuple[str, Callable[[Entry], str]]] = [
        ("", lambda e: e.kind),
        ("name", lambda e: e.name),
        ("calls", lambda e: f"{e.calls:,}"),
        ("self s", lambda e: f"{e.self_seconds:.4f}"),
        ("share", lambda e: f"{e.self_seconds / total:.1%}"),
        ("in backward", lambda e: f"{e.backward_seconds:.4f}" if e.backward_seconds else ""),
        ("total s", lambda e: f"{e.seconds:.4f}"),
        ("output", lambda e: size(e.output_bytes) if e.kind == "op" else ""),
        ("moved", lambda e: size(e.bytes_read + e.bytes_written) if e.kind == "op" else ""),
        ("GFLOP/s", lambda e: f"{e.flops / e.self_seconds / 1e9:.1f}" if e.flops and e.self_seconds else ""),
    ]
    lines = text_table(columns, entries, left=2)
    if profiler.recording is not None:
        seconds, outside = profiler.seconds, profiler.seconds - _inside_seconds(profiler)
        lines.append(f"{seconds:.4f} s in all, of which {outside:.4f} s outside of ops and layers")
    return "\n".join(lines)


def html_by_op_and_layer(profiler: Profiler) -> str:
    """The same rows for a notebook."""
    entries = profiler.entries()
    total = sum(e.self_seconds for e in entries) or 1.0
    rows = [
        (
            *(e.kind, e.name, e.calls, e.self_seconds, f"{e.self_seconds / total:.1%}", e.backward_seconds, e.seconds),
            *(size(e.output_bytes), size(e.bytes_read + e.bytes_written)),
            e.flops / e.self_seconds / 1e9 if e.flops and e.self_seconds else "",
        )
        for e in entries
    ]
    headings = ("", "name", "calls", "self s", "share", "in backward", "total s", "output", "moved", "GFLOP/s")
    return table(headings, rows, "Profiler")


def _inside_seconds(profiler: Profiler) -> float:
    """Seconds that the thread that began the recording spent in calls."""
    return profiler._read().roots()[0].inside / 1e9


# --- text


def text_table(columns: list[tuple[str, Callable[[Any], str]]], rows: Iterable[Any], left: int = 1) -> list[str]:
    """Lines of a table below its headings; the first `left` columns are aligned to the left, others to the right.

    >>> text_table([("x", str), ("square", lambda x: str(x * x))], [1, 10])
    ['x   square', '1        1', '10     100']
    """
    texts = [[name for name, _ in columns], *([value(row) for _, value in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts)]

    def aligned(row: list[str]) -> str:
        cells = [x.ljust(n) if i < left else x.rjust(n) for i, (x, n) in enumerate(zip(row, widths))]
        return "  ".join(cells).rstrip()

    return [aligned(row) for row in texts]


def microseconds(value: float) -> str:
    """Microseconds in the unit in which PyTorch shows them.

    >>> microseconds(12.3456), microseconds(12345.6), microseconds(2.5e6)
    ('12.346us', '12.346ms', '2.500s')
    """
    if value >= 1e6:
        return f"{value / 1e6:.3f}s"
    return f"{value / 1e3:.3f}ms" if value >= 1e3 else f"{value:.3f}us"


def size(count: float) -> str:
    """A number of bytes with its unit.

    >>> size(1536)
    '1.5 kB'
    """
    for unit in ("B", "kB", "MB"):
        if abs(count) < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GB"


_NEEDS = {"group_by_input_shape": "record_shapes", "group_by_stack_n": "with_stack"}
"""The option of `profile` that records what a grouping reads."""


def _check_grouping(profiler: Profiler, **groupings: object) -> None:
    """Raises `ProfilerError` for a grouping whose information was not recorded."""
    for name, wanted in groupings.items():
        if wanted and not getattr(profiler, _NEEDS[name]):
            raise ProfilerError(f"key_averages: {name} needs a profile that was made with {_NEEDS[name]}=True")


def _allocated_within(calls: Iterable[Call]) -> dict[int, int]:
    """Bytes allocated in each call, its children included, by the call's `id`."""
    allocated: dict[int, int] = {}
    for call in reversed(list(calls)):  # children come before their callers
        allocated[id(call)] = call.allocated + sum(allocated[id(child)] for child in call.children.values())
    return allocated
