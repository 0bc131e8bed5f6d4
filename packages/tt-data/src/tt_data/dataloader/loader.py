"""Module 08, the data loader (Act III): batches in order, shuffled, prepared ahead, and resumable in
mid-epoch.

What is read is a `Dataset` (`dataset.py`, `storage.py`, `datasets/`), in an order that a sampler gives
(`samplers.py`); a batch is prepared (`fetch.py`) in place, in a thread or in processes (`workers.py`). This
file ties them together. It decides nothing about what is in a sample, and holds no data.

The systems lesson: the pipeline is often the bottleneck. `DataLoader.wait_seconds` says how long training
waited.
"""

from __future__ import annotations

import multiprocessing
import time
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from html import escape
from itertools import count, islice
from typing import Any, NoReturn

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.errors import ArgumentError, DTypeError
from tt_data.dataloader.collate import default_collate, to_tensors
from tt_data.dataloader.dataset import (
    ConcatDataset,
    Dataset,
    Indices,
    IterableDataset,
    Subset,
    TensorDataset,
    as_indices,
    random_split,
)
from tt_data.dataloader.samplers import (
    BatchSampler,
    BlockShuffleSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    check_batch_size,
)
from tt_data.dataloader.seeding import ORDER, check_generator, draw_seed, drawing_from, stream
from tt_data.dataloader.storage import MemmapDataset, ShardedDataset, write_shards
from tt_data.dataloader.workers.fetch import Collate, EndOfStream, Fetcher, Task, Transform, WorkerInfo, get_worker_info
from tt_data.dataloader.workers.workers import InlinePool, Pool, ProcessPool, ThreadPool, WorkerError, WorkerInit

__all__ = [
    "BatchSampler",
    "BlockShuffleSampler",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "IterableDataset",
    "MemmapDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "ShardedDataset",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "WorkerError",
    "WorkerInfo",
    "default_collate",
    "get_worker_info",
    "random_split",
    "write_shards",
]


