"""Part of module 07: what the trainer needs to know about batches and the numbers measured on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from tt_learn.training.errors import TrainingError


def examples_in(batch: object) -> int:
    """The number of examples in a batch: the length of its first tensor or array, or 1 if it has none.

    >>> import numpy as np
    >>> examples_in({"id": 3, "x": np.zeros((8, 2))})
    8
    """
    return next(_lengths(batch), 1)


def _lengths(batch: Any) -> Iterator[int]:
    """The lengths of all tensors and arrays in a batch that have dimensions, in order."""
    if isinstance(batch, Mapping):
        batch = tuple(batch.values())
    elif dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        batch = tuple(vars(batch).values())
    if isinstance(batch, (tuple, list)):
        for part in batch:
            yield from _lengths(part)
    elif getattr(batch, "shape", ()):
        yield int(batch.shape[0])


def as_number(name: str, value: Any) -> float:
    """`value` as a float; raises `TrainingError` if it is not one number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        what = f"a tensor of shape {value.shape}" if hasattr(value, "shape") else f"a {type(value).__name__}"
        raise TrainingError(f"evaluate: {name} is {what}, expected one number") from None


def position_of(batches: object) -> Any:
    """The state of a loader, or None if it has none."""
    return batches.state_dict() if hasattr(batches, "state_dict") else None
