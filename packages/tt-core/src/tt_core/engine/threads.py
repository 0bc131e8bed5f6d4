"""Splits NumPy work across threads; NumPy releases the GIL while it copies and computes.

Work is cut into pieces whose edges depend on its size and on the number of threads alone. The caller and the threads of
the pool take one piece after the other. So results do not depend on who computed which piece: the same number of
threads gives the same bits, on a busy machine too. If another program holds up a thread of the pool, the caller takes
the pieces that this thread would have taken; it waits only for pieces that somebody has begun.

Handing work over takes about 15 us if the other core is awake and free. Idle threads sleep and never spin: spinning
would take the core from other programs, and Python's lock from the caller.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import platform
import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import numpy as np

from tt_core.engine import blas
from tt_core.engine.errors import ArgumentError

Result = TypeVar("Result")

SMALL = 256 << 10
"""Bytes below which handing work to a thread costs more than it saves."""

PIECE = 1 << 20
"""Bytes that a thread works on at a time, so that they stay in its cache for all passes after the first: pooling 64
images of 32x32x32 takes 2.8 ms in pieces and 4.0 ms in one."""


# --- the number of threads


def set_num_threads(number: int) -> None:
    """Sets the number of threads that operations run on, as PyTorch does; 1 computes everything on the calling core.

    The environment variable TT_NUM_THREADS sets it at the start, else OMP_NUM_THREADS, else there is one for each core
    that the process may use. Results depend on this number up to rounding, and on nothing else. Raises `ArgumentError`
    if `number` is not a positive integer.

    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    kind = type(number)
    if kind is bool or not issubclass(kind, (int, np.integer)):
        raise ArgumentError(f"set_num_threads expects an int, but got {kind.__name__}")
    if number < 1:
        raise ArgumentError(f"set_num_threads expects a positive integer, got {number}")
    _chosen.number = int(number)


def get_num_threads() -> int:
    """The number of threads that operations run on.

    >>> get_num_threads() >= 1
    True
    """
    if not _chosen.number:
        _chosen.number = _asked_for("TT_NUM_THREADS") or _asked_for("OMP_NUM_THREADS") or _cores()
    return _chosen.number


def thread_count() -> int:
    """Threads that matrix products run on, as far as can be known: ours, or those of a BLAS that is not limited."""
    ours = get_num_threads()
    return ours if blas.LIMITED else max((x["num_threads"] for x in blas.LIBRARIES.info()), default=ours)


class _Chosen:
    number = 0  # not asked for yet


_chosen = _Chosen()


def _asked_for(name: str) -> int:
    """The number in an environment variable; 0 if there is none. OMP_NUM_THREADS may be a list, one for each level."""
    value = os.environ.get(name, "").partition(",")[0].strip()
    if value.isdecimal() and int(value):
        return int(value)
    if value and name.startswith("TT_"):
        warnings.warn(f"{name}={value} is ignored: it is not a positive integer", stacklevel=2)
    return 0


