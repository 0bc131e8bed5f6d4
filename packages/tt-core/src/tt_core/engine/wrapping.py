"""Which class arrays come back as: `tt_core.Tensor`, or the class that a plugin brings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from tt_core.engine.errors import shown
from tt_core.engine.plugins import manager
from tt_core.engine.protocols import HasArray

_tensor_type: type[HasArray] = HasArray
_base_tensor_type: type[HasArray] = HasArray
_new = object.__new__
_ARRAYS = (np.generic, ndarray, HasArray, int, float)


def wrap(value: object) -> Any:
    """An array as a tensor of the active type, without copying; a tuple of arrays as a tuple of tensors.

    Raises `TypeError` for what a kernel must not return: a list, None outside of a tuple.

    >>> wrap((np.zeros(2, np.float32), 1))
    (tensor([0., 0.]), tensor(1))
    """
    if type(value) is not ndarray:
        if type(value) is tuple:
            return tuple([part if part is None else wrap(part) for part in value])
        if not isinstance(value, _ARRAYS):
            raise TypeError(f"its result is {shown(value)}; a kernel returns an array or a tuple of arrays")
        value = np.asarray(value)  # mostly a NumPy scalar, from arrays without dimensions
    tensor = _new(_tensor_type)
    tensor.data = value
    return tensor


def tensor_type() -> type[Any]:
    """The class that ops and creation functions return now."""
    return _tensor_type


def set_base_tensor_type(base: type[HasArray]) -> None:
    """Sets the class for the time when no plugin brings its own."""
    global _base_tensor_type
    _base_tensor_type = base
    manager.settle(_bind)


def _bind() -> None:
    global _tensor_type
    _tensor_type = manager.answers("tt_tensor_type") or _base_tensor_type


manager.rebinders.append((_bind, {"tt_tensor_type"}))