class DataLoader:
    """Batches of a dataset, as tensors.

    `num_workers` processes prepare batches ahead and hand them over in shared memory; with 0 workers and `prefetch` > 0
    a thread does. `prefetch` is the number of batches under way in all (default: two per worker, else 0);
    `prefetch_factor` is PyTorch's, the number per worker. The same seed gives the same batches in the same order for
    any number of workers, augmentation included, where random numbers come from `tt_core.generator()`. Workers also
    seed `random` and `np.random`, so that a run can be repeated (see `tt_data.dataloader.seeding`).

    `collate_fn` gets a list of samples; by default they are stacked, or a dataset with `__getitems__` is asked for the
    whole batch. `transform` gets the batch's first field as an array. One seed per epoch is drawn from `generator`, by
    default the framework's. Each worker calls `worker_init_fn(id)` first. Workers are started by "spawn" and kept from
    epoch to epoch unless `persistent_workers` is False; `close()`, or the end of a `with` block, ends them.

    Raises `ShapeError` and `DTypeError` for arguments that do not fit, and while iterating `WorkerError` (a worker
    died, failed or took longer than `timeout` seconds) or whatever the dataset raised. Warns that `pin_memory` does
    nothing, since there is no device to copy to.

    >>> import tt_core
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
        generator: np.random.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = True,
        transform: Transform | None = None,
        prefetch: int | None = None,
    ) -> None:
        if isinstance(dataset, Mapping) and dataset and 0 not in dataset:
            given = "a dictionary whose keys are not 0, 1, ..."
            raise DTypeError(f"DataLoader: dataset is {given}; pass list(dataset.values()) or a Dataset")
        self.dataset, self.batch_size, self.drop_last = dataset, check_batch_size(batch_size), drop_last
        self.num_workers = _count("num_workers", num_workers)
        self.prefetch = _batches_ahead(self.num_workers, prefetch, prefetch_factor)
        self.timeout, self.generator = _check_timeout(timeout), check_generator(generator, "DataLoader")
        self.sampler, self.batch_sampler = self._choose_samplers(shuffle, sampler, batch_sampler)
        self.wait_seconds = 0.0  # of the current epoch: how long the loop waited for batches
        self._fetcher = Fetcher(dataset, collate_fn, transform, drop_last)
        self._init, self._method = worker_init_fn, _check_method(multiprocessing_context)
        self._pool: Pool | None = None
        self._epoch: weakref.ref[_Epoch] | None = None
        self._runs, self._shuffles, self._keeps_workers = count(), shuffle, persistent_workers
        if pin_memory:
            warnings.warn("DataLoader: pin_memory does nothing, there is no device to copy to", stacklevel=2)
        self._epochs_started, self._position, self._seed = 0, 0, None  # type: int, int, int | None
        self._resuming = False

    def __len__(self) -> int:
        """Batches in an epoch; `DTypeError` for a stream without a length."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)
        if not hasattr(self.dataset, "__len__"):
            raise DTypeError(f"DataLoader: {type(self.dataset).__name__} has no length; a stream may define __len__")
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        """Start an epoch, or go on with the one that `load_state_dict` restored."""
        if not self._resuming:
            self._position, self._seed = 0, draw_seed(self.generator)
            self._epochs_started += 1
        self._resuming = False
        self.wait_seconds = 0.0
        first = Task(next(self._runs), self._position, self._seed or 0, range(0))
        epoch = _Epoch(self, self._ready_pool(), first)
        self._epoch = weakref.ref(epoch)
        return epoch

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: the epoch, its seed, and how many of its batches were handed out.

        Batches prepared ahead do not count. JSON holds it. Store the framework's generator beside it.
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
        """Go on where `state` was taken: the next `iter` gives the batches that were still to come.

        Raises `ArgumentError` when the state comes from other data or another batch size: it would be another
        order.

        >>> loader = DataLoader(TensorDataset(np.arange(6)), 2, shuffle=True)
        >>> batches = iter(loader)
        >>> _ = next(batches)
        >>> state = loader.state_dict()
        >>> rest = [x.tolist() for (x,) in batches]
        >>> loader.load_state_dict(state)
        >>> [x.tolist() for (x,) in loader] == rest
        True
        """
        for name, here in (("batch_size", self.batch_size), ("samples", self._samples())):
            if state.get(name) != here:
                raise ArgumentError(
                    f"DataLoader: the state was saved with {name} {state.get(name)}, this loader has {here}; "
                    "an epoch can only go on with the same data and batch size"
                )
        _check_state(state, self._batches())
        self._epochs_started, self._position, self._seed = state["epoch"], state["position"], state["seed"]
        self._resuming = self._seed is not None
        if self._being_read():
            self._pool = None  # it stays with the epoch that is still being read
        self._epoch = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes over: where the loader stands, not the workers nor the epoch that is being read."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_pool", "_epoch", "_runs")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pool = self._epoch = None
        self._runs = count()

    def close(self) -> None:
        """End the workers and give their memory back. The loader can be used again: it starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def __enter__(self) -> DataLoader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the running workers."""
        return self._pool.pids if isinstance(self._pool, ProcessPool) else []

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"DataLoader({settings})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>" for name, value in self._settings().items()
        )
        return f"<table><caption>DataLoader</caption>{rows}</table>"

    def _settings(self) -> dict[str, Any]:
        """What describes this loader: the data, how batches are made, and how many there are in an epoch."""
        settings: dict[str, Any] = {"dataset": self.dataset, "batches": self._batches()}
        if type(self.batch_sampler) is BatchSampler:
            order = "shuffled" if self._shuffles else type(self.sampler).__name__
            settings |= {"batch_size": self.batch_size, "order": order, "drop_last": self.drop_last}
        else:
            settings["batch_sampler"] = type(self.batch_sampler).__name__
        return settings | {"num_workers": self.num_workers, "prefetch": self.prefetch}

    def _handed_out(self, epoch: _Epoch, waited: float) -> None:
        if self._is_current(epoch):
            self._position += 1
            self.wait_seconds += waited

    def _finished(self, epoch: _Epoch) -> None:
        if self._is_current(epoch):
            self._position, self._seed = 0, None  # a state taken now starts the next epoch
            if not self._keeps_workers:
                self.close()

    def _is_current(self, epoch: _Epoch) -> bool:
        return self._epoch is not None and self._epoch() is epoch

    def _samples(self) -> int | None:
        return len(self.dataset) if hasattr(self.dataset, "__len__") else None

    def _batches(self) -> int | None:
        """How many an epoch has by its sampler; None of a stream and of an endless order."""
        try:
            return len(self.batch_sampler)
        except TypeError:
            return None

    def _choose_samplers(self, shuffle: bool, sampler: Any, batch_sampler: Any) -> tuple[Any, Any]:
        _check_sampling(self.dataset, self.batch_size, self.drop_last, shuffle, sampler, batch_sampler)
        data: Any = self.dataset
        if isinstance(data, IterableDataset) or batch_sampler is not None:
            return None, batch_sampler
        if sampler is None:
            sampler = RandomSampler(data) if shuffle else SequentialSampler(data)
        return sampler, BatchSampler(sampler, self.batch_size, self.drop_last)

    def _ready_pool(self) -> Pool:
        """The last epoch's pool, emptied, or a new one while that epoch is still being read."""
        if self._pool is None or self._pool.closed or self._being_read():
            self._pool = self._new_pool()
        else:
            self._pool.reset()
        return self._pool

    def _being_read(self) -> bool:
        """Whether somebody holds the last epoch, and it has not ended."""
        epoch = self._epoch() if self._epoch is not None else None
        return epoch is not None and not epoch.ended

    def _new_pool(self) -> Pool:
        fetcher = replace(self._fetcher)  # a stream's position is the pool's own
        if self.num_workers:
            depth = max(self.prefetch, self.num_workers)
            setup = (self._init, self._method, self._seed or 0)
            return ProcessPool(fetcher, self.num_workers, depth, self.timeout, *setup)
        return ThreadPool(fetcher) if self.prefetch else InlinePool(fetcher)

    def _index_batches(self, seed: int, start: int) -> Iterator[Indices | range]:
        """The sample numbers of each batch from number `start` on."""
        if self.batch_sampler is None:
            return (range(n * self.batch_size, (n + 1) * self.batch_size) for n in count(start))
        return islice(_drawn_from(stream(seed, ORDER), self._checked_batches()), start, None)

    def _checked_batches(self) -> Iterator[Indices]:
        for indices in self.batch_sampler:
            yield as_indices(indices, len(self.dataset), "DataLoader")


