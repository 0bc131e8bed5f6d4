"""Part of module 07: `save` and `load` as in PyTorch, for state dicts and data.

The file is a checkpoint (`checkpoints.py`): it holds tensors, numbers, text, lists and dictionaries, but no code.
Files of PyTorch are pickles and cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

import tt_core
from tt_core.engine.dispatch import wrap
from tt_learn.training.checkpoints import CheckpointError, load_tensors, read_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from tt_core.engine.hints import DeviceLike

_WHOLE = "saved object"
"""The name of the part for an object that is not a dictionary."""


def save(obj: object, f: str | os.PathLike[str]) -> None:
    """Writes a state dict, or a tree of dictionaries, lists, tensors, numbers and text, to the file `f`.

    Keys become text. Raises `CheckpointError` for anything else, including a model: save its `state_dict()`.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.pt")
    >>> save({"model": tt_core.Linear(2, 1).state_dict(), "epoch": 3}, path)
    >>> load(path)["epoch"], sorted(load(path)["model"])
    (3, ['bias', 'weight'])
    """
    if hasattr(obj, "state_dict"):
        name = type(obj).__name__
        raise CheckpointError(f"save: a file holds no code, so it cannot hold a {name}; save its state_dict()")
    if not isinstance(f, (str, os.PathLike)):
        raise CheckpointError(f"save: takes the path of a file, got {type(f).__name__}")
    parts = {str(name): part for name, part in obj.items()} if isinstance(obj, Mapping) else {_WHOLE: obj}
    save_checkpoint(f, **parts)


def load(f: str | os.PathLike[str], map_location: DeviceLike | None = None, *, weights_only: bool = True) -> Any:
    """Returns what `save` wrote, or the tensors of any `.safetensors` file by name.

    Raises `CheckpointError` for a missing, damaged or foreign file, `DeviceError` for a `map_location` other than the
    CPU.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "losses.pt")
    >>> save([tt_core.ones(2), 0.5], path)
    >>> load(path)
    [tensor([1., 1.]), 0.5]
    """
    tt_core.engine.devices.check(map_location)
    if not isinstance(f, (str, os.PathLike)):
        raise CheckpointError(f"load: takes the path of a file, got {type(f).__name__}")
    arrays, metadata = load_tensors(f)
    parts = read_checkpoint(f)[1] if "tinytorch" in metadata else arrays
    return _tensors(parts[_WHOLE] if parts.keys() == {_WHOLE} else parts)


def _tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _tensors(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_tensors(part) for part in value]
    return wrap(value.copy()) if isinstance(value, np.ndarray) else value
