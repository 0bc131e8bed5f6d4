"""When was an array last changed in place?

Whoever keeps an array for later (autograd does) must notice that somebody wrote into it meanwhile. Each change
moves one clock on and notes the time under the array's owner, since a view shares memory with its base. Keeping
costs nothing but reading the clock; asking is a dictionary look-up. An owner is known by `id`, which may be used
again after it is freed: harmless, since what is kept later than a noted change never compares as older.
"""

from __future__ import annotations

import numpy as np

_clock = 0
_changed: dict[int, int] = {}


def now() -> int:
    """The number of in-place changes so far."""
    return _clock


def record(array: np.ndarray) -> None:
    """Note that `array`, and so all that shares its memory, is being changed now."""
    global _clock
    _clock += 1
    _changed[id(owner(array))] = _clock


def changed_since(array: np.ndarray, moment: int) -> bool:
    """Whether `array`, or memory it shares, was changed after the clock stood at `moment`.

    >>> array, moment = np.zeros(3), now()
    >>> record(array[1:])
    >>> changed_since(array, moment)
    True
    """
    return _clock > moment and _changed.get(id(owner(array)), 0) > moment


def owner(array: np.ndarray) -> np.ndarray:
    """The array whose memory `array` is a view of; itself where it is none.

    >>> array = np.zeros(3)
    >>> owner(array[1:]) is array
    True
    """
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
