"""Module 08, dataloader: one pass over the batches of a loader.

It submits the next batches to a pool before the loop asks for them, and takes finished ones in order. It does not know
whether the pool prepares them in the loop, in a thread or in processes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

from tt_data.dataloader.collate import to_tensors
from tt_data.dataloader.workers.fetch import EndOfStream, Task
from tt_data.dataloader.workers.pools import Pool

if TYPE_CHECKING:
    from tt_data.dataloader.loader import DataLoader


class Epoch:
    """One pass over the batches of a loader. An exception ends it, as it ends a generator."""

    def __init__(self, loader: DataLoader, pool: Pool, first: Task) -> None:
        self._loader, self._pool, self._next_task = loader, pool, first
        self._indices = loader._index_batches(first.seed, first.number)
        self._depth = max(loader.prefetch, loader.num_workers, 1)  # a worker without a task would be idle
        self._under_way = 0
        self.ended = False
        try:
            self._submit_ahead()
        except BaseException as error:
            self._end(error)
            raise

    def __iter__(self) -> Epoch:
        return self

    def __next__(self) -> Any:
        if self.ended:
            raise StopIteration
        if not self._under_way:  # all submitted batches were taken, and no indices are left
            self._finish()
        started = time.perf_counter()
        batch = self._take()
        self._loader._handed_out(self, time.perf_counter() - started)
        return to_tensors(batch)  # here and not in the worker: arrays travel in shared memory, tensors do not

    def _take(self) -> Any:
        try:
            batch = self._pool.take()
            if isinstance(batch, EndOfStream):
                self._finish()
            self._under_way -= 1
            self._submit_ahead()  # before the return, so that it is prepared while the loop computes
            return batch
        except BaseException as error:
            self._end(error)
            raise

    def _end(self, error: BaseException) -> None:
        self.ended = True
        if not isinstance(error, Exception):  # Ctrl-C may come in the middle of a message: the next epoch needs others
            self._pool.close()

    def _submit_ahead(self) -> None:
        """Submits tasks to the pool until `_depth` batches are under way, or no indices are left."""
        while self._under_way < self._depth and (indices := next(self._indices, None)) is not None:
            self._pool.submit(self._next_task._replace(indices=indices))
            self._next_task = self._next_task._replace(number=self._next_task.number + 1)
            self._under_way += 1

    def _finish(self) -> NoReturn:
        self.ended = True
        self._loader._finished(self)
        raise StopIteration
