"""Splits NumPy work across threads; NumPy releases the GIL while it copies and computes.

BLAS uses all cores by itself, the rest of NumPy one. Slices never overlap. So element-wise work gives the same bits for
any number of threads, and matrix products (convolution) and sums over slices the same up to rounding: BLAS rounds an
element by its position in the matrix it is given. The same number of threads gives the same bits each time.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import platform
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped,unused-ignore]

from tt_core.engine import blas

Result = TypeVar("Result")

SMALL = 256 << 10
"""Bytes below which handing work to a thread (about 30 us) costs more than it saves."""

PIECE = 1 << 20
"""Bytes that a thread works on at a time, so that they stay in its cache for all passes after the first: pooling 64
images of 32x32x32 takes 2.8 ms in pieces and 4.0 ms in one."""


def cores() -> int:
    """How many threads to use: OMP_NUM_THREADS if it is set, as in BLAS, else one for each core we may run on.

    On Apple's processors only performance cores count: equal slices would wait for the slower efficiency cores.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
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


def thread_count() -> int:
    """Threads that matrix products run on, as far as that can be known."""
    return max((library["num_threads"] for library in _blas().info()), default=cores())


@functools.cache
def _pool() -> ThreadPoolExecutor:
    quiet = functools.partial(np.seterr, all="ignore")  # as kernels run in the thread that calls them
    return ThreadPoolExecutor(max(1, cores() - 1), thread_name_prefix="tinytorch", initializer=quiet)


def in_parallel(work: Callable[[slice], object], count: int, nbytes: int) -> None:
    """Calls `work` in parallel with slices that together are `range(count)`, and raises its errors here.

    `nbytes`: the memory that all calls read and write together.

    >>> found = [0] * 3
    >>> in_parallel(lambda part: found.__setitem__(part, [7] * len(found[part])), 3, nbytes=1 << 20)
    >>> found
    [7, 7, 7]
    """
    shares = _split(0, count, 1 if nbytes < SMALL else cores())
    pieces = max(1, nbytes // PIECE // len(shares))

    def work_through(share: slice) -> None:
        for piece in _split(share.start, share.stop, pieces):
            work(piece)

    _at_once(work_through, shares)


def on_each_core(work: Callable[[slice], Result], count: int, nbytes: int) -> list[Result]:
    """What `work`, which calls BLAS, gives for slices that together are `range(count)`, one for each core, in order.

    BLAS stays on the core that calls it meanwhile, and finds in that core's cache what was just copied there: a
    training step of three convolutions takes a quarter less time than with products that use both cores. `work` is
    called once, and BLAS uses all cores, where there are fewer elements than cores, next to no work, threads of BLAS
    that would not give their cores to ours (`tt_core.engine.blas`), or a BLAS whose threads cannot be limited (Apple's
    Accelerate). `work` shares nothing out itself.

    >>> on_each_core(lambda part: part.stop - part.start, 8, nbytes=0)
    [8]
    """
    alone = nbytes < SMALL or count < cores() or not blas.THREADS_REST or not _blas().lib_controllers
    shares = _split(0, count, 1 if alone else cores())
    if len(shares) == 1:
        return [work(shares[0])]
    with _turn(), _blas().limit(limits=1):
        return _at_once(work, shares)


def _at_once(work: Callable[[slice], Result], shares: list[slice]) -> list[Result]:
    others = [_pool().submit(work, share) for share in shares[1:]]
    try:
        first = work(shares[0])
    finally:
        wait(others)  # also after a failure, so that no thread writes into arrays that the caller has released
    return [first, *(other.result() for other in others)]


@functools.cache
def _turn() -> threading.Lock:
    """One caller at a time: BLAS has one number of threads for the process, and all cores are in use anyway."""
    return threading.Lock()


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


if hasattr(os, "register_at_fork"):  # a forked child inherits the pool without its threads, and maybe a closed lock
    os.register_at_fork(after_in_child=_pool.cache_clear)
    os.register_at_fork(after_in_child=_turn.cache_clear)


def _split(start: int, stop: int, parts: int) -> list[slice]:
    """Splits a range into `parts` slices of about equal length, fewer for a short range, and at least one."""
    parts = max(1, min(parts, stop - start))
    edges = [start + i * (stop - start) // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
