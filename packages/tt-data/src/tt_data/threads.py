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
    threads = min(cores(), count)
    if threads < 2 or nbytes < SMALL:
        work(slice(0, count))
        return
    edges = [i * count // threads for i in range(threads + 1)]
    others = [_pool().submit(work, slice(start, stop)) for start, stop in itertools.pairwise(edges[1:])]
    try:
        work(slice(0, edges[1]))
    finally:
        wait(others)  # also when one failed: nobody writes into arrays that the caller has given up
    for other in others:
        other.result()
