"""What a call allocates, as Python's tracemalloc sees it: NumPy reports its arrays there."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any


def peak_bytes(call: Callable[[], Any]) -> int:
    """The most bytes that a call holds at any one time, beyond what was there before."""
    tracemalloc.start()
    try:
        result = call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    del result
    return peak


def kept_bytes(call: Callable[[], Any]) -> int:
    """The bytes that the result of a call keeps in memory."""
    tracemalloc.start()
    try:
        result = call()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    del result
    return kept
