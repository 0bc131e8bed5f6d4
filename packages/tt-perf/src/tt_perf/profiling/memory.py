"""Part of module 14: how much memory tensors hold over time, and which calls they come from.

Each array that an op returns, or that a gradient keeps, is watched by a weak reference from the moment it is first
seen, so that its release is seen too. Views hold no memory of their own. Parameters are counted when their model is
called, inputs when an op takes them, the state of an optimizer after its step. The temporary memory of kernels is not
seen.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from time import perf_counter_ns
from typing import TYPE_CHECKING, NamedTuple

from tt_core.engine.mutation import owner
from tt_perf.profiling.tree import MOST_EVENTS

if TYPE_CHECKING:
    from tt_core.engine.protocols import Array

CATEGORIES = ("parameters", "optimizer", "inputs", "activations", "gradients")
_PEAK_STEP = 1.01  # who holds the peak is noted again when the peak has grown by this factor


Sample = tuple[int, tuple[int, ...]]
"""A moment (nanoseconds) and the bytes of each category."""


def largest(samples: Sequence[Sample], every: int) -> list[Sample]:
    """The largest of each `every` neighbours, so that peaks stay.

    >>> largest([(0, (1, 1)), (1, (5, 0)), (2, (3, 0))], 2)
    [(1, (5, 0)), (2, (3, 0))]
    """
    return [max(samples[i : i + every], key=lambda sample: sum(sample[1])) for i in range(0, len(samples), every)]


class Holder(NamedTuple):
    """Where memory comes from."""

    category: str
    name: str
    site: str = ""


class Peak(NamedTuple):
    """The most memory held at once: the time (nanoseconds), the bytes and their holders."""

    moment: int
    total: int
    holders: dict[Holder, int]


class _Held(weakref.ref):  # type: ignore[type-arg]
    """An array that is watched."""

    __slots__ = ("address", "count", "holder")
    address: int
    count: int
    holder: Holder


class Memory:
    """The bytes that tensors hold.

    >>> import numpy as np
    >>> memory, x = Memory(), np.zeros(1000)
    >>> memory.watch(x, "activations", "zeros"), memory.watch(x[1:], "activations", "view")
    (8000, 0)
    >>> del x
    >>> memory.total, memory.peak.total
    (0, 8000)
    """

    def __init__(self, most_samples: int = MOST_EVENTS) -> None:
        self.total = 0
        self.start = perf_counter_ns()
        self.samples: list[Sample] = []
        """Changes over the whole time; each stands for a group of them when there were more than `most_samples`."""
        self._most_samples = max(2, most_samples)
        self._group, self._grouped, self._largest = 1, 0, 0  # changes a sample, in the last one, and its bytes
        self.by_holder: dict[Holder, int] = {}
        self._by_category = dict.fromkeys(CATEGORIES, 0)
        self._live: dict[int, _Held] = {}
        self._fixed: dict[Holder, int] = {}
        self._lock = threading.RLock()  # an array may end while another one is noted, in the same thread too
        self._highest = Peak(self.start, 0, {})
        self._noted = True

    def watch(self, array: Array, category: str, name: str, site: str = "") -> int:
        """Count the memory behind an array until it is freed; returns its bytes, 0 where it is counted already."""
        memory = array if array.base is None else owner(array)
        address = id(memory)
        if address in self._live or not memory.nbytes:
            return 0
        holder = Holder(category, name, site)
        held = _Held(memory, self._freed)
        held.address, held.count, held.holder = address, memory.nbytes, holder
        with self._lock:
            if address in self._live:  # another thread was faster
                return 0
            self._live[address] = held
            self._change(holder, held.count)
        return held.count

    def hold(self, holder: Holder, count: int) -> None:
        """Set the bytes of a holder whose arrays are not watched one by one, such as an optimizer's state."""
        with self._lock:
            before = self._fixed.get(holder, 0)
            if count != before:
                self._fixed[holder] = count
                self._change(holder, count - before)

    def stop(self) -> None:
        """Stop watching; the measurements stay."""
        with self._lock:
            self._note_peak()
            self._live.clear()

    @property
    def peak(self) -> Peak:
        """The peak and its holders, which may be those of a moment with up to 1 % less memory."""
        with self._lock:
            self._note_peak()
            return self._highest

    def _freed(self, held: _Held) -> None:
        with self._lock:
            if self._live.get(held.address) is held:
                del self._live[held.address]
                self._change(held.holder, -held.count)

    def _change(self, holder: Holder, count: int) -> None:
        if count < 0:
            self._note_peak()
        self.total += count
        left = self.by_holder.get(holder, 0) + count
        if left:
            self.by_holder[holder] = left
        else:
            self.by_holder.pop(holder, None)
        self._by_category[holder.category] += count
        moment = perf_counter_ns()
        self._sample(moment)
        if self.total > self._highest.total:
            big = self.total > self._noted_total * _PEAK_STEP
            self._highest = Peak(moment, self.total, self._highest.holders)
            self._noted = self._noted and not big

    def _sample(self, moment: int) -> None:
        """Add a sample, or put it in the place of a smaller one of its group; a full list halves itself."""
        if 0 < self._grouped < self._group:
            self._grouped += 1
            if self.total > self._largest:
                self._largest = self.total
                self.samples[-1] = (moment, tuple(self._by_category.values()))
            return
        if len(self.samples) >= self._most_samples:
            self.samples = largest(self.samples, 2)
            self._group *= 2
        self.samples.append((moment, tuple(self._by_category.values())))
        self._grouped, self._largest = 1, self.total

    _noted_total = 0

    def _note_peak(self) -> None:
        """Record the holders of the peak while it lasts."""
        if not self._noted and self.total == self._highest.total:
            self._highest = self._highest._replace(holders=dict(self.by_holder))
            self._noted, self._noted_total = True, self.total
