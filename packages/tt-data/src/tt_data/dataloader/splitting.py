"""Module 08, dataloader: parts of a dataset, by index (`Subset`) or at random (`random_split`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.errors import ArgumentError
from tt_core.random import Generator
from tt_data.dataloader import seeding
from tt_data.dataloader.checks import check_generator
from tt_data.dataloader.dataset import Dataset, fetch
from tt_data.dataloader.indices import Indices, as_indices, wrap_index


class Subset(Dataset):
    """The samples of `dataset` at `indices`, in that order.

    Raises `OutOfRangeError` for an index outside the dataset.

    >>> from tt_data.dataloader import TensorDataset
    >>> len(Subset(TensorDataset(np.arange(9)), [1, 3]))
    2
    """

    @checked
    def __init__(self, dataset: Dataset | Sequence[Any], indices: Sequence[int] | Indices) -> None:
        self.dataset = dataset
        self.indices = as_indices(indices, len(dataset), "Subset")

    def __len__(self) -> int:
        return len(self.indices)

    def _contents(self) -> str:
        return f" of {self.dataset!r}"

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[wrap_index(index, len(self), "Subset")])]

    def __getitems__(self, indices: Indices) -> Any:
        return fetch(self.dataset, self.indices[indices])


@checked
def random_split(
    dataset: Dataset | Sequence[Any],
    lengths: Sequence[float],
    generator: np.random.Generator | Generator | None = None,
) -> list[Subset]:
    """Splits `dataset` at random into disjoint parts of `lengths` samples, or of these fractions if they sum to 1.

    Fractions are rounded down, and the remaining samples go to the first parts, one each. Raises `ArgumentError` when
    the lengths do not sum to the length of the dataset.

    >>> from tt_data.dataloader import TensorDataset
    >>> [len(part) for part in random_split(TensorDataset(np.arange(10)), [0.75, 0.25])]
    [8, 2]
    """
    sizes = _split_sizes(len(dataset), list(lengths))
    order = (check_generator(generator, "random_split") or seeding.generator()).permutation(len(dataset))
    return [Subset(dataset, part) for part in np.split(order, np.cumsum(sizes)[:-1])]


def _split_sizes(total: int, lengths: list[float]) -> list[int]:
    if not lengths or min(lengths) < 0:
        raise ArgumentError(f"random_split: lengths must be >= 0 and at least one, got {lengths}")
    if math.isclose(sum(lengths), 1):
        sizes = [math.floor(total * fraction) for fraction in lengths]
        for i in range(total - sum(sizes)):
            sizes[i % len(sizes)] += 1
        return sizes
    if sum(lengths) != total or any(length != int(length) for length in lengths):
        raise ArgumentError(
            f"random_split: lengths {lengths} sum to {sum(lengths)}, the dataset has {total} samples; "
            f"give sizes that sum to {total} or fractions that sum to 1"
        )
    return [int(length) for length in lengths]