class _Epoch:
    """One pass over the loader's batches. As with a generator, an exception ends it."""

    def __init__(self, loader: DataLoader, pool: Pool, first: Task) -> None:
        self._loader, self._pool, self._next_task = loader, pool, first
        self._indices = loader._index_batches(first.seed, first.number)
        self._depth = max(loader.prefetch, loader.num_workers, 1)
        self._under_way = 0
        self.ended = False
        self._submit_ahead()

    def __iter__(self) -> _Epoch:
        return self

    def __next__(self) -> Any:
        if self.ended:
            raise StopIteration
        if not self._under_way:
            self._finish()
        started = time.perf_counter()
        batch = self._take()
        self._loader._handed_out(self, time.perf_counter() - started)
        return to_tensors(batch)

    def _take(self) -> Any:
        try:
            batch = self._pool.take()
            if isinstance(batch, EndOfStream):
                self._finish()
            self._under_way -= 1
            self._submit_ahead()  # now, so that it is prepared while the loop computes
            return batch
        except BaseException:
            self.ended = True
            raise

    def _submit_ahead(self) -> None:
        while self._under_way < self._depth and (indices := next(self._indices, None)) is not None:
            self._pool.submit(self._next_task._replace(indices=indices))
            self._next_task = self._next_task._replace(number=self._next_task.number + 1)
            self._under_way += 1

    def _finish(self) -> NoReturn:
        self.ended = True
        self._loader._finished(self)
        raise StopIteration


def _drawn_from(rng: np.random.Generator, items: Iterator[Any]) -> Iterator[Any]:
    """`items`, each computed while `tt_data.dataloader.seeding.generator()` is `rng`."""
    while True:
        with drawing_from(rng):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def _check_state(state: dict[str, Any], batches: int | None) -> None:
    epoch, position, seed = (state.get(name, -1) for name in ("epoch", "position", "seed"))
    numbers = all(type(value) is int and value >= 0 for value in (epoch, position, 0 if seed is None else seed))
    if not numbers or (batches is not None and position > batches):
        raise ArgumentError(f"DataLoader: the state is damaged (epoch {epoch}, position {position}, seed {seed})")


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ArgumentError(f"DataLoader: {name} must be a whole number >= 0, got {value!r}")
    return int(value)


def _batches_ahead(num_workers: int, prefetch: Any, factor: Any) -> int:
    """How many batches are under way in all, from PyTorch's number for each worker or from ours."""
    if prefetch is not None and factor is not None:
        raise ArgumentError(
            "DataLoader: give prefetch (batches in all) or prefetch_factor (batches per worker), not both"
        )
    if factor is not None and not num_workers:
        raise ArgumentError("DataLoader: prefetch_factor counts batches per worker; give num_workers, or prefetch")
    if prefetch is not None:
        return _count("prefetch", prefetch)
    return num_workers * (2 if factor is None else _count("prefetch_factor", factor))


def _check_timeout(seconds: Any) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise ArgumentError(f"DataLoader: timeout is in seconds, >= 0 (0: wait for ever), got {seconds!r}")
    return seconds


def _check_method(method: Any) -> str | None:
    known = multiprocessing.get_all_start_methods()
    if method is not None and method not in known:
        raise ArgumentError(f"DataLoader: multiprocessing_context is one of {', '.join(known)}, got {method!r}")
    return method


def _check_sampling(
    dataset: Any, batch_size: int, drop_last: bool, shuffle: bool, sampler: object, batch_sampler: object
) -> None:
    if isinstance(dataset, IterableDataset):
        if shuffle or sampler is not None or batch_sampler is not None:
            raise ArgumentError("DataLoader: an IterableDataset gives its own order; leave out shuffle and samplers")
        return
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise DTypeError(f"DataLoader: {type(dataset).__name__} is no dataset; it needs __len__ and __getitem__")
    if sampler is not None and shuffle:
        raise ArgumentError("DataLoader: a sampler gives the order; leave out shuffle")
    if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
        raise ArgumentError(
            "DataLoader: a batch_sampler makes the batches; leave out batch_size, shuffle, sampler, drop_last"
        )
