"""Memory alignment, and freed memory that the process keeps.

glibc returns freed memory to the system when more than some megabytes are free at the end of the heap, and it maps each
large array separately. A training step frees all its activations, so the next step would receive its memory page by
page, and zeroed: a GPT of 4 layers and 128 features takes 77 ms of processor time a step that way, and 62 ms when the
memory is kept. So importing this module asks glibc to keep it, unless TT_KEEP_FREED_MEMORY is 0.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30
LINE = 64
"""Bytes: a line of the cache, and a vector register of AVX-512."""
BLOCK = 1 << 15
"""Elements worked on at a time where a formula takes many passes: they stay in the second-level cache.
The tanh form of GELU on 1.5M float32 takes 2.6 ms so, and 3.6 ms in whole passes."""
_SMALL = 1 << 15  # bytes up to which finding the place costs more than it saves


def keep_freed_memory() -> bool:
    """Ask glibc to keep up to a gigabyte of freed memory, and to place arrays up to that size on the heap.

    It holds for the whole process. Returns False where TT_KEEP_FREED_MEMORY is 0, and where there is no glibc to ask:
    on macOS, Windows and musl, where nothing happens.

    >>> keep_freed_memory() in (True, False)
    True
    """
    if not sys.platform.startswith("linux") or os.environ.get("TT_KEEP_FREED_MEMORY") == "0":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _KEPT) and mallopt(_M_MMAP_THRESHOLD, _KEPT))


def aligned(shape: Sequence[int], dtype: Any = np.float32, make: Callable[..., np.ndarray] = np.empty) -> np.ndarray:
    """`make(shape, dtype)` (`np.empty` or `np.zeros`) at the start of a cache line; NumPy starts at any 16 bytes.

    What is read and written again and again - parameters, the state of optimizers - belongs here. An operation whose
    result lies across lines takes twice as long (25,088 float32: 6.6 against 3.3 us), and where the other core has
    read these lines since, as it did in a product, each of them is fetched twice: 32 against 12 us.

    >>> aligned((100, 100)).ctypes.data % 64
    0
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size <= _SMALL:
        return make(shape, dtype)
    memory = make(size + LINE, np.uint8)
    address, _ = memory.__array_interface__["data"]  # ctypes.data takes twice as long
    return np.ndarray(shape, dtype, memory, -address % LINE)


KEPT = keep_freed_memory()
"""Whether freed memory stays in this process."""
