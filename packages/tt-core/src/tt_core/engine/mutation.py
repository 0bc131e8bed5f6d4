"""The version counter: whether an array was changed in place since a given moment.

Code that keeps an array for later, as autograd does, must notice in-place changes. Each change increments one counter
and stores it under the owner of the array's memory, because a view shares memory with its base. Keeping an array costs
one read of the counter, and the check is one dictionary lookup. An owner is identified by its `id`. Python may use this
id again after the owner is freed, which is harmless: an array kept later has a later moment than the stored change.
"""

from __future__ import annotations

import numpy as np

_clock = 0
_changed: dict[int, int] = {}


def now() -> int:
    """The number of in-place changes so far."""
    return _clock


def record(array: np.ndarray) -> None:
    """Notes a change of `array` and of all arrays that share its memory."""
    global _clock
    key = id(owner(array))
    _changed[key] = _clock + 1  # first: another thread that sees the new time must find the change
    _clock += 1  # the interpreter changes threads at calls and jumps, so no count is lost here


def changed_since(array: np.ndarray, moment: int) -> bool:
    """Whether `array`, or an array that shares its memory, was changed after `moment`, a value of `now()`.

    >>> array, moment = np.zeros(3), now()
    >>> record(array[1:])
    >>> changed_since(array, moment)
    True
    """
    return _clock > moment and _changed.get(id(owner(array)), 0) > moment


def owner(array: np.ndarray) -> np.ndarray:
    """The array that owns the memory of `array`: its base, or `array` itself if it is not a view.

    >>> array = np.zeros(3)
    >>> owner(array[1:]) is array
    True
    """
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
