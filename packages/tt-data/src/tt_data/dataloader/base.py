"""Module 08, dataloader: the part of a loader that is not about batches: its workers, and its description.

`BaseLoader` starts the workers, keeps them for the next epoch, and ends them. `loader.py` decides what they prepare.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tt_data.dataloader.samplers import BatchSampler
from tt_data.dataloader.seeding import drawing_from
from tt_data.dataloader.workers.fetch import Collate, Fetcher, Transform
from tt_data.dataloader.workers.pools import InlinePool, Pool, ThreadPool
from tt_data.dataloader.workers.processes import ProcessPool, WorkerInit

if TYPE_CHECKING:
    from tt_data.dataloader.epoch import Epoch

Self = TypeVar("Self", bound="BaseLoader")


class BaseLoader:
    """The workers and the description of a `DataLoader`."""

    dataset: Any
    batch_size: int
    drop_last: bool
    sampler: Any
    batch_sampler: Any
    num_workers: int
    prefetch: int
    timeout: float
    _seed: int | None
    _shuffles: bool

    def _prepares_with(
        self, collate_fn: Collate | None, transform: Transform | None, init: WorkerInit | None, method: str | None
    ) -> None:
        """Notes how a batch is prepared; workers start with the first epoch."""
        self._fetcher = Fetcher(self.dataset, collate_fn, transform, self.drop_last)
        self._init, self._method = init, method
        self._pool: Pool | None = None
        self._epoch: weakref.ref[Epoch] | None = None
        self._runs: Iterator[int] = count()

    def __getstate__(self) -> dict[str, Any]:
        """The state of a copy: settings and position, without workers and the current epoch."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_pool", "_epoch", "_runs")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pool = self._epoch = None
        self._runs = count()

    def close(self) -> None:
        """Ends the workers and frees their memory. The loader can be used again and then starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def __enter__(self: Self) -> Self:
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
        """The settings that `repr` shows: the data, the batches, and their number in an epoch."""
        settings: dict[str, Any] = {"dataset": self.dataset, "batches": self._batches()}
        if type(self.batch_sampler) is BatchSampler:
            order = "shuffled" if self._shuffles else type(self.sampler).__name__
            settings |= {"batch_size": self.batch_size, "order": order, "drop_last": self.drop_last}
        else:
            settings["batch_sampler"] = type(self.batch_sampler).__name__
        return settings | {"num_workers": self.num_workers, "prefetch": self.prefetch}

    def _is_current(self, epoch: Epoch) -> bool:
        return self._epoch is not None and self._epoch() is epoch

    def _samples(self) -> int | None:
        return len(self.dataset) if hasattr(self.dataset, "__len__") else None

    def _batches(self) -> int | None:
        """The number of batches by the sampler; None for a stream and for an endless order."""
        try:
            return len(self.batch_sampler)
        except TypeError:
            return None

    def _ready_pool(self) -> Pool:
        """The pool of the last epoch, emptied, or a new one while that epoch is still being read."""
        if self._pool is None or self._pool.closed or self._being_read():
            self._pool = self._new_pool()
        else:
            try:
                self._pool.reset()
            except BaseException:  # Ctrl-C in the middle of a message
                self.close()
                raise
        return self._pool

    def _being_read(self) -> bool:
        """Whether the last epoch is still referenced and has not ended."""
        epoch = self._epoch() if self._epoch is not None else None
        return epoch is not None and not epoch.ended

    def _new_pool(self) -> Pool:
        fetcher = replace(self._fetcher)  # each pool has its own position in a stream
        if self.num_workers:
            depth = max(self.prefetch, self.num_workers)
            setup = (self._init, self._method, self._seed or 0)
            return ProcessPool(fetcher, self.num_workers, depth, self.timeout, *setup)
        return ThreadPool(fetcher) if self.prefetch else InlinePool(fetcher)


def drawn_from(rng: np.random.Generator, items: Iterator[Any]) -> Iterator[Any]:
    """`items`, each computed while `tt_core.generator()` is `rng`."""
    while True:
        with drawing_from(rng):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item
