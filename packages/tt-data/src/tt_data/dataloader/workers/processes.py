"""Worker processes that prepare batches, seen from the main process. Part of module 08, dataloader.

Processes are started by `spawn` on every system, with one pipe each. No lock is shared, so a worker that is killed
cannot block another process. Pipes carry only numbers and shapes; indices and batches are in shared memory that the
pool owns. The other side is in `server.py`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.context
import os
import signal
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from typing import Any, NoReturn

import numpy as np

from tt_core.engine.errors import TinyTorchError
from tt_data.dataloader.workers.fetch import Fetcher, Task
from tt_data.dataloader.workers.memory import Arena, SharedMemory, buffer_of, dump_sharing, load
from tt_data.dataloader.workers.pools import WorkerError
from tt_data.dataloader.workers.server import run_worker

_FIRST_SLOT = 1 << 16  # bytes; a slot grows to the first batch that does not fit
_MAX_SLOTS = 16  # of a worker: all waiting tasks must fit in its pipe, or both sides block each other
_GRACE = 0.5  # seconds that a worker has to end by itself before it is terminated, then killed
_THREADS = ("TT_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

WorkerInit = Callable[[int], None]


class ProcessPool:
    """Worker processes. At most `depth` batches are in preparation at once, spread over the workers.

    `take` raises the exception of a worker, as `WorkerError`, in place of its batch, and reports the death of a worker
    at once. After either, or after `close`, the workers are gone and their shared memory is freed.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        num_workers: int,
        depth: int,
        timeout: float = 0,
        init: WorkerInit | None = None,
        method: str | None = None,
        seed: int = 0,
    ) -> None:
        self._timeout = timeout
        self._order: deque[int] = deque()  # numbers that were submitted and not taken
        self._ready: dict[int, Any] = {}
        self._submitted = 0
        self._waiting: deque[tuple[int, Task]] = deque()  # until a worker has a free slot
        self._owner = os.getpid()
        self._arena = Arena()
        self._sent: list[SharedMemory] = []
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _shut_down, self._workers, self._arena, self._owner)
        try:
            slots = min(-(-depth // num_workers), _MAX_SLOTS)
            self._start((fetcher, init, num_workers, seed), num_workers, slots, method or "spawn")
        except BaseException:
            self.close()
            raise

    def _start(self, setup: tuple[Any, ...], count: int, slots: int, method: str) -> None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            sys.exit(1)  # a worker imports a script without a main guard; the script's own process says what to do
        job = _encode(setup, self._arena)
        self._sent = self._arena.segments  # the arrays of the dataset
        context = multiprocessing.get_context(method)
        with _single_threaded():
            for index in range(count):
                self._workers.append(_Worker(index, [_Slot(i, self._arena) for i in range(slots)], context))
        # after all of them were started, so that they import the package at the same time
        for worker in self._workers:
            try:
                worker.connection.send_bytes(job)
            except OSError:
                self._fail_dead(worker)

    def submit(self, task: Task) -> None:
        number, self._submitted = self._submitted, self._submitted + 1
        self._order.append(number)
        self._waiting.append((number, task))
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and (idle := [worker for worker in self._workers if worker.free]):
            # the worker with the fewest tasks, so that all of them start early
            worker = min(idle, key=lambda worker: len(worker.pending))
            try:
                worker.give(*self._waiting.popleft(), self._arena)
            except OSError:
                self._fail_dead(worker)

    def take(self) -> Any:
        number = self._order.popleft()
        deadline = self._deadline()
        self._receive(0)  # reports a death at once, even if finished batches are ready
        while number not in self._ready:
            self._await(number, deadline)
        result = self._ready.pop(number)
        if isinstance(result, _Failure):
            self._fail(result.message)
        return result

    def reset(self) -> None:
        self._waiting.clear()
        while under_way := self._under_way():
            self._await(min(under_way), self._deadline())
        self._order.clear()
        self._ready.clear()

    def close(self) -> None:
        self._finalizer()

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive or os.getpid() != self._owner  # a forked copy must not use the pipes

    @property
    def pids(self) -> list[int]:
        """Process ids of the running workers."""
        return [] if self.closed else [worker.process.pid or 0 for worker in self._workers]

    def _under_way(self) -> list[int]:
        return [number for worker in self._workers for number in worker.pending]

    def _deadline(self) -> float:
        return time.monotonic() + (self._timeout or float("inf"))

    def _await(self, number: int, deadline: float) -> None:
        """Handle messages of workers; fail if none came by the deadline while batch `number` is needed."""
        left = max(0.0, deadline - time.monotonic())
        if not self._receive(left if self._timeout else None):
            self._fail_late(number)

    def _receive(self, timeout: float | None) -> bool:
        """Handle a message or the death of each worker; wait up to `timeout` seconds for one (None: without limit)."""
        events: dict[Any, _Worker] = {}
        for worker in self._workers:
            events[worker.connection] = events[worker.process.sentinel] = worker
        ready = wait(list(events), timeout)
        for event in ready:
            if event is events[event].connection:
                self._handle_message(events[event])
            else:
                self._fail_dead(events[event])
        return bool(ready)

    def _handle_message(self, worker: _Worker) -> None:
        try:
            kind, number, content = worker.connection.recv()
        except (EOFError, OSError):
            self._fail_dead(worker)
        if kind == "ready":  # the worker has opened the arrays of the dataset
            worker.started = True
            if all(worker.started for worker in self._workers):
                self._unname(self._sent)
        elif kind == "grow":  # the batch does not fit into its slot
            worker.grow(number, content, self._arena)
        elif kind == "batch":
            slot, _ = worker.release(number)
            self._unname([slot.memory])  # the worker has opened it, as the batch in it shows
            self._ready[number] = load(content, buffer_of(slot.memory))
            self._hand_out()
        elif number is not None:  # the dataset raised; the epoch reports it when this batch is taken
            _, batch = worker.release(number)
            self._ready[number] = _Failure(f"{worker} failed on batch {batch}:\n{content}")
            self._hand_out()
        else:
            self._fail(f"{worker} could not start:\n{content}")

    def _unname(self, segments: list[SharedMemory]) -> None:
        for segment in segments:
            self._arena.unname(segment)

    def _fail_dead(self, worker: _Worker) -> NoReturn:
        last_words = worker.last_words()
        worker.process.join(_GRACE)
        self._fail(f"{worker} {_how_it_ended(worker)}" + (f":\n{last_words}" if last_words else ""))

    def _fail_late(self, number: int) -> NoReturn:
        worker = next(worker for worker in self._workers if number in worker.pending)
        self._fail(
            f"{worker} did not deliver batch {worker.pending[number][1]} within {self._timeout:g} s; "
            "give the loader a longer timeout, or check what the dataset waits for"
        )

    def _fail(self, message: str) -> NoReturn:
        self.close()
        raise WorkerError(f"DataLoader: {message}") from None  # not from the pipe that it closed


class _Failure:
    """Replaces a batch that could not be prepared."""

    def __init__(self, message: str) -> None:
        self.message = message


class _Slot:
    """Shared memory for one batch in preparation: first its indices, then the batch itself."""

    def __init__(self, index: int, arena: Arena) -> None:
        self.index = index
        self.memory = arena.create(_FIRST_SLOT)

    def grow(self, size: int, arena: Arena) -> None:
        if size > self.memory.size:
            old, self.memory = self.memory, arena.create(size)
            arena.remove(old)


class _Worker:
    """One worker, seen from the main process."""

    def __init__(self, index: int, slots: list[_Slot], context: multiprocessing.context.BaseContext) -> None:
        self.index, self.free, self.started = index, slots, False
        self.pending: dict[int, tuple[_Slot, int]] = {}  # slot and batch number, oldest first
        self.connection, theirs = context.Pipe()
        self.process = context.Process(  # type: ignore[attr-defined]
            target=run_worker, args=(index, theirs), name=f"tt-data worker {index}", daemon=True
        )
        self.process.start()
        theirs.close()  # only the worker holds it now, so its death closes the pipe

    def __str__(self) -> str:
        return f"worker {self.index} (pid {self.process.pid})"

    def give(self, number: int, task: Task, arena: Arena) -> None:
        slot = self.free.pop()
        self.pending[number] = (slot, task.number)
        count = None
        if isinstance(task.indices, np.ndarray):
            count = len(task.indices)
            slot.grow(task.indices.nbytes, arena)
            np.ndarray(count, np.int64, buffer_of(slot.memory))[...] = task.indices
            task = task._replace(indices=range(0))  # the worker reads them from the slot
        self.connection.send((number, slot.index, slot.memory.name, count, task))

    def grow(self, number: int, size: int, arena: Arena) -> None:
        slot, _ = self.pending[number]
        slot.grow(size, arena)
        self.connection.send(slot.memory.name)

    def release(self, number: int) -> tuple[_Slot, int]:
        slot, batch = self.pending.pop(number)
        self.free.append(slot)
        return slot, batch

    def last_words(self) -> str:
        """The message of a worker that could not start."""
        with contextlib.suppress(EOFError, OSError):
            while self.connection.poll():
                kind, number, content = self.connection.recv()
                if kind == "failed" and number is None:
                    return str(content)
        return ""


def _how_it_ended(worker: _Worker) -> str:
    code = worker.process.exitcode
    how = f"ended with exit code {code}"
    if code is None:
        how = "closed its pipe"
    elif code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
    if not worker.started:
        return how + (
            " before it was ready; a script that starts workers needs `if __name__ == '__main__':` around "
            "its main code, and its dataset must be defined in a module"
        )
    batches = [batch for _, batch in worker.pending.values()]
    return how + (f" on batch {batches[0]}" if batches else " between two batches")


def _encode(job: Any, arena: Arena) -> memoryview:
    try:
        return dump_sharing(job, arena)
    except TinyTorchError:
        raise
    except Exception as error:  # a user's class may raise anything when it is pickled
        raise WorkerError(
            f"DataLoader: cannot send the dataset, collate_fn or transform to a worker process ({error}); "
            "define them at the top of a module (no lambda), or use num_workers=0"
        ) from None


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """Processes that are started in this block have one thread each: the cores are for training."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _shut_down(workers: list[_Worker], arena: Arena, owner: int) -> None:
    """End the workers, first by a message, then by signals, and free the memory; does nothing in a forked copy."""
    if os.getpid() != owner:
        return
    for worker in workers:
        with contextlib.suppress(OSError):
            worker.connection.send(None)
        worker.connection.close()
    processes = [worker.process for worker in workers]
    for stop in ("is_alive", "terminate", "kill"):
        for process in processes:
            getattr(process, stop)()
        _wait_for_all(processes, _GRACE)
    arena.close()


def _wait_for_all(processes: list[Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
