"""Module 08, dataloader: converts the indices and arrays that users give, and checks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tt_core.engine.errors import DTypeError, OutOfRangeError, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tt_core import Tensor
    from tt_core.engine.hints import TensorLike
    from tt_core.engine.protocols import Array

Indices = npt.NDArray[np.int64]


def as_array(tensor: TensorLike) -> npt.NDArray[Any]:
    """The array of a tensor, without a copy, or of anything NumPy accepts; raises for a tensor with history."""
    return np.asarray(tensor)


def as_indices(indices: Sequence[int] | Tensor | Array, length: int, who: str) -> Indices:
    """`indices` as int64, each within `length`; raises `DTypeError` or `OutOfRangeError`."""
    array = as_integers(indices, who)
    outside = array[(array < -length) | (array >= length)]
    if outside.size:
        raise OutOfRangeError(f"{who}: index {outside[0]} is outside a dataset of {length} samples")
    wide = array.astype(np.int64)  # the length may not fit the given dtype
    return np.where(wide < 0, wide + length, wide)


def as_integers(indices: Sequence[int] | Tensor | Array, who: str) -> npt.NDArray[Any]:
    """`indices` as an array of integers; raises `DTypeError` for masks, other dtypes and nested lists."""
    array = as_array(indices) if len(indices) else np.empty(0, np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DTypeError(
            f"{who}: indices must be a flat sequence of integers, got {array.dtype} of shape {array.shape}"
        )
    return array


def wrap_index(index: int, length: int, who: str) -> int:
    """A possibly negative `index` as 0 ... length - 1; raises `OutOfRangeError`, which ends a plain `for` loop."""
    if not isinstance(index, (int, np.integer)):
        raise DTypeError(f"{who}: index is an integer, got {shown(index)}")
    if not -length <= index < length:
        raise OutOfRangeError(f"{who}: index {index} is outside a dataset of {length} samples")
    return index % length
