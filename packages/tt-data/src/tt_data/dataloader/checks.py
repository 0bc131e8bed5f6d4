"""Module 08, dataloader: checks of the arguments of `DataLoader` and of the samplers."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tt_core.engine.errors import ArgumentError, DTypeError, is_integer
from tt_core.random import Generator
from tt_data.dataloader.dataset import IterableDataset


def check_same_data(state: dict[str, Any], batch_size: int, samples: int | None) -> None:
    """Raise `ArgumentError` unless `state` was saved with this batch size and number of samples."""
    for name, here in (("batch_size", batch_size), ("samples", samples)):
        if state.get(name) != here:
            raise ArgumentError(
                f"DataLoader: the state was saved with {name} {state.get(name)}, this loader has {here}; "
                "an epoch can only continue with the same data and batch size"
            )


def check_state(state: dict[str, Any], batches: int | None) -> None:
    """Raise `ArgumentError` for a state that is not one of a loader with this number of batches."""
    epoch, position, seed = (state.get(name, -1) for name in ("epoch", "position", "seed"))
    numbers = all(type(value) is int and value >= 0 for value in (epoch, position, 0 if seed is None else seed))
    if not numbers or (batches is not None and position > batches):
        raise ArgumentError(f"DataLoader: the state is damaged (epoch {epoch}, position {position}, seed {seed})")


def natural(name: str, value: object) -> int:
    """`value` as an integer; raises `ArgumentError` unless it is one and >= 0."""
    if isinstance(value, bool) or not is_integer(value, least=0):
        raise ArgumentError(f"DataLoader: {name} must be an integer >= 0, got {value!r}")
    return int(value)


def batches_ahead(num_workers: int, prefetch: object, factor: object) -> int:
    """The number of batches in preparation, from PyTorch's number for each worker or from `prefetch`."""
    if prefetch is not None and factor is not None:
        raise ArgumentError(
            "DataLoader: give prefetch (batches in all) or prefetch_factor (batches per worker), not both"
        )
    if factor is not None and not num_workers:
        raise ArgumentError("DataLoader: prefetch_factor counts batches per worker; give num_workers, or prefetch")
    if prefetch is not None:
        return natural("prefetch", prefetch)
    return num_workers * (2 if factor is None else natural("prefetch_factor", factor))


def check_timeout(seconds: object) -> float:
    """`seconds`; raises `ArgumentError` unless it is a number >= 0."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise ArgumentError(f"DataLoader: timeout must be seconds >= 0 (0: no limit), got {seconds!r}")
    return seconds


def check_method(method: object) -> str | None:
    """`method`; raises `ArgumentError` unless it is None or a start method of this system."""
    known = multiprocessing.get_all_start_methods()
    if method is not None and method not in known:
        raise ArgumentError(f"DataLoader: multiprocessing_context is one of {', '.join(known)}, got {method!r}")
    return method


def check_dataset(dataset: object) -> None:
    """Raise `DTypeError` for a dictionary whose values cannot be addressed by 0, 1, ..."""
    if isinstance(dataset, Mapping) and dataset and 0 not in dataset:
        given = "a dictionary whose keys are not 0, 1, ..."
        raise DTypeError(f"DataLoader: dataset is {given}; pass list(dataset.values()) or a Dataset")


def check_sampling(
    dataset: object, batch_size: int, drop_last: bool, shuffle: bool, sampler: object, batch_sampler: object
) -> None:
    """Raise `ArgumentError` for arguments that contradict each other, `DTypeError` for anything but a dataset."""
    if isinstance(dataset, IterableDataset):
        if shuffle or sampler is not None or batch_sampler is not None:
            raise ArgumentError("DataLoader: an IterableDataset has its own order; omit shuffle and samplers")
        return
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise DTypeError(f"DataLoader: {type(dataset).__name__} is not a dataset; define __len__ and __getitem__")
    if sampler is not None and shuffle:
        raise ArgumentError("DataLoader: a sampler defines the order; omit shuffle")
    if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
        raise ArgumentError(
            "DataLoader: a batch_sampler defines the batches; omit batch_size, shuffle, sampler, drop_last"
        )


def check_batch_size(batch_size: object) -> int:
    """`batch_size` as an integer; raises `ArgumentError` unless it is one and >= 1."""
    if isinstance(batch_size, bool) or not is_integer(batch_size, least=1):
        raise ArgumentError(f"DataLoader: batch_size must be an integer >= 1, got {batch_size!r}")
    return int(batch_size)


def check_draws(p: npt.NDArray[np.float64], num_samples: int, replacement: bool) -> None:
    """Raise `ArgumentError` unless `num_samples` samples can be drawn with the weights `p`."""
    if p.ndim != 1 or not p.size or not np.isfinite(p).all() or (p < 0).any() or not p.any():
        raise ArgumentError("WeightedRandomSampler: weights must be a flat sequence, finite, >= 0, not all zero")
    if num_samples < 1 or (not replacement and num_samples > np.count_nonzero(p)):
        raise ArgumentError(
            f"WeightedRandomSampler: cannot draw {num_samples} of {np.count_nonzero(p)} samples "
            f"with a positive weight {'with' if replacement else 'without'} replacement"
        )


def check_generator(rng: object, who: str) -> np.random.Generator | None:
    """`rng`; raises `DTypeError` unless it is a NumPy generator or None. A seed would restart at each use.

    >>> check_generator(None, "DataLoader") is None
    True
    """
    if isinstance(rng, Generator):
        return rng.numpy
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise DTypeError(f"{who}: generator is a np.random.Generator, got {rng!r}; give np.random.default_rng(seed)")
    return rng
