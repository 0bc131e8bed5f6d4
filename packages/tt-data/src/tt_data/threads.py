"""One piece of work for each core: NumPy lets go of Python's lock while it copies and computes. Beside module 09.

BLAS uses all cores by itself, all else in NumPy one: the copies of im2col, and pooling. Slices never overlap, so
results do not depend on the number of threads.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

SMALL = 256 << 10
"""Bytes below which handing work to a thread (about 30 us) costs more than it saves."""

PIECE = 1 << 20
"""Bytes a thread goes through at a time, so that all passes over them but the first find them in its cache: pooling 64
images of 32x32x32 takes 2.8 ms in pieces and 4.0 ms in one."""


def cores() -> int:
    """How many threads to use: OMP_NUM_THREADS where it is set, as BLAS does, else a thread a core we may run on."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, cores() - 1), thread_name_prefix="tt-data")


if hasattr(os, "register_at_fork"):  # a forked child inherits the pool without its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def in_parallel(work: Callable[[slice], None], count: int, nbytes: int) -> None:
    """Call `work` with slices that together are `range(count)`, at once; what it raises is raised here.

    `nbytes`: how much memory is gone through in all.

    >>> found = [0] * 3
    >>> in_parallel(lambda part: found.__setitem__(part, [7] * len(found[part])), 3, nbytes=1 << 20)
    >>> found
    [7, 7, 7]
    """
    threads = 1 if nbytes < SMALL else max(1, min(cores(), count))
    pieces = max(1, nbytes // PIECE // threads)
    shares = _split(0, count, threads)

    def work_through(share: slice) -> None:
        for piece in _split(share.start, share.stop, pieces):
            work(piece)

    others = [_pool().submit(work_through, share) for share in shares[1:]]
    try:
        work_through(shares[0])
    finally:
        wait(others)  # also when one failed: nobody writes into arrays that the caller has given up
    for other in others:
        other.result()


def _split(start: int, stop: int, parts: int) -> list[slice]:
    """A range in `parts` slices of about one length, or fewer where there is less to share; always at least one."""
    parts = max(1, min(parts, stop - start))
    edges = [start + i * (stop - start) // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
