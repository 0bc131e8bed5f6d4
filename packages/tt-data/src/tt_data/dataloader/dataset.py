"""Module 08, dataloader: datasets. A `Dataset` returns samples by index, an `IterableDataset` is a stream.

Datasets return NumPy arrays; the loader makes tensors of whole batches. A dataset that can fetch many samples at once
defines `__getitems__(indices)`, which returns the finished batch: one array for each field, with the batch as first
dimension. This file does not know batch sizes, order or processes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError, kind_of, shown
from tt_data.dataloader.collate import default_collate
from tt_data.dataloader.indices import Indices, as_array, as_indices, wrap_index

if TYPE_CHECKING:
    from tt_core import Tensor
    from tt_core.engine.protocols import Array


class Dataset:
    """A finite collection of samples, addressed by index.

    Define `__len__` and `__getitem__(index)`; or define `__getitems__(indices)`, which returns a whole batch: a tuple
    with one array for each field.

    >>> class Squares(Dataset):
    ...     def __len__(self):
    ...         return 10
    ...
    ...     def __getitem__(self, index):
    ...         return np.float32(index**2)
    >>> Squares()[3]
    np.float32(9.0)
    """

    def __getitem__(self, index: int) -> Any:
        if not hasattr(self, "__getitems__"):
            raise NotImplementedError(f"{type(self).__name__} must define __getitem__(index)")
        batch = self.__getitems__(np.array([wrap_index(index, len(self), type(self).__name__)]))
        return tuple(array[0] for array in batch)  # (1, ...) -> (...)

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__()")

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])

    def __repr__(self) -> str:
        try:
            return f"{type(self).__name__}({len(self):,} samples{self._contents()})"
        except Exception:  # a subclass whose __init__ has not finished, or that defines no length
            return f"{type(self).__name__}()"

    def _contents(self) -> str:
        """The description of a sample in `repr`."""
        return ""


class IterableDataset:
    """A stream of samples, read from the start: define `__iter__`.

    Each worker reads the whole stream and keeps its own batches, so the order is the same for any number of workers.
    This requires that all workers read the same stream: `random`, `np.random` and `tt_core.generator()` have the same
    seed in all of them, and `get_worker_info` reports a single worker. A generator that `__iter__` seeds from the clock
    or the process id loses and repeats samples. If skipping is cheaper than reading, override `iter_from`.

    >>> class Count(IterableDataset):
    ...     def __iter__(self):
    ...         return iter(range(5))
    >>> list(Count().iter_from(3))
    [3, 4]
    """

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__()")

    def iter_from(self, start: int) -> Iterator[Any]:
        """The stream from sample `start` on; the default reads and discards the samples before."""
        return islice(iter(self), start, None)


class TensorDataset(Dataset):
    """Tensors or arrays of equal length: sample `i` is the tuple of their rows `i`.

    It fetches whole batches at once. Raises `ShapeError` when the lengths differ.

    >>> TensorDataset(np.zeros((4, 2)), np.arange(4))[3]
    (array([0., 0.]), np.int64(3))
    """

    @checked
    def __init__(self, *tensors: Tensor | Array) -> None:
        if not tensors:
            raise ArgumentError("TensorDataset: got no tensors; pass at least one, e.g. TensorDataset(images, labels)")
        self.arrays = tuple(as_array(tensor) for tensor in tensors)
        lengths = [array.shape[0] if array.ndim else None for array in self.arrays]  # None: a single number
        if lengths[0] is None or len(set(lengths)) > 1:
            shapes = ", ".join(str(array.shape) for array in self.arrays)
            raise ShapeError(f"TensorDataset: first dimensions must be equal, got shapes {shapes}")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def _contents(self) -> str:
        return ": " + ", ".join(f"{array.dtype} {array.shape[1:]}" for array in self.arrays)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Row `index` of each array, as a tuple."""
        try:
            return tuple(array[index] for array in self.arrays)
        except (IndexError, TypeError, ValueError, OverflowError) as error:
            raise (kind_of(error) or OutOfRangeError)(f"TensorDataset: index {shown(index)}: {error}") from None

    def __getitems__(self, indices: Indices) -> tuple[Any, ...]:
        # (samples, ...) -> (batch, ...): one copy by NumPy, where `default_collate` would handle each sample in Python
        return tuple(array[indices] for array in self.arrays)


class ConcatDataset(Dataset):
    """Several datasets, one after another; raises `ArgumentError` for none.

    >>> a, b = TensorDataset(np.arange(3)), TensorDataset(np.arange(10, 15))
    >>> ConcatDataset([a, b])[4]
    (np.int64(11),)
    """

    @checked
    def __init__(self, datasets: Iterable[Dataset | Sequence[Any]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ArgumentError("ConcatDataset: got no datasets; pass at least one")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise DTypeError("ConcatDataset: an IterableDataset has no length; chain the streams in one __iter__")
        # where each dataset ends, computed once: a search in it takes log(datasets) steps for each sample
        self.cumulative_sizes = list(accumulate(len(dataset) for dataset in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def _contents(self) -> str:
        return ": " + " + ".join(map(repr, self.datasets))

    def __getitem__(self, index: int) -> Any:
        """The sample of the dataset in which `index` falls; a negative index counts from the end."""
        index = wrap_index(index, len(self), "ConcatDataset")
        part = bisect_right(self.cumulative_sizes, index)  # right: a size equal to the index ends before it
        return self.datasets[part][index - self._start(part)]

    def __getitems__(self, indices: Indices) -> Any:
        indices = as_indices(indices, len(self), "ConcatDataset")
        parts = np.searchsorted(self.cumulative_sizes, indices, side="right")  # the dataset of each index
        if len(parts) and (parts == parts[0]).all():  # usual without shuffling: all indices are in one dataset
            return fetch(self.datasets[parts[0]], indices - self._start(parts[0]))
        return [self[int(index)] for index in indices]

    def _start(self, part: int) -> int:
        return self.cumulative_sizes[part - 1] if part else 0


def fetch(dataset: Dataset | Sequence[Any], indices: Indices) -> Any:
    """The samples at `indices`: a finished batch if the dataset has `__getitems__`, else a list.

    >>> fetch("abc", np.array([2, 0]))
    ['c', 'a']
    """
    fetch_many = getattr(dataset, "__getitems__", None)
    return fetch_many(indices) if fetch_many else [dataset[int(index)] for index in indices]


def fetch_batch(dataset: Dataset, indices: Indices) -> Any:
    """As `fetch`, but a list of samples is stacked into a batch."""
    samples = fetch(dataset, indices)
    return default_collate(samples) if isinstance(samples, list) else samples
