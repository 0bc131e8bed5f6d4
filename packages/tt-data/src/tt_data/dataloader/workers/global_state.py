"""Module 08, dataloader: the state of `random` and `np.random`, which code of users draws from.

Each process has one state of both. A worker seeds them for each batch. Without workers the loader leaves them alone, so
seed them yourself. A loop that draws from them while a prefetch thread also does cannot be repeated.
"""

# ruff: noqa: NPY002  (the legacy generator is what code of users draws from)
from __future__ import annotations

import random

import numpy as np


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
