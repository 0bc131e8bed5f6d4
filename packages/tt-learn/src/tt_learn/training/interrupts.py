"""Part of module 07: signals that would end the process end training after the current step instead."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def interruptible(stop: Callable[[signal.Signals], None]) -> Iterator[None]:
    """A block in which such signals call `stop`; has an effect in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, process = ending_signals(), os.getpid()

    def ask(number: int, _: Any) -> None:
        if os.getpid() != process:  # a forked child has nothing to save
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)
            return
        stop(signal.Signals(number))
        # The user's second Ctrl-C ends the process. Other signals may come twice: shell and terminal each send SIGHUP.
        if signal.SIGINT in before:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ending_signals() -> dict[signal.Signals, Any]:
    """Ctrl-C unless it is ignored, and other signals that end the process by default, with their current handlers."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # SIGHUP exists on POSIX only, SIGBREAK on Windows only
    numbers = [signal.Signals[name] for name in names if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    return {
        number: handler
        for number, handler in handlers.items()
        if handler is signal.SIG_DFL or (number == signal.SIGINT and handler not in (signal.SIG_IGN, None))
    }
