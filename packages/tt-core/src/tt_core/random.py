"""The one random generator of the framework: initialisation, dropout, shuffling and sampling all draw from it.

One generator means one seed reproduces a run, and one state, stored in a checkpoint, resumes it to the bit.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from tt_core.errors import ShapeError

_generator = np.random.default_rng()
_lent: ContextVar[np.random.Generator | None] = ContextVar("tt_core_generator", default=None)


def generator() -> np.random.Generator:
    """The generator that everything in the framework draws from.

    Each call returns the same one, except inside `drawing_from` (a data loader gives each batch its own).

    >>> generator() is manual_seed(0)
    True
    """
    return _lent.get() or _generator


@contextmanager
def drawing_from(rng: np.random.Generator) -> Iterator[None]:
    """Within the block, and in this thread only, `generator()` is `rng`.

    >>> with drawing_from(np.random.default_rng(0)):
    ...     first = generator().random()
    >>> first == np.random.default_rng(0).random()
    True
    """
    token = _lent.set(rng)
    try:
        yield
    finally:
        _lent.reset(token)


def manual_seed(seed: int) -> np.random.Generator:
    """Restart the generator from `seed` (any integer >= 0) and return it; raises `ShapeError` for anything else.

    >>> manual_seed(0).random() == manual_seed(0).random()
    True
    """
    try:
        generator().bit_generator.state = np.random.PCG64(operator.index(seed)).state
    except (TypeError, ValueError):
        raise ShapeError(f"manual_seed: a seed is an integer >= 0, got {seed!r}") from None
    return generator()


def get_rng_state() -> dict[str, Any]:
    """The generator's state, made of integers and strings alone, so that JSON can hold it.

    >>> get_rng_state()["bit_generator"]
    'PCG64'
    """
    return dict(generator().bit_generator.state)


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the generator back into a state that `get_rng_state` gave; raises `ShapeError` for anything else.

    >>> state, drawn = get_rng_state(), generator().random()
    >>> set_rng_state(state)
    >>> generator().random() == drawn
    True
    """
    try:
        generator().bit_generator.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ShapeError(f"set_rng_state: takes what get_rng_state() gave; {error}") from None
