"""The order in which samples are read, and their grouping into batches.

Part of module 08, dataloader. A sampler yields sample indices. The samplers here return them as one int64 array
(`indices`), because a permutation of a million samples should not become a million Python integers. They draw from
`tt_core.generator()`, which the loader seeds for each epoch. Samplers do not read data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.errors import ArgumentError, DTypeError, shown
from tt_data.dataloader import seeding
from tt_data.dataloader.checks import check_batch_size, check_draws
from tt_data.dataloader.indices import Indices, as_integers

if TYPE_CHECKING:
    pass


class Sampler:
    """The indices of the samples to read, in order: define `indices`, or `__iter__` for an endless order.

    >>> class EveryOther(Sampler):
    ...     def indices(self):
    ...         return np.arange(0, 10, 2)
    >>> list(EveryOther())
    [0, 2, 4, 6, 8]
    """

    def indices(self) -> Indices:
        """All sample indices of one epoch, int64 of shape (samples,)."""
        raise NotImplementedError(f"{type(self).__name__} must define indices() or __iter__()")

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices().tolist())


class SequentialSampler(Sampler):
    """0, 1, 2, ... in order.

    >>> list(SequentialSampler("abc"))
    [0, 1, 2]
    """

    @checked
    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __len__(self) -> int:
        return len(self.data_source)

    def indices(self) -> Indices:
        return np.arange(len(self), dtype=np.int64)


class RandomSampler(Sampler):
    """Every sample once in random order, or `num_samples` draws with `replacement`.

    >>> sorted(RandomSampler("abcd"))
    [0, 1, 2, 3]
    """

    @checked
    def __init__(self, data_source: Sized, replacement: bool = False, num_samples: int | None = None) -> None:
        if num_samples is not None and num_samples < 1:
            raise ArgumentError(f"RandomSampler: num_samples must be >= 1, got {num_samples}")
        self.data_source, self.replacement, self._num_samples = data_source, replacement, num_samples

    def __len__(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def indices(self) -> Indices:
        """`len(self)` indices: permutations of all of them one after another, or draws with replacement."""
        size, rng = len(self.data_source), seeding.generator()
        if self.replacement:
            return rng.integers(0, size, len(self))
        # a permutation, and not draws: within an epoch, no sample is missed and none comes twice
        rounds = -(-len(self) // size) if size else 0  # more draws than samples: whole permutations, then a part of one
        return np.concatenate([rng.permutation(size) for _ in range(rounds)] or [np.arange(0)])[: len(self)]


class SubsetRandomSampler(Sampler):
    """The given sample indices, each once, in random order.

    >>> sorted(SubsetRandomSampler([7, 3]))
    [3, 7]
    """

    @checked
    def __init__(self, indices: Sequence[int]) -> None:
        self._subset = as_integers(indices, "SubsetRandomSampler").astype(np.int64)

    def __len__(self) -> int:
        return len(self._subset)

    def indices(self) -> Indices:
        return seeding.generator().permutation(self._subset)


class WeightedRandomSampler(Sampler):
    """`num_samples` draws, sample `i` with probability proportional to `weights[i]`: for classes of unequal size.

    Raises `ArgumentError` for negative weights, and for more draws without replacement than positive weights.

    >>> set(WeightedRandomSampler([0, 1, 0], num_samples=5))
    {1}
    """

    @checked
    def __init__(self, weights: Sequence[float], num_samples: int, replacement: bool = True) -> None:
        p = np.asarray(weights, dtype=np.float64)
        check_draws(p, num_samples, replacement)
        self.weights, self.num_samples, self.replacement = p / p.sum(), num_samples, replacement

    def __len__(self) -> int:
        return self.num_samples

    def indices(self) -> Indices:
        """`num_samples` indices, each drawn with the probability of its weight."""
        return seeding.generator().choice(len(self.weights), self.num_samples, self.replacement, self.weights)


class BlockShuffleSampler(Sampler):
    """Shuffles blocks of adjacent samples, then the samples in each window of `window` blocks, for data on slow disks.

    Every sample comes once. Reads stay within `window` blocks at a time, so a disk or a `ShardedDataset` reads nearly
    in sequence (block = samples in a shard). The larger the window, the closer the order is to a full shuffle.

    >>> sorted(BlockShuffleSampler(range(10), block=4)) == list(range(10))
    True
    """

    @checked
    def __init__(self, data_source: Sized, block: int, window: int = 4) -> None:
        if block < 1 or window < 1:
            raise ArgumentError(f"BlockShuffleSampler: block and window must be >= 1, got {block} and {window}")
        self.data_source, self.block, self.window = data_source, block, window

    def __len__(self) -> int:
        return len(self.data_source)

    def indices(self) -> Indices:
        """All indices: blocks in random order, and the samples of each window of blocks mixed."""
        rng = seeding.generator()
        # first the blocks in random order: otherwise each window would hold neighbours, which may all be of one class
        starts = rng.permutation(np.arange(0, len(self), self.block))
        blocks = [np.arange(start, min(start + self.block, len(self))) for start in starts]
        # then the samples of each window of blocks, (window * block,): only these blocks are read at a time
        windows = [np.concatenate(blocks[i : i + self.window]) for i in range(0, len(blocks), self.window)]
        return np.concatenate([rng.permutation(window) for window in windows] or [np.arange(0)])


class BatchSampler:
    """Groups the indices of a sampler into batches, int64 arrays of `batch_size`; the last may be shorter.

    >>> [batch.tolist() for batch in BatchSampler(SequentialSampler("abcde"), 2, drop_last=False)]
    [[0, 1], [2, 3], [4]]
    """

    @checked
    def __init__(self, sampler: Any, batch_size: int, drop_last: bool) -> None:
        if not hasattr(sampler, "__iter__") or isinstance(sampler, (str, bytes, Mapping)):
            raise DTypeError(f"BatchSampler: sampler must yield indices, got {shown(sampler)}")
        self.sampler, self.batch_size, self.drop_last = sampler, check_batch_size(batch_size), drop_last

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size)  # rest: the samples of a last, smaller batch
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[Indices]:
        """Arrays of `batch_size` indices, and of those that are left at the end unless `drop_last`."""
        for batch in self._groups():
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def _groups(self) -> Iterator[Indices]:
        if isinstance(self.sampler, Sampler) and type(self.sampler).__iter__ is Sampler.__iter__:
            order = self.sampler.indices()  # (samples,), sliced without a Python integer for each
            yield from (order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size))
        else:
            numbers = iter(self.sampler)  # may be endless, so a batch reads only what it needs
            while batch := list(islice(numbers, self.batch_size)):
                yield np.asarray(batch)
