"""Memory that NumPy frees stays in the process: the next step takes it again without asking the system.

glibc hands freed memory back once more than some megabytes lie free at the end of the heap, and maps large arrays
apart each time. A training step frees all its activations, so the next one gets its memory page by page, and zeroed:
a GPT of 4 layers and 128 features spends 77 ms of processor time a step so, and 62 ms when the memory is kept.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30


def keep_freed_memory() -> bool:
    """Ask glibc to keep up to a gigabyte of freed memory, and to place arrays up to that size on the heap.

    Holds for the whole process and cannot be undone, so it belongs into a program, not into an import. Returns whether
    there was a glibc to ask: False on macOS, Windows and musl, where nothing happens.

    >>> keep_freed_memory() in (True, False)
    True
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _KEPT) and mallopt(_M_MMAP_THRESHOLD, _KEPT))
