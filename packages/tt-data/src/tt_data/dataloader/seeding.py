"""Random numbers for loading data: the same batch gets the same ones, whichever process prepares it.

Part of module 08 (Act III). A `DataLoader` draws one seed per epoch from the framework's generator. The order of the
samples comes from that seed, and the augmentation of batch 7 from that seed and the number 7, so neither depends on the
number of workers or on where an earlier run was stopped.

While a batch is prepared, `tt_core.generator()` is that batch's generator. A dataset, collate function or transform
that draws from it gets the same numbers with any number of workers. `random` and `np.random` keep one state per
process: a worker seeds them for each batch, and without workers they remain yours. Seed them yourself there; a loop
that draws from them while a prefetch thread does so too cannot be repeated.
"""

# ruff: noqa: NPY002  (the legacy generator is what user code draws from)
from __future__ import annotations

import random
from typing import Any

import numpy as np

from tt_core.engine.errors import DTypeError
from tt_core.random import drawing_from, generator

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

ORDER = 0  # stream of an epoch's seed that sampling draws from; batch n draws from stream n + 1


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
    return int((rng or generator()).integers(0, 2**63 - 1))


def seed_globals(seed: int, number: int) -> None:
    """Seed `random` and `np.random`, for code that draws from them: for worker processes, which own this state.

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
    """The state of `random` and `np.random` now, which `restore` brings back."""

    def __init__(self) -> None:
        self._python, self._numpy = random.getstate(), np.random.get_state()

    def restore(self) -> None:
        """Set both to this state."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
