"""Part of module 07: trees of tensors, numbers and text as JSON, which refers to the tensors by name; and checksums."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

import tt_core
from tt_core.engine.dispatch import Array
from tt_core.tensor import as_array
from tt_learn.training.errors import CheckpointError
from tt_learn.training.sharing import SharedArrays
from tt_learn.training.tensor_files import Arrays

_TENSOR = "$tensor"


def pack(value: object, name: str, arrays: SharedArrays) -> Any:
    """`value` as JSON; arrays move to `arrays` and are replaced by their names."""
    if isinstance(value, (tt_core.Tensor, np.ndarray)):
        if name in arrays:
            raise CheckpointError(f"save_checkpoint: two tensors are both called {name}")
        return {_TENSOR: arrays.keep(name, as_array(value, what=f"save_checkpoint: {name}"))}
    if isinstance(value, Mapping):
        if _TENSOR in value:
            raise CheckpointError(f"save_checkpoint: {name} has a key {_TENSOR}, which is reserved for tensors")
        packed = {str(key): pack(entry, f"{name}.{key}", arrays) for key, entry in value.items()}
        if len(packed) < len(value):
            raise CheckpointError(f"save_checkpoint: {name} has keys that are equal as text, such as 1 and '1'")
        return packed
    if isinstance(value, (list, tuple)):
        return [pack(entry, f"{name}.{i}", arrays) for i, entry in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CheckpointError(f"save_checkpoint: {name} is a {type(value).__name__}, which a checkpoint cannot hold")


def unpack(value: object, arrays: Arrays) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_TENSOR}:
            return arrays[value[_TENSOR]]
        return {key: unpack(entry, arrays) for key, entry in value.items()}
    return [unpack(entry, arrays) for entry in value] if isinstance(value, list) else value


def checksum(data: Array | bytes) -> str:
    """CRC-32: detects damage, not manipulation."""
    return f"{zlib.crc32(np.ascontiguousarray(data).data if isinstance(data, np.ndarray) else data):08x}"