def _cores() -> int:
    """The cores that this process may use.

    On Apple's processors only performance cores count: equal pieces would wait for the slower efficiency cores.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else _performance_cores() or os.cpu_count() or 1


@functools.cache
def _performance_cores() -> int:
    """How many performance cores an Apple processor has; 0 elsewhere."""
    if platform.system() != "Darwin":
        return 0
    count, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    ctypes.CDLL(None).sysctlbyname(b"hw.perflevel0.logicalcpu", ctypes.byref(count), ctypes.byref(size), None, 0)
    return count.value


# --- ways to split work


def in_parallel(work: Callable[[slice], object], count: int, nbytes: int) -> None:
    """Calls `work` in parallel with slices that together are `range(count)`, and raises its errors here.

    `nbytes`: the memory that all calls read and write together.

    >>> found = [0] * 3
    >>> in_parallel(lambda part: found.__setitem__(part, [7] * len(found[part])), 3, nbytes=1 << 20)
    >>> found
    [7, 7, 7]
    """
    threads = 1 if nbytes < SMALL else get_num_threads()
    at_once(work, split(count, threads * max(1, nbytes // PIECE // threads)))


def on_each_core(work: Callable[[slice], Result], count: int, nbytes: int, each: int = 1) -> list[Result]:
    """What `work`, which calls BLAS, gives for slices that together are `range(count)`, in order.

    There are up to `each` slices for a core, each of at least `PIECE` bytes if there is more than one. What a slice
    copies is in the cache of the core that multiplies it. `work` is called once for next to no work, and where BLAS has
    threads of its own (`tt_core.engine.blas`).

    >>> on_each_core(lambda part: part.stop - part.start, 8, nbytes=0)
    [8]
    """
    threads = get_num_threads()
    if threads == 1 or nbytes < SMALL or not blas.LIMITED:
        return [work(slice(0, count))]
    return at_once(work, split(count, threads * max(1, min(each, nbytes // PIECE // threads))))


def split(count: int, parts: int, multiple: int = 1) -> list[slice]:
    """Splits `range(count)` into `parts` slices of about equal length, fewer for a short range, and at least one.

    All edges but the last are multiples of `multiple`.

    >>> split(40, 2, multiple=16)
    [slice(0, 16, None), slice(16, 40, None)]
    """
    whole = count // multiple
    parts = max(1, min(parts, whole))
    edges = [i * whole // parts * multiple for i in range(parts)]
    return [slice(a, b) for a, b in itertools.pairwise([*edges, count])]


def at_once(work: Callable[[Any], Result], pieces: Sequence[Any]) -> list[Result]:
    """What `work` gives for each piece, in order; the pool's threads take pieces as well.

    All pieces are computed, also after a failure, and no thread works on any when this returns. If several fail, the
    error of the first piece is raised. `work` may call this function itself.

    >>> at_once(abs, [-1, 2, -3])
    [1, 2, 3]
    """
    helpers = min(get_num_threads(), len(pieces)) - 1
    if helpers < 1:
        return [work(piece) for piece in pieces]
    return _Job(work, pieces).run(helpers)


# --- the pool


class _Job(Generic[Result]):
    """Pieces of work that several threads take from."""

    def __init__(self, work: Callable[[Any], Result], pieces: Sequence[Any]) -> None:
        self.work, self.pieces = work, pieces
        self.waiting = deque(range(len(pieces)))  # popleft is atomic, without the GIL too
        self.results: list[Any] = [None] * len(pieces)
        self.errors: dict[int, BaseException] = {}
        self.helping, self.closed = 0, False
        self.lock, self.alone = threading.Lock(), threading.Lock()
        self.alone.acquire()

    def run(self, helpers: int) -> list[Result]:
        """Works in the caller's thread, and in those of `helpers` that have time, until everything is done."""
        try:
            _pool.offer(self, helpers)
            self._take()
        finally:
            self._close()
        if self.errors:
            raise self.errors.pop(min(self.errors))
        return self.results

    def help(self) -> None:
        """Works in a thread of the pool; nothing is left to do if that thread came late."""
        if self._enter():
            self._take()
            self._leave()

    def _enter(self) -> bool:
        with self.lock:
            self.helping += not self.closed
            return not self.closed

    def _leave(self) -> None:
        with self.lock:
            self.helping -= 1
            if self.closed and not self.helping:
                self.alone.release()

    def _take(self) -> None:
        while True:
            try:
                i = self.waiting.popleft()
            except IndexError:
                return
            try:
                self.results[i] = self.work(self.pieces[i])
            except BaseException as error:
                self.errors[i] = error

    def _close(self) -> None:
        """Waits for threads that have begun a piece: they must not write into arrays that the caller has released."""
        self.waiting.clear()  # not empty after an interruption
        with self.lock:
            self.closed = True
            others = self.helping > 0
        interruption = None
        while others:
            try:
                self.alone.acquire()
                others = False
            except BaseException as error:
                interruption = error
        del self.work, self.pieces  # a thread that comes late finds this job in its queue: it must not keep arrays
        if interruption is not None:
            raise interruption


class _Pool:
    """Threads that help with jobs; they start when they are needed, and end with the process."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[_Job[Any]] = SimpleQueue()
        self.threads = 0
        self.lock = threading.Lock()

    def offer(self, job: _Job[Any], helpers: int) -> None:
        """Wakes `count` threads to help with a job."""
        if self.threads < helpers:
            self._start(helpers)
        for _ in range(min(helpers, self.threads)):
            self.jobs.put(job)

    def _start(self, number: int) -> None:
        with self.lock:
            while self.threads < number:
                name = f"tinytorch_{self.threads}"
                try:
                    threading.Thread(target=_serve, args=(self.jobs,), name=name, daemon=True).start()
                except RuntimeError:  # the system gives no more threads: the caller computes alone
                    return
                self.threads += 1


def _serve(jobs: SimpleQueue[_Job[Any]]) -> None:
    np.seterr(all="ignore")  # as kernels run in the thread that calls them
    blas.limit()
    while True:
        jobs.get().help()


_pool = _Pool()


def _renew() -> None:
    """A forked child inherits the pool without its threads, and maybe a closed lock."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
