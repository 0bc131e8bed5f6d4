"""Random numbers for loading data: a batch gets the same numbers in whichever process it is prepared.

Part of module 08, dataloader. A `DataLoader` draws one seed per epoch from the framework's generator. The seed decides
the order of the samples, and with the number 7 the augmentation of batch 7. So neither depends on the number of workers
or on the batch at which an earlier run stopped.

While a batch is prepared, `tt_core.generator()` is the generator of the batch. A dataset, collate function or transform
that draws from it gets the same numbers with any number of workers. `random` and `np.random` have one state per
process. A worker seeds them for each batch; without workers the loader leaves them alone, so seed them yourself. A loop
that draws from them while a prefetch thread also does cannot be repeated.
"""

# ruff: noqa: NPY002  (the legacy generator is what user code draws from)
from __future__ import annotations

import random
from typing import Any

import numpy as np

from tt_core.engine.errors import DTypeError
from tt_core.random import Generator, drawing_from, generator

__all__ = [
    "ORDER",
    "GlobalState",
    "check_generator",
    "draw_seed",
    "drawing_from",
    "generator",
    "seed_globals",
    "stream",
]

ORDER = 0  # the stream of an epoch's seed for sampling; batch n draws from stream n + 1


def check_generator(rng: Any, who: str) -> np.random.Generator | None:
    """`rng`; raises `DTypeError` unless it is a NumPy generator or None. A seed would restart at each use.

    >>> check_generator(None, "DataLoader") is None
    True
    """
    if isinstance(rng, Generator):
        return rng.numpy
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise DTypeError(f"{who}: generator is a np.random.Generator, got {rng!r}; give np.random.default_rng(seed)")
    return rng


def stream(seed: int, number: int) -> np.random.Generator:
    """Stream `number` of an epoch: independent streams from one seed (NumPy's SeedSequence).

    >>> stream(1, 2).random() == stream(1, 2).random() != stream(1, 3).random()
    True
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, number])))


def draw_seed(rng: np.random.Generator | None = None) -> int:
    """The seed of one epoch, drawn from `rng` or the framework's generator; 63 bits fit JSON and int64."""
    return int((rng or generator()).integers(0, 2**63 - 1))


def seed_globals(seed: int, number: int) -> None:
    """Seeds `random` and `np.random` in a worker process, for code that draws from them.

    >>> before = GlobalState()
    >>> seed_globals(1, 2)
    >>> first = random.random(), np.random.random()
    >>> seed_globals(1, 2)
    >>> first == (random.random(), np.random.random())
    True
    >>> before.restore()
    """
    random.seed(seed << 64 | number)
    np.random.seed([seed >> 32, seed & 0xFFFFFFFF, number])


class GlobalState:
    """The current state of `random` and `np.random`, for `restore`."""

    def __init__(self) -> None:
        self._python, self._numpy = random.getstate(), np.random.get_state()

    def restore(self) -> None:
        """Set both to this state."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
