"""Checks of the arguments of `DataLoader`. Part of module 08, dataloader."""

from __future__ import annotations

import multiprocessing
from typing import Any

from tt_core.engine.errors import ArgumentError, DTypeError, is_integer
from tt_data.dataloader.dataset import IterableDataset


def check_state(state: dict[str, Any], batches: int | None) -> None:
    """Raise `ArgumentError` for a state that is not one of a loader with this number of batches."""
    epoch, position, seed = (state.get(name, -1) for name in ("epoch", "position", "seed"))
    numbers = all(type(value) is int and value >= 0 for value in (epoch, position, 0 if seed is None else seed))
    if not numbers or (batches is not None and position > batches):
        raise ArgumentError(f"DataLoader: the state is damaged (epoch {epoch}, position {position}, seed {seed})")


def natural(name: str, value: Any) -> int:
    """`value` as an integer; raises `ArgumentError` unless it is one and >= 0."""
    if isinstance(value, bool) or not is_integer(value, least=0):
        raise ArgumentError(f"DataLoader: {name} must be an integer >= 0, got {value!r}")
    return int(value)


def batches_ahead(num_workers: int, prefetch: Any, factor: Any) -> int:
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


def check_timeout(seconds: Any) -> float:
    """`seconds`; raises `ArgumentError` unless it is a number >= 0."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise ArgumentError(f"DataLoader: timeout must be seconds >= 0 (0: no limit), got {seconds!r}")
    return seconds


def check_method(method: Any) -> str | None:
    """`method`; raises `ArgumentError` unless it is None or a start method of this system."""
    known = multiprocessing.get_all_start_methods()
    if method is not None and method not in known:
        raise ArgumentError(f"DataLoader: multiprocessing_context is one of {', '.join(known)}, got {method!r}")
    return method


def check_sampling(
    dataset: Any, batch_size: int, drop_last: bool, shuffle: bool, sampler: object, batch_sampler: object
) -> None:
    """Raise `ArgumentError` for arguments that contradict each other, `DTypeError` for a dataset that is none."""
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
