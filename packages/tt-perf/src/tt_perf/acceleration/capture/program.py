"""Part of `capture`: neighbours on a tape become one compiled call.

A kernel of `jit` takes 5 to 10 us beside its loop: checks, a new array, Numba's look at each argument. On a replay all
of that comes out the same each time. So a kernel may say once which compiled code it would run, as a `Job`, and jobs
that follow each other become a table that one call runs through (`kernels/job_loops.py`):

    values      a job's arguments are addresses; what the program reads is written into them before it runs
    between     arrays that only the program reads lie in one buffer, by the plan of their lives
    results     arrays that others read are new ones, or those of the step before if nobody holds them any more, so
                that no gradient or loss that is kept changes

A kernel offers this by an attribute, `kernel.as_job(inputs, results, attributes, failed)`. The arrays it is given have
the shapes, dtypes and strides of the step's, and no memory. It returns a `Job` that computes the same bits, or None. A
piece that meets numbers that it does not cover, or a value that the op's check refuses, sets the int64 at `failed` to
1. The program then stops, and its kernels run one by one.
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
"""Bytes of an array from which a kernel is not worth a place in a program, and its memory is better given back."""
_PATIENCE = 3
"""Times that a program may stop before it is given up."""


@dataclass(frozen=True)
class Layout:
    """An array without its memory."""

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
        """An array of this layout, whose elements cannot be read."""
        return np.lib.stride_tricks.as_strided(np.empty(1, self.dtype), self.shape, self.strides)

    @functools.cached_property
    def room(self) -> int:
        """Bytes of whole cache lines."""
        return -(-self.stand_in.nbytes // LINE) * LINE


@functools.cache
def _runner() -> Any:
    """The loops that run programs; None without Numba."""
    from tt_perf.acceleration.compiling import compiled

    try:
        return compiled()
    except PluginError:
        return None


def has_jobs(tape: Tape) -> bool:
    """Whether some kernel of a tape offers compiled code."""
    return any(isinstance(each, Call) and hasattr(each.kernel, "as_job") for each in tape.instructions)


class Programs:
    """Makes programs for a tape. `layouts` are those of all slots; `fixed` has what some of them hold in each run."""

    def __init__(self, tape: Tape, layouts: Mapping[int, Layout | None], fixed: Mapping[int, Any]) -> None:
        self._layouts = {slot: layout for slot, layout in layouts.items() if layout is not None}
        self._fixed = fixed
        self._failed, self._lock = np.zeros(1, np.int64), threading.Lock()
        self._instructions = tape.instructions
        self._jobs = [self._job_of(each) if isinstance(each, Call) else None for each in tape.instructions]
        self._last_reads = {slot: i for i, each in enumerate(tape.instructions) for slot in reads(each)}
        self._last_reads |= dict.fromkeys(slots_in(tape.result), len(tape.instructions))

    def parts(self) -> list[tuple[int, int, Program | None]]:
        """The instructions in runs of `first` to `last`, with the program that runs them, or None for a single one."""
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
        """What a kernel would run, if all that it reads and writes is small, and may be where a program puts it."""
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
        """A stand-in for an array, what a slot always holds, or `...` for what a program cannot read."""
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
        """The addresses of arrays that only these calls read, by slot, and the buffer that they lie in."""
        births = {slot: i for i, call in enumerate(calls, first) for slot in call.results}
        lives = [(slot, birth, self._last_reads.get(slot, birth)) for slot, birth in births.items()]
        lives = [(slot, birth, death) for slot, birth, death in lives if death < last]
        begins, size = places([(birth, death, self._layouts[slot].room) for slot, birth, death in lives])
        buffer = aligned((size + LINE,), np.uint8)
        start = address_of(buffer) + -address_of(buffer) % LINE
        return {slot: start + begin for (slot, *_), begin in zip(lives, begins)}, buffer


class Table:
    """Jobs as numbers: `program` has a row for each, `numbers` the arguments of all, and `cells` where slots go.

    `slots` are those of stand-ins, by their ids; `at` has the addresses that are known, by slot.
    """

    def __init__(self, jobs: Sequence[Job], slots: Mapping[int, int], at: Mapping[int, int]) -> None:
        self.numbers = np.zeros(sum(len(job.arguments) for job in jobs), np.int64)
        self.program = np.zeros((len(jobs), 4), np.int64)
        self.cells: dict[int, list[tuple[int, int]]] = {}  # by slot: places in `numbers`, and what is added there
        self.pieces = max(job.pieces for job in jobs)
        self._held = jobs  # with arrays of the kernels' own
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
"""A slot, its layout, and the cells of its address."""


@dataclass(eq=False)
class Program:
    """Jobs that run in one call: `given` is what they read from outside, `made` what others read of their results."""

    runner: Any
    table: Table
    given: list[Entry]
    made: list[Entry]
    failed: Array
    lock: threading.Lock
    """Held while a program of this tape runs: numbers and buffers serve one thread."""
    buffer: Array
    stops: int = 0

    def __post_init__(self) -> None:
        self._run = self.runner["run_program"]
        self._kept: list[Any] = [None] * len(self.made)  # the results of the run before

    def run(self, values: Values) -> bool:
        """Fills the slots of the results; False if nothing was done, and the kernels must run one by one."""
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
            if _holders(self._kept, i) != _ALONE:  # somebody has the array of the run before
                self._kept[i] = np.empty(layout.shape, layout.dtype)
                self._point(cells, self._kept[i])
        if not self._run(team().ready(self.runner, self.table.pieces), self.table.program, self.failed):
            self.stops += 1
            return False
        for (slot, *_), x in zip(self.made, self._kept):
            values[slot] = x
        return True

    def _point(self, cells: Sequence[tuple[int, int]], x: Array) -> None:
        """Writes an array's address where the jobs read it."""
        address = address_of(x)
        for place, skipped in cells:
            self.table.numbers[place] = address + skipped


def _holders(kept: list[Any], i: int) -> int:
    """The references to an entry of a list, that of the list included."""
    return sys.getrefcount(kept[i])


_ALONE = _holders([object()], 0)
