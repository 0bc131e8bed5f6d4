"""Module 01, tensor: the ops that choose elements by an index, and how an index of PyTorch's becomes one of NumPy's."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.dispatch import Array, HasArray, op
from tt_core.tensor.dtypes import half_in_float32

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


# --- indices


def is_basic_index(index: Any) -> bool:
    """Whether `index` takes each element at most once, so that NumPy returns a view.

    >>> is_basic_index((0, slice(None), ...)), is_basic_index([0, 1])
    (True, False)
    """
    parts = index if isinstance(index, tuple) else (index,)
    return builtins.all(
        part is None or part is ... or (isinstance(part, (slice, int, np.integer)) and not isinstance(part, bool))
        for part in parts
    )


def plain_index(index: Any) -> Any:
    """An index with arrays in place of its tensors.

    As in PyTorch, uint8 is a mask, and an integer tensor without dimensions is an integer, which gives a view.

    >>> plain_index((np.array(1), slice(2)))
    (1, slice(None, 2, None))
    """
    if isinstance(index, tuple):
        return tuple(plain_index(part) for part in index)
    if isinstance(index, list):
        return [plain_index(part) for part in index]  # a copy, which the caller cannot change
    index = index.data if isinstance(index, HasArray) else index
    if isinstance(index, np.ndarray):
        if index.dtype == np.uint8:
            return index != 0
        if not index.ndim and index.dtype.kind in "iu":
            return int(index)
    return index


def steps_of(index: Any, ndim: int) -> list[Any]:
    """Indices to apply one after the other for PyTorch's order of dimensions.

    NumPy counts an integer as one more index array, and if a slice stands between two of these, it puts their dimension
    in front: of x (2, 3, 4), `x[0, :, [1, 2]]` is (2, 3) in NumPy and (3, 2) here. So integers are applied first.

    >>> steps_of((0, slice(None), [1, 2]), 3)
    [(0, slice(None, None, None), slice(None, None, None)), (slice(None, None, None), [1, 2])]
    """
    if not isinstance(index, tuple) or len(index) < 3 or is_basic_index(index):
        return [index]
    index = _without_idle_ellipsis(index, ndim)
    taking = [i for i, part in enumerate(index) if not (part is None or part is ... or isinstance(part, slice))]
    integers = [i for i in taking if np.ndim(index[i]) == 0 and not isinstance(index[i], (bool, np.bool_))]
    if not integers or taking == list(range(taking[0], taking[-1] + 1)):
        return [index]
    first: list[Any] = []
    for i, part in enumerate(index):
        first += [int(part)] if i in integers else [slice(None)] * _covers(part) if i in taking else [part]
    rest = [part if i in taking or part is ... else slice(None) for i, part in enumerate(index) if i not in integers]
    return [tuple(first), tuple(rest)]


def _without_idle_ellipsis(index: tuple[Any, ...], ndim: int) -> tuple[Any, ...]:
    """Leaves `...` out if it stands for no dimension: NumPy counts it between index arrays all the same."""
    covered = sum(_covers(part) for part in index if not (part is None or part is ...))
    return tuple([part for part in index if part is not ... or covered < ndim])


def _covers(part: Any) -> int:
    """How many dimensions a part of an index stands for: a mask for each of its own."""
    part = np.asarray(part)
    return part.ndim if part.dtype == np.bool_ else 1


def write_at(data: Array, index: Any, value: Any) -> None:
    """`data[index] = value`, with PyTorch's order of dimensions."""
    *views, last = steps_of(plain_index(index), data.ndim)
    for step in views:
        data = data[step]
    data[last] = _without_leading_ones(value.data if isinstance(value, HasArray) else value, data, last)


def _without_leading_ones(value: Any, data: Array, index: Any) -> Any:
    """`value` with as many dimensions as its place: (1,) fits a single element, as in PyTorch."""
    if not np.ndim(value) or not is_basic_index(index):
        return value
    value, place = np.asarray(value), data[index]
    extra = value.ndim - np.ndim(place)
    return value.reshape(value.shape[extra:]) if extra > 0 and value.shape[:extra] == (1,) * extra else value
