"""Pools that prepare the batches of a loader in the loop itself or in a thread. Part of module 08, dataloader.

Pools take tasks and return batches in the order of the tasks. The third pool, of processes, is in `processes.py`.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import weakref
from collections import deque
from typing import Any, Protocol

from tt_core.engine.errors import TinyTorchError
from tt_data.dataloader.workers.fetch import Fetcher, Task


class WorkerError(TinyTorchError):
    """A worker process died, hung or failed; the message names it and includes its traceback."""


class Pool(Protocol):
    """Prepares batches: each `take` returns the batch of one `submit`, in the same order."""

    def submit(self, task: Task) -> None: ...

    def take(self) -> Any: ...

    def reset(self) -> None:
        """Discard the batches that were submitted and not taken."""

    def close(self) -> None: ...

    @property
    def closed(self) -> bool: ...


class InlinePool:
    """Prepares a batch when `take` asks for it."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher, self._tasks = fetcher, deque[Task]()

    def submit(self, task: Task) -> None:
        self._tasks.append(task)

    def take(self) -> Any:
        return self._fetcher(self._tasks.popleft())

    def reset(self) -> None:
        self._tasks.clear()

    close = reset
    closed = False  # there is nothing to close: it can always be used again


class ThreadPool:
    """One thread prepares batches while the loop computes; most of NumPy releases the GIL."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._pending = 0
        self._thread = threading.Thread(
            target=_serve_thread,
            args=(fetcher, self._tasks, self._results),
            name="tt-data prefetch",
            daemon=True,
        )
        self._thread.start()
        self._finalizer = weakref.finalize(self, self._tasks.put, None)

    def submit(self, task: Task) -> None:
        self._pending += 1
        self._tasks.put(task)

    def take(self) -> Any:
        batch, error = self._results.get()
        self._pending -= 1
        if error is not None:
            raise error
        return batch

    def reset(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._tasks.get_nowait()
                self._pending -= 1
        # the task that the thread has taken already is finished, and its result discarded
        while self._pending:
            self._results.get()
            self._pending -= 1

    def close(self) -> None:
        with contextlib.suppress(queue.Empty):  # so that the thread ends after the batch that it prepares
            while True:
                self._tasks.get_nowait()
        self._finalizer()
        self._thread.join()

    @property
    def closed(self) -> bool:
        return not self._thread.is_alive()  # a forked copy of the process has no such thread either


def _serve_thread(fetcher: Fetcher, tasks: queue.SimpleQueue[Task | None], results: queue.SimpleQueue[Any]) -> None:
    while (task := tasks.get()) is not None:
        try:
            results.put((fetcher(task), None))
        except BaseException as error:  # also KeyboardInterrupt: `take` raises it
            results.put((None, error))
