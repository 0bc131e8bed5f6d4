"""Part of module 14: what this machine could do, and which of its limits holds each op back.

The roofline model (Williams, Waterman, Patterson 2009): an op that does W FLOPs and moves Q bytes takes at least
W / peak and at least Q / bandwidth; which of the two is longer depends on W / Q alone. Calling an op costs time as
well, however small its arrays are. The longest of the three is what the op is bound by, and its share of the measured
time shows how close to that limit the op runs.

Peak and bandwidth are measured here, with a float32 product of large matrices and with a copy of an array that fits in
no cache. An op whose arrays stay in the cache can be faster than memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.dispatch import registry
from tt_core.engine.errors import is_number, shown
from tt_core.kernels.products import product
from tt_perf.profiling.watching import ProfilerError

if TYPE_CHECKING:
    from tt_perf.profiling.profiler import Profiler

_SIDE = 1024  # of the matrices: 2.1 GFLOP a product
_FAR = 0.2  # of a limit: what runs slower is not explained by it alone
_COPIED = 1 << 26  # bytes, more than a cache holds


@dataclass(frozen=True)
class Machine:
    """The limits of a machine. Raises `ProfilerError` for limits that are not positive numbers.

    >>> machine = Machine(flops_per_second=50e9, bytes_per_second=10e9, seconds_per_call=2e-6)
    >>> machine.ridge
    5.0
    """

    flops_per_second: float
    bytes_per_second: float
    seconds_per_call: float
    """Seconds that calling an op on a single number takes."""

    def __post_init__(self) -> None:
        """Check the limits."""
        for name, value in vars(self).items():
            if not is_number(value) or not 0 < value < float("inf"):
                raise ProfilerError(f"Machine: {name} is {shown(value)}, expected a positive number")

    @property
    def ridge(self) -> float:
        """FLOPs per byte above which an op is limited by computation, and below which by memory."""
        return self.flops_per_second / self.bytes_per_second

    def __str__(self) -> str:
        return (
            f"{self.flops_per_second / 1e9:.1f} GFLOP/s in matrix products, {self.bytes_per_second / 1e9:.1f} GB/s "
            f"from memory, {self.seconds_per_call * 1e6:.1f} us a call"
        )


@functools.lru_cache(maxsize=1)
def measure_machine() -> Machine:
    """The limits of this machine, measured once in a process; takes less than a second."""
    a = np.full((_SIDE, _SIDE), 0.5, np.float32)
    result, source = np.empty_like(a), np.ones(_COPIED, np.uint8)  # zeros would all be one page of memory
    copy, one, negate = np.ones_like(source), np.ones(1, np.float32), registry["neg"].base
    return Machine(
        # a product of n x n matrices makes n^3 multiplications and as many additions
        flops_per_second=2 * _SIDE**3 / _best(lambda: product(a, a, out=result)),
        # each byte is read once and written once
        bytes_per_second=2 * _COPIED / _best(lambda: np.copyto(copy, source)),
        seconds_per_call=_best(lambda: [negate(one) for _ in range(1000)]) / 1000,
    )


def _best(work: Callable[[], Any], seconds: float = 0.25) -> float:
    """The shortest of a few runs, since other programs can only make a run slower."""
    work()
    times: list[float] = []
    while len(times) < 3 or (len(times) < 20 and sum(times) < seconds):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return max(min(times), 1e-9)


@dataclass(frozen=True, repr=False)
class Verdict:
    """What bounds an op, and how near it comes to that bound: `share` 1 cannot be improved on this machine."""

    name: str
    calls: int
    seconds: float
    flops: int
    bytes_moved: int
    bound: str
    """memory, compute or overhead"""
    share: float
    machine: Machine

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return self.flops / self.bytes_moved if self.bytes_moved else 0.0

    @property
    def words(self) -> str:
        """The verdict as a sentence."""
        each, machine = self.seconds / self.calls, self.machine
        if self.bound == "overhead":
            least = f"the smallest op takes {machine.seconds_per_call * 1e6:.1f}"
            return f"overhead bound: {each * 1e6:.1f} us a call for little work; {least}"
        if self.bound == "compute":
            rate, limit, unit = self.flops / self.seconds / 1e9, machine.flops_per_second / 1e9, "GFLOP/s"
        else:
            rate, limit, unit = self.bytes_moved / self.seconds / 1e9, machine.bytes_per_second / 1e9, "GB/s"
        line = f"{self.bound} bound: {rate:.3g} of {limit:.3g} {unit}, {100 * self.share:.0f} %"
        if self.bound == "memory" and self.share > 1:
            return f"{line}: it works in the cache"
        return f"{line}: far below it" if self.share < _FAR else line

    def __str__(self) -> str:
        return f"{self.name}: {self.words}"

    __repr__ = __str__


def verdict(name: str, calls: int, seconds: float, flops: int, bytes_moved: int, machine: Machine) -> Verdict:
    """Compares the measured time with the least time that each limit of the machine allows.

    >>> machine = Machine(50e9, 10e9, 2e-6)
    >>> str(verdict("matmul", 1, 0.05, 2_000_000_000, 12_000_000, machine))
    'matmul: compute bound: 40 of 50 GFLOP/s, 80 %'
    """
    needed = {
        "overhead": calls * machine.seconds_per_call,
        "memory": bytes_moved / machine.bytes_per_second,
        "compute": flops / machine.flops_per_second,
    }
    bound = max(needed, key=needed.__getitem__)
    seconds = max(seconds, 1e-9)
    return Verdict(name, calls, seconds, flops, bytes_moved, bound, needed[bound] / seconds, machine)


def verdicts(profiler: Profiler, machine: Machine | None) -> list[Verdict]:
    """A verdict for each op, forward and backward apart, the one that took longest first."""
    if not profiler.with_flops:
        raise ProfilerError("verdicts: the profile has no FLOPs; make it with with_flops=True")
    totals: dict[str, list[int]] = {}
    for call, _ in profiler._read().calls():
        if call.key.kind == "op" and call.count:
            total = totals.setdefault(call.key.title, [0, 0, 0, 0])
            for i, value in enumerate((call.count, call.self_ns, call.flops, call.read + call.written)):
                total[i] += value
    machine = machine or measure_machine()
    found = [verdict(name, n, ns / 1e9, flops, moved, machine) for name, (n, ns, flops, moved) in totals.items()]
    return sorted(found, key=lambda each: -each.seconds)
