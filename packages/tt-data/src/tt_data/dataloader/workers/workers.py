"""Who prepares the batches: the loop itself, a thread beside it, or processes over shared memory.

Part of module 08 (Act III). The three pools take tasks and give back batches in the order of the tasks.
Processes are started by `spawn` on every system, one pipe each: no lock is shared, so a worker that is killed
can block nobody. Through a pipe go only numbers and shapes; indices and batches lie in shared memory that the
pool owns.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.context
import os
import queue
import signal
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn, Protocol, cast

import numpy as np

from tt_core.engine.errors import TinyTorchError
from tt_core.random import manual_seed
from tt_data.dataloader.dataset import IterableDataset
from tt_data.dataloader.seeding import seed_globals
from tt_data.dataloader.workers.fetch import Fetcher, Task, WorkerInfo, set_worker_info
from tt_data.dataloader.workers.memory import (
    Arena,
    SharedMemory,
    buffer_of,
    dump_sharing,
    encode,
    load,
    load_sent,
    size_of,
    store,
)

_FIRST_SLOT = 1 << 16  # bytes; a slot grows to the first batch that does not fit
_MAX_SLOTS = 16  # of a worker: tasks that wait in its pipe must fit there, or both sides block each other
_GRACE = 0.5  # seconds a worker gets to end by itself before it is terminated, then killed
_BLAS_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

WorkerInit = Callable[[int], None]


class WorkerError(TinyTorchError):
    """A worker process died, hung or failed; the message names it and holds its traceback."""


class Pool(Protocol):
    """Prepares batches: as many `take` as `submit`, in that order."""

    def submit(self, task: Task) -> None: ...

    def take(self) -> Any: ...

    def reset(self) -> None:
        """Forget what was submitted and not taken."""

    def close(self) -> None: ...

    @property
    def closed(self) -> bool: ...


class InlinePool:
    """Prepares a batch when it is asked for."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher, self._tasks = fetcher, deque[Task]()

    def submit(self, task: Task) -> None:
        self._tasks.append(task)

    def take(self) -> Any:
        return self._fetcher(self._tasks.popleft())

    def reset(self) -> None:
        self._tasks.clear()

    close = reset
    closed = False  # nothing to close: it can always be used again


class ThreadPool:
    """One thread that prepares batches while the loop computes; most of NumPy runs beside other Python."""

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
        while self._pending:
            self._results.get()
            self._pending -= 1

    def close(self) -> None:
        self._finalizer()
        self._thread.join()

    @property
    def closed(self) -> bool:
        return not self._thread.is_alive()  # in a forked copy of its process it is gone as well


def _serve_thread(fetcher: Fetcher, tasks: queue.SimpleQueue[Task | None], results: queue.SimpleQueue[Any]) -> None:
    while (task := tasks.get()) is not None:
        try:
            results.put((fetcher(task), None))
        except BaseException as error:  # it belongs to whoever takes the batch, KeyboardInterrupt too
            results.put((None, error))


class ProcessPool:
    """Worker processes. `depth` batches may be under way at once, spread over the workers.

    A worker's exception is raised, as `WorkerError`, in place of its batch; a worker's death at once,
    whatever it was doing. After either, or `close`, the workers are gone and so is their shared memory.
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
        self._order: deque[int] = deque()  # what was submitted and not taken
        self._ready: dict[int, Any] = {}
        self._submitted = 0
        self._waiting: deque[tuple[int, Task]] = deque()  # for a worker with a free slot
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
        job = _encode(setup, self._arena)
        self._sent = self._arena.segments  # the dataset's arrays
        context = multiprocessing.get_context(method)
        with _single_threaded_blas():
            for index in range(count):
                self._workers.append(_Worker(index, [_Slot(i, self._arena) for i in range(slots)], context))
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
            worker = min(idle, key=lambda worker: len(worker.pending))
            try:
                worker.give(*self._waiting.popleft(), self._arena)
            except OSError:
                self._fail_dead(worker)

    def take(self) -> Any:
        number = self._order.popleft()
        deadline = self._deadline()
        self._receive(0)  # a death is reported at once, also while finished batches lie ready
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
        return not self._finalizer.alive or os.getpid() != self._owner  # a forked copy must leave the pipes alone

    @property
    def pids(self) -> list[int]:
        """The running workers' process ids."""
        return [] if self.closed else [worker.process.pid or 0 for worker in self._workers]

    def _under_way(self) -> list[int]:
        return [number for worker in self._workers for number in worker.pending]

    def _deadline(self) -> float:
        return time.monotonic() + (self._timeout or float("inf"))

    def _await(self, number: int, deadline: float) -> None:
        """Handle what workers send; fails when nothing came by the deadline for somebody who needs batch `number`."""
        left = max(0.0, deadline - time.monotonic())
        if not self._receive(left if self._timeout else None):
            self._fail_late(number)

    def _receive(self, timeout: float | None) -> bool:
        """Handle a message or death of each worker that has any; wait `timeout` seconds (None: for ever)."""
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
        if kind == "ready":
            worker.started = True
            if all(worker.started for worker in self._workers):
                self._unname(self._sent)
        elif kind == "grow":
            worker.grow(number, content, self._arena)
        elif kind == "batch":
            slot, _ = worker.release(number)
            self._unname([slot.memory])
            self._ready[number] = load(content, buffer_of(slot.memory))
            self._hand_out()
        elif number is not None:
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
            "give the loader a longer timeout, or look at what the dataset waits for"
        )

    def _fail(self, message: str) -> NoReturn:
        self.close()
        raise WorkerError(f"DataLoader: {message}")


class _Failure:
    """Takes the place of a batch that could not be prepared."""

    def __init__(self, message: str) -> None:
        self.message = message


