"""The random generator of the framework: initialization, dropout, shuffling and sampling draw from it.

One generator means one seed reproduces a run, and one state, stored in a checkpoint, resumes it to the bit.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine import devices
from tt_core.engine.errors import ArgumentError, DTypeError, shown

if TYPE_CHECKING:
    from tt_core.engine.hints import DeviceLike

_generator = np.random.default_rng()


class _Lent(threading.local):  # a context variable would not reach kernels, which run in a context of their own
    generator: np.random.Generator | None = None


_lent = _Lent()


def generator() -> np.random.Generator:
    """The generator that everything in the framework draws from.

    Each call returns the same one, except inside `drawing_from` (a data loader gives each batch its own).

    >>> generator() is manual_seed(0)
    True
    """
    return _lent.generator or _generator


@contextmanager
def drawing_from(rng: np.random.Generator) -> Iterator[None]:
    """Within the block, and in this thread only, `generator()` is `rng`.

    >>> with drawing_from(np.random.default_rng(0)):
    ...     first = generator().random()
    >>> first == np.random.default_rng(0).random()
    True
    """
    before, _lent.generator = _lent.generator, rng
    try:
        yield
    finally:
        _lent.generator = before


def manual_seed(seed: int) -> np.random.Generator:
    """Restarts the generator from `seed` (an integer >= 0) and returns it; raises `ArgumentError` for anything else.

    >>> manual_seed(0).random() == manual_seed(0).random()
    True
    """
    generator().bit_generator.state = _seeded(seed)
    return generator()


class Generator:
    """A separate stream of random numbers (PyTorch's `torch.Generator`), for functions that take `generator=`.

    >>> from tt_core import randn
    >>> a = randn(2, generator=Generator().manual_seed(7))
    >>> bool((a == randn(2, generator=Generator().manual_seed(7))).all())
    True
    """

    def __init__(self, device: DeviceLike = "cpu") -> None:
        devices.check(device)
        self.numpy = np.random.default_rng()

    def manual_seed(self, seed: int) -> Generator:
        """Restarts from `seed` (an integer >= 0) and returns self; raises `ArgumentError` for anything else."""
        self.numpy.bit_generator.state = _seeded(seed)
        return self

    def get_state(self) -> dict[str, Any]:
        """The state, in the form of `get_rng_state`."""
        return dict(self.numpy.bit_generator.state)

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state that `get_state` returned."""
        self.numpy.bit_generator.state = state


def source(own: Generator | None) -> np.random.Generator:
    """The generator to draw from: `own`, or the framework's if that is None.

    >>> source(None) is generator()
    True
    """
    if own is None:
        return generator()
    if not isinstance(own, Generator):
        raise DTypeError(f"generator: takes a tt_core.Generator or None, got {shown(own)}")
    return own.numpy


def _seeded(seed: int) -> Any:
    try:
        return np.random.PCG64(operator.index(seed)).state
    except (TypeError, ValueError):
        raise ArgumentError(f"manual_seed: a seed is an integer >= 0, got {seed!r}") from None


def get_rng_state() -> dict[str, Any]:
    """The generator's state, which consists of integers and strings, so that JSON can hold it.

    >>> get_rng_state()["bit_generator"]
    'PCG64'
    """
    return dict(generator().bit_generator.state)


def set_rng_state(state: dict[str, Any]) -> None:
    """Restores a state that `get_rng_state` returned; raises `ArgumentError` for anything else.

    >>> state, drawn = get_rng_state(), generator().random()
    >>> set_rng_state(state)
    >>> generator().random() == drawn
    True
    """
    try:
        generator().bit_generator.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ArgumentError(f"set_rng_state: takes what get_rng_state() gave; {error}") from None
