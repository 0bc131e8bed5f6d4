"""A worker process, seen from inside: it prepares the batches that its pipe asks for. Part of module 08, dataloader."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from multiprocessing.connection import Connection
from typing import Any, cast

import numpy as np

from tt_core.engine.threads import set_num_threads
from tt_core.random import manual_seed
from tt_data.dataloader.dataset import IterableDataset
from tt_data.dataloader.workers.fetch import Fetcher, Task, WorkerInfo, set_worker_info
from tt_data.dataloader.workers.global_state import seed_globals
from tt_data.dataloader.workers.memory import SharedMemory, buffer_of, encode, load_sent, size_of, store


def run_worker(index: int, connection: Connection) -> None:
    """The main function of a worker process: receive the dataset once, then serve tasks until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C
    # blocking reads of the pipe do not notice a killed main process while a batch is prepared
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _yield_to_training()
    set_num_threads(1)  # a forked worker has its parent's number
    with contextlib.suppress(EOFError, OSError):  # the main process has closed the pipe
        fetcher = _set_up(index, connection, connection.recv_bytes())
        if fetcher is not None:
            connection.send(("ready", None, None))
            _Server(fetcher, connection).serve()
        else:
            while connection.recv() is not None:  # closing a pipe with unread tasks would discard the message
                pass


def _set_up(index: int, connection: Connection, job: bytes) -> Fetcher | None:
    try:
        fetcher, init, num_workers, seed = load_sent(job)
        _introduce(index, num_workers, seed, fetcher)
        if init is not None:
            init(index)
    except Exception:  # a user's class may raise anything when it is unpickled
        connection.send(("failed", None, traceback.format_exc()))
        return None
    return cast(Fetcher, fetcher)


def _introduce(index: int, num_workers: int, seed: int, fetcher: Fetcher) -> None:
    """Set the result of `get_worker_info`, and seed the generators that `worker_init_fn` may draw from."""
    if isinstance(fetcher.dataset, IterableDataset):
        index, num_workers = 0, 1  # all workers read one stream, and each keeps its own batches
    fetcher.seeds_globals = True
    set_worker_info(WorkerInfo(index, num_workers, seed + index, fetcher.dataset))
    seed_globals(seed, index)
    manual_seed(seed + index)


def _yield_to_training() -> None:
    """On Linux, do not preempt the main process when a task arrives: submitting one takes 0.1 instead of 1.6 ms."""
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # some sandboxes forbid it, which only makes it slower
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _end_with_parent() -> None:
    """End as soon as the main process was killed, not only after the current batch."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Server:
    """Prepares the batches that arrive as tasks in a pipe, each into the slot that the task names."""

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
        """The name of a segment of at least `size` bytes; tasks that arrive before the answer are kept."""
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
