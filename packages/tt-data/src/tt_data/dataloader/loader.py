"""Module 08, dataloader: batches in order, shuffled, prepared ahead, and resumable in the middle of an epoch.

A `Dataset` is read (`dataset`, `storage/`, `tt_data.datasets`) in the order of a sampler (`samplers`). A batch is
prepared by `workers/`: in the loop, in a thread or in processes. This file connects them. It has no data and does not
know what a sample is. `base.py` keeps the workers.

The lesson about systems: the data pipeline is often the bottleneck. `DataLoader.wait_seconds` measures how long the
training loop waited.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.errors import DTypeError
from tt_core.random import Generator
from tt_data.dataloader.base import BaseLoader, drawn_from
from tt_data.dataloader.checks import (
    batches_ahead,
    check_batch_size,
    check_dataset,
    check_generator,
    check_method,
    check_same_data,
    check_sampling,
    check_state,
    check_timeout,
    natural,
)
from tt_data.dataloader.dataset import IterableDataset
from tt_data.dataloader.epoch import Epoch
from tt_data.dataloader.indices import Indices, as_indices
from tt_data.dataloader.samplers import BatchSampler, RandomSampler, SequentialSampler
from tt_data.dataloader.seeding import ORDER, draw_seed, stream
from tt_data.dataloader.workers.fetch import Collate, Task, Transform
from tt_data.dataloader.workers.processes import WorkerInit


class DataLoader(BaseLoader):
    """Batches of a dataset, as tensors.

    `num_workers` processes prepare batches ahead and pass them in shared memory; with 0 workers and `prefetch` > 0 a
    thread does. `prefetch` is the number of batches in preparation (default: two per worker, else 0), and PyTorch's
    `prefetch_factor` the number per worker. The same seed gives the same batches in the same order for any number of
    workers, including augmentation, if random numbers come from `tt_core.generator()`. Workers also seed `random` and
    `np.random`, so that a run can be repeated (see `tt_data.dataloader.seeding`).

    `collate_fn` receives a list of samples. By default they are stacked, or a dataset with `__getitems__` returns the
    whole batch. `transform` receives the first field of the batch as an array. One seed per epoch is drawn from
    `generator`, by default the framework's. Each worker first calls `worker_init_fn(id)`. Workers are started by
    "spawn" and kept for the next epoch unless `persistent_workers` is False; `close()`, or the end of a `with` block,
    ends them.

    Raises `ArgumentError` and `DTypeError` for arguments that do not fit. Iteration raises `WorkerError` (a worker
    died, failed or took longer than `timeout` seconds) or the error of the dataset. Warns that `pin_memory` does
    nothing, since there is no device to copy to.

    >>> from tt_data.dataloader import TensorDataset
    >>> loader = DataLoader(TensorDataset(np.arange(5)), batch_size=2)
    >>> [batch.tolist() for (batch,) in loader]
    [[0, 1], [2, 3], [4]]
    """

    @checked
    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Collate | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: WorkerInit | None = None,
        multiprocessing_context: str | None = None,
        generator: np.random.Generator | Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = True,
        transform: Transform | None = None,
        prefetch: int | None = None,
    ) -> None:
        check_dataset(dataset)
        # sizes first, because the samplers are made from them
        self.dataset, self.batch_size, self.drop_last = dataset, check_batch_size(batch_size), drop_last
        self.num_workers = natural("num_workers", num_workers)
        self.prefetch = batches_ahead(self.num_workers, prefetch, prefetch_factor)
        self.timeout, self.generator = check_timeout(timeout), check_generator(generator, "DataLoader")
        self.sampler, self.batch_sampler = self._choose_samplers(shuffle, sampler, batch_sampler)
        self.wait_seconds = 0.0  # how long the loop waited for batches in this epoch
        self._prepares_with(collate_fn, transform, worker_init_fn, check_method(multiprocessing_context))
        self._shuffles, self._keeps_workers = shuffle, persistent_workers
        if pin_memory:
            warnings.warn("DataLoader: pin_memory does nothing, there is no device to copy to", stacklevel=2)
        self._epochs_started, self._position, self._seed = 0, 0, None  # type: int, int, int | None
        self._resuming = False

    def __len__(self) -> int:
        """The number of batches in an epoch; raises `DTypeError` for a stream without a length."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)
        if not hasattr(self.dataset, "__len__"):
            raise DTypeError(f"DataLoader: {type(self.dataset).__name__} has no length; define __len__ on the stream")
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        """Starts an epoch, or continues the one that `load_state_dict` restored."""
        if not self._resuming:
            # one draw per epoch of any length, so that later random numbers do not depend on the size of the dataset
            self._position, self._seed = 0, draw_seed(self.generator)
            self._epochs_started += 1
        self._resuming = False
        self.wait_seconds = 0.0
        # each run has a number of its own, so that a stream knows where an epoch starts
        first = Task(next(self._runs), self._position, self._seed or 0, range(0))
        epoch = Epoch(self, self._ready_pool(), first)
        self._epoch = weakref.ref(epoch)  # weak: an epoch that a `break` has ended is freed with its last reference
        return epoch

    def state_dict(self) -> dict[str, Any]:
        """The position of the loader: "epoch", its "seed", and the number of batches it has returned, "position".

        "batch_size" and "samples" say what it belongs to. Batches prepared ahead do not count. The dict can be stored
        as JSON. Store the framework's generator too.
        """
        return {
            "epoch": self._epochs_started,
            "position": self._position,
            "seed": self._seed,
            "batch_size": self.batch_size,
            "samples": self._samples(),
        }

    @checked
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken: the next `iter` returns the remaining batches of its epoch.

        Raises `ArgumentError` for the state of other data or another batch size, which has another order.

        >>> from tt_data.dataloader import TensorDataset
        >>> loader = DataLoader(TensorDataset(np.arange(6)), 2, shuffle=True)
        >>> batches = iter(loader)
        >>> _ = next(batches)
        >>> state = loader.state_dict()
        >>> rest = [x.tolist() for (x,) in batches]
        >>> loader.load_state_dict(state)
        >>> [x.tolist() for (x,) in loader] == rest
        True
        """
        check_same_data(state, self.batch_size, self._samples())
        check_state(state, self._batches())
        self._epochs_started, self._position, self._seed = state["epoch"], state["position"], state["seed"]
        self._resuming = self._seed is not None
        # batches that the old epoch has submitted must not end up in the restored one
        if self._being_read():
            self._pool = None  # the epoch that is still being read keeps it
        self._epoch = None

    def _handed_out(self, epoch: Epoch, waited: float) -> None:
        """Count a batch that the epoch returned after `waited` seconds."""
        if self._is_current(epoch):
            self._position += 1
            self.wait_seconds += waited

    def _finished(self, epoch: Epoch) -> None:
        """Note the end of the epoch."""
        if self._is_current(epoch):
            self._position, self._seed = 0, None  # a state saved now starts the next epoch
            if not self._keeps_workers:
                self.close()

    def _choose_samplers(self, shuffle: bool, sampler: Any, batch_sampler: Any) -> tuple[Any, Any]:
        check_sampling(self.dataset, self.batch_size, self.drop_last, shuffle, sampler, batch_sampler)
        data: Any = self.dataset
        if isinstance(data, IterableDataset) or batch_sampler is not None:
            return None, batch_sampler
        if sampler is None:
            sampler = RandomSampler(data) if shuffle else SequentialSampler(data)
        return sampler, BatchSampler(sampler, self.batch_size, self.drop_last)

    def _index_batches(self, seed: int, start: int) -> Iterator[Indices | range]:
        """The sample indices of each batch from number `start` on."""
        if self.batch_sampler is None:  # a stream: positions to read, without an end that is known
            return (range(n * self.batch_size, (n + 1) * self.batch_size) for n in count(start))
        # a resumed epoch draws the same order from its seed, and skips the samples that were read
        return islice(drawn_from(stream(seed, ORDER), self._checked_batches()), start, None)

    def _checked_batches(self) -> Iterator[Indices]:
        for indices in self.batch_sampler:
            yield as_indices(indices, len(self.dataset), "DataLoader")
