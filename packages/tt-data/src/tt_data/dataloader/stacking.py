"""Module 08, dataloader: stacks the leaves of a batch into one array, and checks that samples have equal fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import tt_core
from tt_core.engine.errors import ArgumentError, DTypeError, ShapeError, shown

_PYTHON_NUMBERS = {float, int, bool}


def stack(samples: Sequence[Any]) -> npt.NDArray[Any]:
    """Numbers, arrays or tensors of one shape as an array with a new first dimension.

    Raises `ShapeError` for samples of different shapes, `DTypeError` for what is neither number nor array.

    >>> stack([0.5, 1])
    array([0.5, 1. ], dtype=float32)
    """
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


def check_samples(samples: object) -> None:
    """Raise an error unless `samples` is a sequence of at least one sample, and all have the same fields."""
    if not isinstance(samples, (list, tuple, np.ndarray)):
        raise DTypeError(f"collate: samples is a list, got {shown(samples)}")
    if not len(samples):
        raise ArgumentError("collate: got no samples; a batch needs at least one")
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
