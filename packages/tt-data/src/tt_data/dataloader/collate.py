"""From samples to a batch, and from a batch of arrays to a batch of tensors.

Part of module 08, dataloader. A batch is an array, or tuples, lists and dicts of arrays. Transforms and workers handle
arrays; `to_tensors` runs once, in the main process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import tt_core
from tt_core.engine.errors import ArgumentError, DTypeError, ShapeError, shown

_PYTHON_NUMBERS = {float, int, bool}
_NUMERIC = "fiub"  # kinds of dtype that become tensors; strings and dates stay arrays


def default_collate(samples: Sequence[Any]) -> Any:
    """Stack samples along a new first dimension, field by field.

    Arrays and tensors of shape (...) give (batch, ...); Python floats, also mixed with ints, give float32, ints
    int64; tuples and dicts are collated by field; strings stay a list. Raises `ShapeError` when samples differ in shape
    or structure, `DTypeError` for objects that are not arrays or numbers. PyTorch's function makes floats float64.

    >>> default_collate([(np.ones(2), 3), (np.zeros(2), 4)])
    (array([[1., 1.],
           [0., 0.]]), array([3, 4]))
    """
    if not isinstance(samples, (list, tuple, np.ndarray)):
        raise DTypeError(f"collate: samples is a list, got {shown(samples)}")
    if not len(samples):
        raise ArgumentError("collate: got no samples; a batch needs at least one")
    first = samples[0]  # the others have the same structure, which is checked next
    _check_alike(samples)
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        return rebuild(first, [default_collate(column) for column in zip(*samples, strict=True)])
    if isinstance(first, (str, bytes)):
        return list(samples)
    return _stack(samples)


def map_leaves(function: Callable[[Any], Any], batch: Any) -> Any:
    """Applies `function` to every leaf of nested tuples, lists and dicts, and keeps the structure.

    >>> map_leaves(len, {"a": ["xy", "z"]})
    {'a': [2, 1]}
    """
    if isinstance(batch, Mapping):
        return {key: map_leaves(function, value) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return rebuild(batch, [map_leaves(function, value) for value in batch])
    return function(batch)


def to_arrays(batch: Any) -> Any:
    """Replaces each tensor of a batch by its array; raises for a tensor with history, which would be lost."""
    return map_leaves(lambda leaf: leaf.__array__() if isinstance(leaf, tt_core.Tensor) else leaf, batch)


def to_tensors(batch: Any) -> Any:
    """Replaces each numeric array of a batch by a tensor that shares its memory."""
    return map_leaves(_to_tensor, batch)


def _to_tensor(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in _NUMERIC:
        return tt_core.from_numpy(leaf)
    return leaf


def rebuild(like: Any, values: list[Any]) -> Any:
    """`values` as a tuple, named tuple or list like `like`."""
    if hasattr(like, "_fields"):  # a named tuple takes its fields as arguments
        return type(like)(*values)
    return tuple(values) if isinstance(like, tuple) else values


def _stack(samples: Sequence[Any]) -> npt.NDArray[Any]:
    arrays = [_leaf_array(sample) for sample in samples]
    for i, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ShapeError(
                f"collate: sample {i} of the batch has shape {array.shape}, sample 0 has {arrays[0].shape}; "
                "give them one shape in the dataset, or pass a collate_fn"
            )
    return np.stack(arrays, dtype=_common_dtype(samples), casting="unsafe")


def _common_dtype(samples: Sequence[Any]) -> Any:
    """The dtype of a batch with Python numbers: that of floats among arrays, or float32 if a number is a float.

    None leaves the choice to NumPy.
    """
    kinds = set(map(type, samples))
    if not kinds & _PYTHON_NUMBERS:
        return None
    if kinds <= _PYTHON_NUMBERS:
        return np.float32 if float in kinds else None
    arrays = np.result_type(*[_leaf_array(x).dtype for x in samples if type(x) not in _PYTHON_NUMBERS])
    if arrays.kind == "f":
        return arrays
    return np.float32 if float in kinds else None


def _leaf_array(sample: Any) -> npt.NDArray[Any]:
    if isinstance(sample, tt_core.Tensor):
        return sample.__array__()  # unlike `data`, raises for a tensor with history
    array = np.asarray(sample)
    if array.dtype == object:
        raise DTypeError(
            f"collate: cannot batch {type(sample).__name__}; return numbers or arrays, or pass a collate_fn"
        )
    return array


def _check_alike(samples: Sequence[Any]) -> None:
    """Raise `ShapeError` unless all samples have the same fields; `zip` would drop the surplus fields."""
    kind = _structure(samples[0])
    for i, sample in enumerate(samples):
        if _structure(sample) != kind:
            raise ShapeError(
                f"collate: sample {i} of the batch is {_describe(sample)}, "
                f"sample 0 is {_describe(samples[0])}; "
                "every sample needs the same fields"
            )


def _structure(sample: Any) -> Any:
    if isinstance(sample, Mapping):
        return set(sample)
    if isinstance(sample, (tuple, list)):
        return len(sample)
    return str if isinstance(sample, (str, bytes)) else None


def _describe(sample: Any) -> str:
    if isinstance(sample, Mapping):
        return f"a dict of {sorted(map(str, sample))}"
    if isinstance(sample, (tuple, list)):
        return f"a {type(sample).__name__} of {len(sample)}"
    return f"a {type(sample).__name__}"
