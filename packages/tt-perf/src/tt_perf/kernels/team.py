"""Beside module 18: the threads that compute pieces of compiled jobs (`team_loops.py`), and how they are woken.

NumPy's kernels hand work over by Python's queues, which takes 15 to 30 us, and both threads need Python's lock for it.
Compiled pieces need no Python: a helper that is awake begins within a microsecond, so a product of 64 rows of a layer
of 784 to 128 takes 0.6 of the time of one core. Pieces write to places of their own, so the result does not depend on
who computes what.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.threads import get_num_threads
from tt_perf.acceleration.capture.tape import Job
from tt_perf.kernels import team_loops as L

_MOST_HELPERS = 64
_LINE = 64
"""Bytes of a line of the cache."""


class Team:
    """A mail, and the threads that look into it."""

    def __init__(self) -> None:
        size = L.ASLEEP + _MOST_HELPERS
        room = np.zeros(size + _LINE // 8, np.int64)
        self.mail = room[-room.ctypes.data % _LINE // 8 :][:size]
        self.mail[[L.YIELD, L.SLEEP]] = waiting()
        self._queues: list[SimpleQueue[None]] = []
        self._lock = threading.Lock()
        self._threads = 0

    def ready(self, loop: Any, pieces: int) -> Array:
        """The mail, for a job of so many pieces, after waking the helpers that sleep."""
        helpers = min(get_num_threads(), pieces) - 1
        if helpers > 0:
            self._wake(loop, helpers)
        return self.mail

    def run(self, loop: Any, name: str, arguments: Sequence[int], pieces: int) -> None:
        """Computes the pieces of a job by the compiled function `name`; what `arguments` point at must live on."""
        mail = self.ready(loop, pieces)
        loop["run_pieces"](mail, loop.address(name), np.array(arguments, np.int64), pieces)

    def _wake(self, loop: Any, helpers: int) -> None:
        mail = self.mail
        if self._threads != get_num_threads():
            self._hire(loop)
        for helper in range(min(helpers, len(self._queues))):
            if mail[L.ASLEEP + helper]:
                mail[L.ASLEEP + helper] = 0
                self._queues[helper].put(None)

    def _hire(self, loop: Any) -> None:
        with self._lock:
            self._threads = get_num_threads()
            self.mail[L.HELPERS] = wanted = min(self._threads - 1, _MOST_HELPERS)
            serve = loop["serve"]
            while len(self._queues) < wanted:
                number, queue = len(self._queues), SimpleQueue[None]()
                given, name = (serve, self.mail, number, queue), f"tinytorch_jit_{number}"
                try:
                    threading.Thread(target=_help, args=given, name=name, daemon=True).start()
                except RuntimeError:  # the system gives no more threads: the caller computes alone
                    return
                self._queues.append(queue)


def _help(serve: Callable[[Array, int], None], mail: Array, number: int, queue: SimpleQueue[None]) -> None:
    while True:
        serve(mail, number)
        queue.get()


def team() -> Team:
    """The team of this process."""
    return _team


def has_team(loop: Mapping[str, Any]) -> bool:
    """Whether these loops are compiled, and there is more than one thread to run them."""
    return hasattr(loop, "address") and get_num_threads() > 1


def job(loop: Any, name: str, arguments: tuple[Any, ...], pieces: int = 1) -> Job | None:
    """A job that runs the loop `name`; None if the loops are not compiled."""
    return Job(loop.address(name), arguments, pieces) if hasattr(loop, "address") else None


@functools.cache
def waiting() -> tuple[int, int]:
    """Addresses of C functions of one int that give the core to others, and that sleep for so many microseconds."""
    if sys.platform == "win32":
        kernel = ctypes.windll.kernel32
        return _address_of(kernel.SwitchToThread), _address_of(kernel.SwitchToThread)
    library = ctypes.CDLL(None)
    return _address_of(library.sched_yield), _address_of(library.usleep)


def _address_of(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


_team = Team()


def _renew() -> None:
    """A forked child inherits the mail without the threads."""
    global _team
    _team = Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