class _Slot:
    """A place in shared memory for one batch under way: first its indices, then the batch itself."""

    def __init__(self, index: int, arena: Arena) -> None:
        self.index = index
        self.memory = arena.create(_FIRST_SLOT)

    def grow(self, size: int, arena: Arena) -> None:
        if size > self.memory.size:
            old, self.memory = self.memory, arena.create(size)
            arena.remove(old)


class _Worker:
    """The main process's side of one worker."""

    def __init__(self, index: int, slots: list[_Slot], context: multiprocessing.context.BaseContext) -> None:
        self.index, self.free, self.started = index, slots, False
        self.pending: dict[int, tuple[_Slot, int]] = {}  # slot and batch number, oldest first
        self.connection, theirs = context.Pipe()
        self.process = context.Process(  # type: ignore[attr-defined]
            target=run_worker, args=(index, theirs), name=f"tt-data worker {index}", daemon=True
        )
        self.process.start()
        theirs.close()  # now the worker alone holds it, and its death ends the pipe

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
            task = task._replace(indices=range(0))  # the worker finds them in the slot
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
        """What a worker that could not start said before it ended."""
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
            "what it does, and its dataset defined in a module"
        )
    batches = [batch for _, batch in worker.pending.values()]
    return how + (f" on batch {batches[0]}" if batches else " between two batches")


def _encode(job: Any, arena: Arena) -> memoryview:
    try:
        return dump_sharing(job, arena)
    except TinyTorchError:
        raise
    except Exception as error:  # whatever a user's class raises when it is taken apart
        raise WorkerError(
            f"DataLoader: cannot send the dataset, collate_fn or transform to a worker process ({error}); "
            "define them at the top of a module (no lambda), or use num_workers=0"
        ) from None


@contextlib.contextmanager
def _single_threaded_blas() -> Iterator[None]:
    """Processes started within have one BLAS thread each: the cores belong to the training."""
    before = {name: os.environ.get(name) for name in _BLAS_THREADS}
    os.environ.update(dict.fromkeys(_BLAS_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _shut_down(workers: list[_Worker], arena: Arena, owner: int) -> None:
    """End the workers, kindly first, then remove the memory. Not in a forked copy of their owner."""
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


# --- the worker's side ---


def run_worker(index: int, connection: Connection) -> None:
    """What a worker process runs: receive the dataset once, then serve tasks until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _yield_to_training()
    with contextlib.suppress(EOFError, OSError):  # the main process is done with us
        fetcher = _set_up(index, connection, connection.recv_bytes())
        if fetcher is not None:
            connection.send(("ready", None, None))
            _Server(fetcher, connection).serve()
        else:
            while connection.recv() is not None:  # a pipe closed with tasks unread takes the message with it
                pass


def _set_up(index: int, connection: Connection, job: bytes) -> Fetcher | None:
    try:
        fetcher, init, num_workers, seed = load_sent(job)
        _introduce(index, num_workers, seed, fetcher)
        if init is not None:
            init(index)
    except Exception:  # anything that a user's class raises when it is put together again
        connection.send(("failed", None, traceback.format_exc()))
        return None
    return cast(Fetcher, fetcher)


def _introduce(index: int, num_workers: int, seed: int, fetcher: Fetcher) -> None:
    """Set what `get_worker_info` says, and seed what `worker_init_fn` may draw from."""
    if isinstance(fetcher.dataset, IterableDataset):
        index, num_workers = 0, 1  # one stream for all workers, of which each keeps its own batches
    fetcher.seeds_globals = True
    set_worker_info(WorkerInfo(index, num_workers, seed + index, fetcher.dataset))
    seed_globals(seed, index)
    manual_seed(seed + index)


def _yield_to_training() -> None:
    """On Linux, wake without taking a core at once: handing out a task cost 1.6 ms of being displaced, now 0.1."""
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # some sandboxes forbid it; then it is only slower
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _end_with_parent() -> None:
    """A worker whose main process was killed would otherwise notice only after its current batch."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Server:
    """Prepares the batches that a pipe asks for, each into the slot that comes with it."""

    def __init__(self, fetcher: Fetcher, connection: Connection) -> None:
        self._fetcher, self._connection = fetcher, connection
        self._backlog: deque[Any] = deque()
        self._slots: dict[int, SharedMemory] = {}

    def serve(self) -> None:
        while (message := self._backlog.popleft() if self._backlog else self._connection.recv()) is not None:
            self._connection.send_bytes(self._answer(*message))

    def _answer(self, number: int, *place_and_task: Any) -> memoryview:
        try:
            return encode(("batch", number, self._prepare(number, *place_and_task)))
        except Exception:
            return encode(("failed", number, traceback.format_exc()))

    def _prepare(self, number: int, slot: int, name: str, count: int | None, task: Task) -> Any:
        memory = self._attach(slot, name)
        if count is not None:
            task = task._replace(indices=np.ndarray(count, np.int64, buffer_of(memory)).copy())
        batch = self._fetcher(task)
        size = size_of(batch)
        if size > memory.size:
            memory = self._attach(slot, self._ask_for(number, size))
        return store(batch, buffer_of(memory))

    def _ask_for(self, number: int, size: int) -> str:
        """The name of a segment that holds `size` bytes; tasks that come in before the answer wait."""
        self._connection.send(("grow", number, size))
        while not isinstance(answer := self._connection.recv(), str):
            self._backlog.append(answer)
        return answer

    def _attach(self, slot: int, name: str) -> SharedMemory:
        memory = self._slots.get(slot)
        if memory is None or memory.name != name:
            if memory is not None:
                memory.close()
            memory = self._slots[slot] = SharedMemory(name)
        return memory
