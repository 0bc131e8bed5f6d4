"""Random numbers for loading data: the same batch gets the same ones, whichever process prepares it.

Part of module 08 (Act III). A `DataLoader` draws one seed an epoch from the framework's generator. The order
of the samples comes from that seed, and the augmentation of batch 7 from that seed and the number 7, so
neither depends on how many workers there are or where an earlier run was stopped.

A dataset, collate function or transform that wants chance asks `generator()` here. It does not own a
generator: outside a loader it hands out the framework's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

import tt_core.random
from tt_core.errors import DTypeError

_current: ContextVar[np.random.Generator | None] = ContextVar("tt_data_generator", default=None)

ORDER = 0  # stream of an epoch's seed that sampling draws from; batch n draws from stream n + 1


def generator() -> np.random.Generator:
    """The generator of the batch being prepared; outside a loader, the framework's one generator.

    >>> generator() is tt_core.random.generator()
    True
    """
    return _current.get() or tt_core.random.generator()


@contextmanager
def drawing_from(rng: np.random.Generator) -> Iterator[None]:
    """Within the block, `generator()` is `rng`, in this thread alone.

    >>> with drawing_from(np.random.default_rng(0)):
    ...     first = generator().random()
    >>> first == np.random.default_rng(0).random()
    True
    """
    token = _current.set(rng)
    try:
        yield
    finally:
        _current.reset(token)


def check_generator(rng: Any, who: str) -> np.random.Generator | None:
    """`rng` if it is a NumPy generator or None, else `DTypeError`: a seed alone would start anew at each use.

    >>> check_generator(None, "DataLoader") is None
    True
    """
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise DTypeError(f"{who}: generator is a np.random.Generator, got {rng!r}; give np.random.default_rng(seed)")
    return rng


def stream(seed: int, number: int) -> np.random.Generator:
    """Generator number `number` of an epoch: independent streams from one seed (NumPy's SeedSequence).

    >>> stream(1, 2).random() == stream(1, 2).random() != stream(1, 3).random()
    True
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, number])))


def draw_seed(rng: np.random.Generator | None = None) -> int:
    """One epoch's seed, 63 bits so that JSON and int64 hold it, drawn from `rng` or the framework's generator."""
    return int((rng or tt_core.random.generator()).integers(0, 2**63 - 1))
