"""Module 01, tensor: sizes and numbers of repeats as users write them."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.dispatch import HasArray
from tt_core.engine.errors import DTypeError, ShapeError, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tt_core.engine.protocols import Array
    from tt_core.tensor.tensor import Tensor


def as_size(name: str, given: tuple[Any, ...]) -> tuple[int, ...]:
    """The size that was given to `name`, as integers: `x.view(2, 3)` and `x.view((2, 3))` mean the same.

    Raises `DTypeError` for anything but integers.

    >>> as_size("view", ((2, 3),))
    (2, 3)
    """
    sizes = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    try:
        return tuple([operator.index(n) for n in sizes])
    except TypeError:
        raise DTypeError(f"{name}: takes integers, got {', '.join(map(shown, sizes))}") from None


def new_size(name: str, given: tuple[Any, ...]) -> tuple[int, ...]:
    """The size of a new tensor that was given to `name`; raises `ShapeError` for a negative one, else as `as_size`.

    >>> new_size("zeros", (2, 3))
    (2, 3)
    """
    size = as_size(name, given)
    if size and min(size) < 0:
        raise ShapeError(f"{name}: sizes are 0 or more, got {min(size)}")
    return size


def repeats_of(repeats: int | Tensor | Array | Sequence[int]) -> Any:
    """`repeats` as an array; raises `DTypeError` unless it holds integers.

    >>> repeats_of([1, 2])
    array([1, 2])
    """
    counts = np.asarray(repeats.data if isinstance(repeats, HasArray) else repeats)
    if counts.dtype.kind not in "iu":
        raise DTypeError(f"repeat_interleave: repeats must hold integers, got {counts.dtype}")
    return counts
