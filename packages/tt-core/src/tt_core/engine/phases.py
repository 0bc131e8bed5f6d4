"""The phase of a thread: forward, backward, or the recomputation of a forward pass during backward.

Wraps and observers ask `phase()` when they are called. Backward enters its phase once for each walk, not for each op.
"""

from __future__ import annotations

import threading
from typing import Literal

Phase = Literal["forward", "backward", "recomputation"]


class _Current(threading.local):
    phase: Phase = "forward"


_current = _Current()


def phase() -> Phase:
    """Returns what this thread computes now: "forward", "backward" or "recomputation".

    "recomputation" is a forward pass that backward runs again, for a checkpoint or for the formula of a fused op.

    >>> phase()
    'forward'
    """
    return _current.phase


class in_phase:
    """A block in which this thread is in another phase; each block needs an object of its own.

    >>> with in_phase("backward"):
    ...     phase()
    'backward'
    """

    __slots__ = ("_before", "_phase")

    def __init__(self, phase: Phase) -> None:
        self._phase: Phase = phase

    def __enter__(self) -> None:
        self._before = _current.phase
        _current.phase = self._phase

    def __exit__(self, *_: object) -> None:
        _current.phase = self._before
