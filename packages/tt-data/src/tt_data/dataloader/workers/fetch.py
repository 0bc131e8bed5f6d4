"""Preparing one batch: read the samples, collate and transform them, with a random stream of the batch.

Part of module 08, dataloader. The same `Fetcher` runs in a worker, in a thread or in the loop. It maps a `Task` to a
batch of arrays, and has no state that the next batch could depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tt_data.dataloader import seeding
from tt_data.dataloader.collate import default_collate, rebuild, to_arrays
from tt_data.dataloader.dataset import IterableDataset, fetch_batch
from tt_data.dataloader.workers.global_state import GlobalState, seed_globals

Collate = Callable[[Any], Any]
Transform = Callable[[Any], Any]


class Task(NamedTuple):
    """One batch to prepare: the `number`-th of epoch run `run`, with that epoch's seed."""

    run: int  # counts the epochs of a loader, so that a stream starts again
    number: int
    seed: int
    indices: npt.NDArray[np.int64] | range  # sample numbers; of a stream, the positions to read


@dataclass(frozen=True)
class WorkerInfo:
    """The worker process that code runs in, with the names of PyTorch."""

    id: int
    num_workers: int
    seed: int
    """The seed of `random`, `np.random` and the framework's generator in this process."""
    dataset: Any
    """The copy of the dataset in this process."""


_worker_info: WorkerInfo | None = None  # of the process: all its threads, and kernels, are in the same worker


def set_worker_info(info: WorkerInfo) -> None:
    """Set the result of `get_worker_info` in this process."""
    global _worker_info
    _worker_info = info


def get_worker_info() -> WorkerInfo | None:
    """The worker process that this code runs in: `id`, `num_workers`, `seed`, `dataset`; None in the main process.

    For an `IterableDataset`, `id` is 0 and `num_workers` 1: the loader distributes the batches of one stream to the
    workers, so a stream that selects its share of the samples, as PyTorch requires, selects all of them here.

    >>> get_worker_info() is None
    True
    """
    return _worker_info


class EndOfStream:
    """Replaces a batch beyond the end of a stream."""


@dataclass
class Fetcher:
    """Maps a task to a batch of arrays.

    `collate_fn` receives the list of samples. Without it, a dataset with `__getitems__` returns the whole batch.
    `transform` receives the first field of a batch that is a tuple or list (the images of images and labels), else the
    whole batch; a list of strings is one field. With `seeds_globals`, as in a worker process, `random` and `np.random`
    are seeded for the batch too.
    """

    dataset: Any
    collate_fn: Collate | None = None
    transform: Transform | None = None
    drop_last: bool = False
    seeds_globals: bool = False
    _stream: _Stream | None = field(default=None, repr=False, init=False)

    def __call__(self, task: Task) -> Any:
        with seeding.drawing_from(seeding.stream(task.seed, task.number + 1)):
            try:
                return self._prepared(task)
            except StopIteration as error:  # would end the loop over the loader before the last sample
                raise RuntimeError(
                    f"DataLoader: StopIteration while preparing batch {task.number}; in the dataset, collate_fn or "
                    "transform, give next() a default or catch it"
                ) from error

    def _prepared(self, task: Task) -> Any:
        samples = self._read(task, task.indices) if isinstance(task.indices, range) else None
        if self.seeds_globals:
            seed_globals(task.seed, task.number + 1)
        if isinstance(task.indices, range):
            return samples if isinstance(samples, EndOfStream) else self._transformed(self._collated(samples))
        return self._transformed(self._indexed(task.indices))

    def _indexed(self, indices: npt.NDArray[np.int64]) -> Any:
        if self.collate_fn is None:
            return to_arrays(fetch_batch(self.dataset, indices))
        return to_arrays(self.collate_fn([self.dataset[int(index)] for index in indices]))

    def _read(self, task: Task, wanted: range) -> list[Any] | EndOfStream:
        """The samples of a stream at the positions `wanted`."""
        if self._stream is None or self._stream.run != task.run:
            self._stream = _Stream(self.dataset, task, wanted.start, self.seeds_globals)
        samples = self._stream.read(wanted)
        return EndOfStream() if len(samples) < (len(wanted) if self.drop_last else 1) else samples

    def _collated(self, samples: Any) -> Any:
        return to_arrays((self.collate_fn or default_collate)(samples))

    def _transformed(self, batch: Any) -> Any:
        if self.transform is None:
            return batch
        if isinstance(batch, (tuple, list)) and not isinstance(next(iter(batch), ""), (str, bytes)):
            return rebuild(batch, [to_arrays(self.transform(batch[0])), *batch[1:]])
        return to_arrays(self.transform(batch))


class _Stream:
    """The iterator of a stream, and the position it was read to.

    Its random numbers are those of the epoch, not of a batch, so that all workers read the same stream.
    """

    def __init__(self, dataset: IterableDataset, task: Task, position: int, seeds_globals: bool) -> None:
        self.run, self.position = task.run, position
        self._rng = seeding.stream(task.seed, seeding.ORDER)
        self._globals: GlobalState | None = None
        if seeds_globals:
            seed_globals(task.seed, seeding.ORDER)
            self._globals = GlobalState()
        with self._drawing():
            self._samples = iter(dataset.iter_from(position))

    def read(self, wanted: range) -> list[Any]:
        with self._drawing():
            skip = wanted.start - self.position  # batches in between are prepared by other workers
            samples = list(islice(self._samples, skip, skip + len(wanted)))
        self.position = wanted.stop
        return samples

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """In the block, all global generators of a worker process are those of the stream."""
        if self._globals is not None:
            self._globals.restore()
        with seeding.drawing_from(self._rng):
            yield
        if self._globals is not None:
            self._globals = GlobalState()
