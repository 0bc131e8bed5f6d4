"""Module 01, tensor: how an index of PyTorch becomes one of NumPy, or several that are applied one after another."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.dispatch import Array, HasArray

if TYPE_CHECKING:
    from tt_core.engine.hints import Index, TensorLike


def is_basic_index(index: Index) -> bool:
    """Whether `index` takes each element at most once, so that NumPy returns a view.

    >>> is_basic_index((0, slice(None), ...)), is_basic_index([0, 1])
    (True, False)
    """
    parts = index if isinstance(index, tuple) else (index,)
    return builtins.all(
        part is None or part is ... or (isinstance(part, (slice, int, np.integer)) and not isinstance(part, bool))
        for part in parts
    )


def plain_index(index: Index) -> Any:
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


def steps_of(index: Index, ndim: int) -> list[Any]:
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
    """Removes a `...` that covers no dimension, because NumPy still counts it as something between index arrays."""
    covered = sum(_covers(part) for part in index if not (part is None or part is ...))
    return tuple([part for part in index if part is not ... or covered < ndim])


def _covers(part: Any) -> int:
    """The number of dimensions that a part of an index covers: 1, or for a mask as many as it has."""
    part = np.asarray(part)
    return part.ndim if part.dtype == np.bool_ else 1


def write_at(data: Array, index: Index, value: TensorLike) -> None:
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
