"""Part of module 18: which calls the loops left to NumPy's kernels, and why."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

calls: Counter[tuple[str, str]] = Counter()
"""How often each op was left to NumPy's kernel, by op and reason, since the plugin `jit` came."""


def leave(op: str, reason: str) -> None:
    """Note a call that NumPy's kernel computes."""
    calls[op, reason] += 1


def unfit(*arrays: Any) -> str:
    """Why loops are not made for these arrays; empty if they are float32, aligned and C-contiguous, or None.

    >>> unfit(np.ones(3, np.float32)), unfit(np.ones(3))
    ('', 'float64')
    """
    for x in arrays:
        if x is None:
            continue
        if type(x) is not np.ndarray or x.dtype != np.float32:
            return str(x.dtype) if isinstance(x, (np.ndarray, np.generic)) else type(x).__name__
        if not (x.flags.c_contiguous and x.flags.aligned):
            return "not contiguous"
    return ""


def contiguous(g: object) -> Any:
    """`g`, or a contiguous copy of float32 that an op broadcast or cropped, which costs less than leaving it to NumPy.

    >>> contiguous(np.broadcast_to(np.float32(1), (2, 3))).strides
    (12, 4)
    """
    strided = type(g) is np.ndarray and not g.flags.c_contiguous and g.dtype == np.float32
    return np.ascontiguousarray(g) if strided else g


def report() -> str | None:
    """A line for each op and reason, most frequent first; None if loops covered all calls."""
    if not calls:
        return None
    lines = [f"  {count:>8}  {op}: {reason}" for (op, reason), count in calls.most_common()]
    return "\n".join(["jit: calls left to NumPy's kernels", *lines])
