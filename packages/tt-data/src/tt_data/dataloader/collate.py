"""From samples to a batch, and from a batch of arrays to a batch of tensors.

Part of module 08, dataloader. A batch is an array, or tuples, lists and dicts of arrays. Transforms and workers handle
arrays; `to_tensors` runs once, in the main process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import tt_core
from tt_data.dataloader.stacking import check_samples, stack

_NUMERIC = "fiub"  # kinds of dtype that become tensors; strings and dates stay arrays


def default_collate(samples: Sequence[Any]) -> Any:
    """Stacks samples along a new first dimension, field by field.

    Arrays and tensors of shape (...) give (batch, ...). Python floats, also mixed with ints, give float32; ints give
    int64. Tuples and dicts are collated by field, and strings stay a list. Raises `ShapeError` when samples differ in
    shape or structure, `DTypeError` for objects that are not arrays or numbers. PyTorch's function makes floats
    float64.

    >>> default_collate([(np.ones(2), 3), (np.zeros(2), 4)])
    (array([[1., 1.],
           [0., 0.]]), array([3, 4]))
    """
    check_samples(samples)
    first = samples[0]  # the others have the same fields, as was checked
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        # batch samples of k fields -> k columns of batch values; strict, since zip would drop surplus fields
        return rebuild(first, [default_collate(column) for column in zip(*samples, strict=True)])
    if isinstance(first, (str, bytes)):
        return list(samples)
    return stack(samples)


def map_leaves(function: Callable[[Any], Any], batch: object) -> Any:
    """Applies `function` to every leaf of nested tuples, lists and dicts, and keeps the structure.

    >>> map_leaves(len, {"a": ["xy", "z"]})
    {'a': [2, 1]}
    """
    if isinstance(batch, Mapping):
        return {key: map_leaves(function, value) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return rebuild(batch, [map_leaves(function, value) for value in batch])
    return function(batch)


def to_arrays(batch: object) -> Any:
    """Replaces each tensor of a batch by its array; raises for a tensor with history, which would be lost."""
    return map_leaves(lambda leaf: leaf.__array__() if isinstance(leaf, tt_core.Tensor) else leaf, batch)


def to_tensors(batch: object) -> Any:
    """Replaces each numeric array of a batch by a tensor that shares its memory.

    >>> to_tensors({"x": np.zeros(2), "name": ["a", "b"]})
    {'x': tensor([0., 0.], dtype=float64), 'name': ['a', 'b']}
    """
    return map_leaves(_to_tensor, batch)


def _to_tensor(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in _NUMERIC:
        return tt_core.from_numpy(leaf)
    return leaf


def rebuild(like: object, values: list[Any]) -> Any:
    """`values` as a tuple, named tuple or list like `like`.

    >>> rebuild((1, 2), [3, 4])
    (3, 4)
    """
    if hasattr(like, "_fields"):  # a named tuple takes its fields as arguments
        return type(like)(*values)
    return tuple(values) if isinstance(like, tuple) else values
