"""Module 01, tensor: the ops that choose elements by an index. `indices.py` makes NumPy's index of PyTorch's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.dispatch import Array, op
from tt_core.tensor.dtypes import half_in_float32
from tt_core.tensor.indices import is_basic_index as is_basic_index
from tt_core.tensor.indices import plain_index as plain_index
from tt_core.tensor.indices import steps_of as steps_of
from tt_core.tensor.indices import write_at as write_at

if TYPE_CHECKING:
    from tt_core.tensor.tensor import Tensor


@op(view=True)
def getitem(x: Array, /, index: Any) -> Array:
    """`x[index]`: a view for integers, slices, None and `...`; a copy for index arrays and masks.

    Raises `OutOfRangeError` for an entry that does not exist.

    >>> getitem(np.array([[1, 2], [3, 4]]), (slice(None), 1))
    tensor([2, 4])
    """
    taken = x[index]
    if isinstance(taken, np.ndarray):
        return taken
    # a single element, which NumPy copies unless asked for an array
    return x[(*index, ...)] if isinstance(index, tuple) else x[index, ...]


@op
@half_in_float32
def add_at(x: Array, /, index: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` with `x` added at `index`, the reverse of `getitem`: an element named twice gets the sum.

    `x` has the shape of what `getitem` takes at this index. Raises `OutOfRangeError` for an entry that does not exist.

    >>> add_at(np.array([1, 2, 4]), index=[0, 0, 2], shape=(3,))
    tensor([3, 0, 4])
    """
    total = np.zeros(shape, x.dtype)
    # not total[index] += x, which writes only the last of several values for one element
    np.add.at(total, index, x)
    return total


@op
def take_along_dim(x: Array, indices: Array, /, dim: int) -> Array:
    """`x` at `indices` along `dim`; the result has the shape of `indices`.

    Raises `ShapeError` if the numbers of dimensions differ, `OutOfRangeError` for an index that does not exist.

    >>> take_along_dim(np.array([[1, 2], [3, 4]]), np.array([[1], [0]]), dim=1)
    tensor([[2],
            [3]])
    """
    return np.take_along_axis(x, indices, axis=dim)


def along_dim(indices: Array, dim: int, shape: tuple[int, ...], taken: tuple[int, ...]) -> tuple[Any, ...]:
    """The index by which `getitem` takes from an array of `shape` what `take_along_dim` takes, of shape `taken`.

    >>> np.array([[1, 2], [3, 4]])[along_dim(np.array([[1], [0]]), 1, (2, 2), (2, 1))]
    array([[2],
           [3]])
    """
    # for each dimension, the place of each taken element: arrays that broadcast to `taken`
    places: list[Any] = list(np.ogrid[tuple(slice(n) for n in taken)])
    places = [at if n > 1 else np.zeros_like(at) for at, n in zip(places, shape)]  # a size of 1 was broadcast
    places[dim] = indices
    return tuple(places)


def _rows(x: Array, index: Array, /, dim: int) -> Array:
    rows = np.take(np.atleast_1d(x), _row_numbers(x, index), axis=dim)
    return rows if x.ndim else rows.reshape(())


def _row_numbers(x: Array, index: Array) -> Array:
    """`index` with one dimension; raises an error for anything but a list of rows."""
    index = np.atleast_1d(index)
    if index.ndim > 1:
        raise ValueError("index must have one dimension")
    if index.dtype.kind not in "iu":  # a mask would count as zeros and ones
        raise TypeError(f"index must hold integers, got {index.dtype}")
    if index.size and index.min() < 0:
        raise IndexError(f"index {index.min()} is negative; entries are counted from 0")
    if not x.ndim and index.size != 1:
        raise ValueError(f"index must have one entry for a tensor without dimensions, got {index.size}")
    return index


@op(formula=_rows)
def index_select(input: Tensor | Array, dim: int, index: Tensor | Array) -> Tensor:
    """Entries of `dim` chosen by a one-dimensional `index` of integers.

    Raises `DTypeError` for an index of anything else, `OutOfRangeError` for an entry that is negative or too large.

    >>> index_select(np.array([[1, 2, 3], [4, 5, 6]]), 1, np.array([2, 0]))
    tensor([[3, 1],
            [6, 4]])
    """
    return index_select.call(input, index, dim=dim)
