"""Part of `capture`: compiled kernels in a row become one compiled call.

Outside its loop, a kernel of `jit` takes 5 to 10 us: checks, allocation, and Numba's unpacking of arguments. These have
the same outcome in every replay. So a kernel can describe the compiled code that it would run as a `Job`, and the jobs
of neighbouring calls become a table that one call runs (`kernels/job_loops.py`). Memory is planned when the table is
built:

    inputs         their addresses are written into the table before each run
    intermediates  share one buffer, planned by liveness
    results        new arrays, or those of the previous run if nothing refers to them any more, so a gradient or a loss
                   that the user keeps never changes

A kernel takes part through an attribute, `kernel.as_job(inputs, results, attributes, failed)`. The arrays it is given
have the real shapes, dtypes and strides, but no memory. It returns a `Job` that computes the same bits, or None. If a
piece meets values that it does not cover, or that the op's check refuses, it sets the int64 at `failed` to 1. Then the
program stops, and the kernels run one by one.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tt_core.engine import mutation
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import PluginError
from tt_core.engine.heap import LINE, address_of, aligned
from tt_perf.acceleration.capture.plan import places, reads, slots_in
from tt_perf.acceleration.capture.tape import Call, Job, Tape
from tt_perf.kernels.job_loops import ARGUMENTS, COUNT, FUNCTION, PIECES
from tt_perf.kernels.team import team
from tt_perf.kernels.team_loops import MOST

Values = list[Any]
Run = Callable[[Values], None]

LARGE = 1 << 19
"""Bytes of an array above which a call stays out of programs: its loop takes long, and its memory should be freed."""
_PATIENCE = 3
"""Failures after which a program is no longer tried."""


@dataclass(frozen=True)
class Layout:
    """Dtype, shape and strides of an array."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, x: Any) -> Layout | None:
        """The layout of an array; None for anything else, and for arrays that are not aligned."""
        fine = type(x) is np.ndarray and x.flags.aligned
        return cls(x.dtype, x.shape, x.strides) if fine else None

    def fits(self, x: Any) -> bool:
        """Whether an array has this layout."""
        fine = type(x) is np.ndarray and x.dtype == self.dtype and x.shape == self.shape and x.strides == self.strides
        return bool(fine and x.flags.aligned)

    @functools.cached_property
    def stand_in(self) -> Array:
        """An array of this layout without memory: its elements must not be read."""
        return np.lib.stride_tricks.as_strided(np.empty(1, self.dtype), self.shape, self.strides)

    @functools.cached_property
    def room(self) -> int:
        """Bytes of whole cache lines."""
        return -(-self.stand_in.nbytes // LINE) * LINE


@functools.cache
def _runner() -> Any:
    """The compiled loops that run programs; None if Numba is not installed."""
    from tt_perf.acceleration.compiling import compiled

    try:
        return compiled()
    except PluginError:
        return None


def has_jobs(tape: Tape) -> bool:
    """Whether some kernel of a tape offers compiled code."""
    return any(isinstance(each, Call) and hasattr(each.kernel, "as_job") for each in tape.instructions)


class Programs:
    """Builds the programs of a tape.

    `layouts` are those of all slots; `fixed` holds the values of slots that are the same in every run.
    """

    def __init__(self, tape: Tape, layouts: Mapping[int, Layout | None], fixed: Mapping[int, Any]) -> None:
        self._layouts = {slot: layout for slot, layout in layouts.items() if layout is not None}
        self._fixed = fixed
        self._failed, self._lock = np.zeros(1, np.int64), threading.Lock()
        self._instructions = tape.instructions
        self._jobs = [self._job_of(each) if isinstance(each, Call) else None for each in tape.instructions]
        self._last_reads = {slot: i for i, each in enumerate(tape.instructions) for slot in reads(each)}
        self._last_reads |= dict.fromkeys(slots_in(tape.result), len(tape.instructions))

    def parts(self) -> list[tuple[int, int, Program | None]]:
        """Splits the instructions into ranges (first, last, program); a single call has None for its program."""
        found: list[tuple[int, int, Program | None]] = []
        first = 0
        while first < len(self._jobs):
            last = next((i for i in range(first, len(self._jobs)) if self._jobs[i] is None), len(self._jobs))
            program = self._program(first, last) if last - first > 1 else None
            last = first + 1 if program is None else last
            found.append((first, last, program))
            first = last
        return found

    # --- jobs

    def _job_of(self, call: Call) -> Job | None:
        """The job of a call; None if its kernel offers none, or if its arrays are large or not laid out as needed."""
        make = getattr(call.kernel, "as_job", None)
        if make is None or call.op.random or call.views != (None,) * len(call.results):
            return None
        inputs = tuple([self._input(slot) for slot in call.inputs])
        results = tuple([self._layouts[slot].stand_in for slot in call.results if slot in self._layouts])
        arrays = [x for x in (*inputs, *results) if isinstance(x, np.ndarray)]
        whole = len(results) == len(call.results) and all(x.flags.c_contiguous for x in results)
        if not whole or any(x is ... for x in inputs) or not all(0 < x.nbytes <= LARGE for x in arrays):
            return None
        job: Job | None = make(inputs, results, call.attributes, self._failed)
        return job if job is not None and len(job.arguments) <= MOST else None

    def _input(self, slot: int) -> Any:
        """A stand-in for an array, the fixed value of a slot, or `...` for what a program cannot read."""
        layout = self._layouts.get(slot)
        return self._fixed.get(slot, ...) if layout is None else layout.stand_in

    # --- programs

    def _program(self, first: int, last: int) -> Program | None:
        runner = _runner()
        if runner is None:
            return None
        calls = [each for each in self._instructions[first:last] if isinstance(each, Call)]
        at, buffer = self._between(calls, first, last)
        at |= {slot: address_of(x) for slot, x in self._fixed.items() if isinstance(x, np.ndarray)}
        made = [slot for call in calls for slot in call.results if slot not in at]
        read = dict.fromkeys(slot for call in calls for slot in call.inputs if slot in self._layouts)
        given = [slot for slot in read if slot not in at and slot not in made]
        slots = {id(self._layouts[slot].stand_in): slot for slot in (*read, *made, *at) if slot in self._layouts}
        table = Table([job for job in self._jobs[first:last] if job is not None], slots, at)

        def entries(some: Sequence[int]) -> list[Entry]:
            return [(slot, self._layouts[slot], table.cells.get(slot, [])) for slot in some]

        return Program(runner, table, entries(given), entries(made), self._failed, self._lock, buffer)

    def _between(self, calls: Sequence[Call], first: int, last: int) -> tuple[dict[int, int], Array]:
        """The addresses of intermediates, which only these calls read, by slot; and the buffer that holds them."""
        births = {slot: i for i, call in enumerate(calls, first) for slot in call.results}
        lives = [(slot, birth, self._last_reads.get(slot, birth)) for slot, birth in births.items()]
        lives = [(slot, birth, death) for slot, birth, death in lives if death < last]
        begins, size = places([(birth, death, self._layouts[slot].room) for slot, birth, death in lives])
        buffer = aligned((size + LINE,), np.uint8)
        start = address_of(buffer) + -address_of(buffer) % LINE
        return {slot: start + begin for (slot, *_), begin in zip(lives, begins)}, buffer


class Table:
    """Jobs as integers: `program` has a row for each job, `numbers` holds all arguments.

    `slots` maps ids of stand-ins to slots, `at` maps slots to fixed addresses. `cells` lists, for every other slot, the
    places in `numbers` that hold its address, each with an offset in bytes.
    """

    def __init__(self, jobs: Sequence[Job], slots: Mapping[int, int], at: Mapping[int, int]) -> None:
        self.numbers = np.zeros(sum(len(job.arguments) for job in jobs), np.int64)
        self.program = np.zeros((len(jobs), 4), np.int64)
        self.cells: dict[int, list[tuple[int, int]]] = {}
        self.pieces = max(job.pieces for job in jobs)
        self._held = jobs  # keeps the kernels' own arrays alive
        begin = 0
        for row, job in zip(self.program, jobs):
            row[FUNCTION], row[COUNT], row[PIECES] = job.function, len(job.arguments), job.pieces
            row[ARGUMENTS] = address_of(self.numbers) + 8 * begin
            for place, x in enumerate(job.arguments, begin):
                self.numbers[place] = self._address(place, x, slots, at) if isinstance(x, np.ndarray) else int(x)
            begin += len(job.arguments)

    def _address(self, place: int, x: Array, slots: Mapping[int, int], at: Mapping[int, int]) -> int:
        owner = mutation.owner(x)
        slot = slots.get(id(owner))
        if slot is None:  # an array of the kernel's own
            return address_of(x)
        skipped = address_of(x) - address_of(owner)
        if slot not in at:
            self.cells.setdefault(slot, []).append((place, skipped))
        return at.get(slot, 0) + skipped


Entry = tuple[int, Layout, list[tuple[int, int]]]
"""A slot, its layout, and the cells that hold its address."""


@dataclass(eq=False)
class Program:
    """Jobs that run in one call: they read the slots `given` and fill the slots `made`."""

    runner: Any
    table: Table
    given: list[Entry]
    made: list[Entry]
    failed: Array
    lock: threading.Lock
    """Held during a run: tables and buffers of one tape serve one thread at a time."""
    buffer: Array
    stops: int = 0

    def __post_init__(self) -> None:
        self._run = self.runner["run_program"]
        self._kept: list[Any] = [None] * len(self.made)  # the results of the run before

    def run(self, values: Values) -> bool:
        """Computes the results; False if it could not, so that the kernels must run one by one."""
        if self.stops > _PATIENCE or not self.lock.acquire(blocking=False):
            return False
        try:
            return self._attempt(values)
        finally:
            self.lock.release()

    def _attempt(self, values: Values) -> bool:
        for slot, layout, cells in self.given:
            if not layout.fits(values[slot]):
                return False
            self._point(cells, values[slot])
        for i, (_, layout, cells) in enumerate(self.made):
            if _holders(self._kept, i) != _ALONE:  # something still refers to the array of the previous run
                self._kept[i] = None  # until its address is in the table, also after an interruption
                made = np.empty(layout.shape, layout.dtype)
                self._point(cells, made)
                self._kept[i] = made
        if not self._run(team().ready(self.runner, self.table.pieces), self.table.program, self.failed):
            self.stops += 1
            return False
        for (slot, *_), x in zip(self.made, self._kept):
            values[slot] = x
        return True

    def _point(self, cells: Sequence[tuple[int, int]], x: Array) -> None:
        """Writes the address of an array into its cells."""
        address = address_of(x)
        for place, skipped in cells:
            self.table.numbers[place] = address + skipped


def _holders(kept: list[Any], i: int) -> int:
    """The number of references to an entry of a list, including the list's own."""
    return sys.getrefcount(kept[i])


_ALONE = _holders([object()], 0)
