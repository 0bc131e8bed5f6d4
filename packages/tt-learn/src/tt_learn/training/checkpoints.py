"""Part of module 07: everything that a run needs to continue, in one file that is either complete or absent.

`snapshot` and `restore` say what that is. A checkpoint is one `.safetensors` file. Its arrays are the tensors of all
parts under dotted names, so other readers of the format find the weights under `model.`; one that has several names is
stored under the first. Its metadata holds everything else as one JSON text, `tinytorch`. The file is written by
`tt_core.engine.files.write_atomic` (a temporary file and a rename), so a process that is killed at any moment leaves
the old checkpoint or the new one. Nothing in a file is ever executed. (`tt_learn.checkpoint` is something else: it
recomputes activations instead of storing them.)

`tensor_files.py` reads and writes the files, `packing.py` separates tensors from other data, and `environments.py` says
what the bits depend on besides.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import tt_core
from tt_core.engine.arguments import checked
from tt_learn.training.environments import environment as environment
from tt_learn.training.environments import environment_changes as environment_changes
from tt_learn.training.errors import CheckpointError as CheckpointError
from tt_learn.training.packing import checksum, pack, unpack
from tt_learn.training.sharing import SharedArrays
from tt_learn.training.tensor_files import Arrays as Arrays
from tt_learn.training.tensor_files import load_tensors as load_tensors
from tt_learn.training.tensor_files import save_tensors as save_tensors

FORMAT = 1
_KEY, _KEY_SUM = "tinytorch", "tinytorch.crc32"


def snapshot(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a run needs to continue with the same bits: the state of each part, and of the generator.

    A part is an object with `state_dict()` or plain data. Weights alone are not enough: Adam's running means, the step
    of the schedule and the generator, from which dropout and shuffling draw, decide about the next step too.

    >>> sorted(snapshot({"model": tt_core.Linear(1, 1), "step": 3})["parts"]["model"])
    ['bias', 'weight']
    """
    # the bits of a run depend on these states alone, so gradients and batches need not be saved
    states = {name: part.state_dict() if hasattr(part, "state_dict") else part for name, part in parts.items()}
    return {"parts": states, "generator": tt_core.get_rng_state()}


def restore(saved: Mapping[str, Any], parts: Mapping[str, Any], generator: bool = True) -> None:
    """Gives each of `parts` its saved state, and then sets the generator unless `generator` is False.

    >>> model = tt_core.Linear(1, 1)
    >>> saved = snapshot({"model": model})
    >>> first = tt_core.rand(1)
    >>> restore(saved, {"model": model})
    >>> bool(tt_core.rand(1) == first)
    True
    """
    for name, part in parts.items():
        part.load_state_dict(saved["parts"][name])
    # last, because a part may draw random numbers while it loads its state
    if generator:
        tt_core.set_rng_state(saved["generator"])


@checked
def save_checkpoint(path: str | os.PathLike[str], /, **parts: Any) -> None:
    """Writes `parts` to `path`, with the state of the generator and the versions and thread count of this process.

    Each part is an object with `state_dict()` (model, optimizer, scheduler, loader) or plain data: tensors, arrays,
    numbers, strings, None, and lists and dictionaries of these. Raises `FileError` if the file cannot be written, which
    leaves the old file intact, and `CheckpointError` for data that a file cannot hold and for a part called
    `environment`, the name under which `load_checkpoint` returns versions and threads.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "last.safetensors")
    >>> model = tt_core.Linear(3, 2)
    >>> save_checkpoint(path, model=model, step=10)
    >>> load_checkpoint(path, model=model)["step"]
    10
    """
    if "environment" in parts:
        raise CheckpointError(
            "save_checkpoint: a part cannot be called environment, where load_checkpoint returns versions and threads; "
            "choose another name"
        )
    arrays = SharedArrays()  # what `pack` takes out of the states: JSON would store each number as text
    saved = snapshot(parts)
    try:
        tree = {name: pack(state, name, arrays) for name, state in saved["parts"].items()}
    except RecursionError:
        raise CheckpointError("save_checkpoint: a part contains itself, or is nested too deeply") from None
    document = {
        "format": FORMAT,
        "parts": tree,
        "generator": saved["generator"],
        "environment": environment(),
        "crc32": {name: checksum(array) for name, array in arrays.items()},
    }
    text = json.dumps(document)
    save_tensors(path, arrays, {_KEY: text, _KEY_SUM: checksum(text.encode())})


@checked
def load_checkpoint(path: str | os.PathLike[str], /, generator: bool = True, **parts: Any) -> dict[str, Any]:
    """Reads `path`, restores each of `parts` through `load_state_dict`, and returns everything that was saved.

    The generator is restored unless `generator` is False. Names, sizes, shapes and checksums are checked before
    anything changes. Raises `CheckpointError` for a missing, damaged or foreign file, and the error of a part whose
    state does not fit; parts before it are restored by then.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "last.safetensors")
    >>> save_checkpoint(path, model=tt_core.Linear(1, 1), losses=[0.5, 0.25])
    >>> load_checkpoint(path, model=tt_core.Linear(1, 1))["losses"]
    [0.5, 0.25]
    """
    document, tree = read_checkpoint(path)
    for name in parts:
        if name not in tree:
            raise CheckpointError(f"{path}: holds no {name}; it has {', '.join(tree) or 'nothing'}")
    restore({"parts": tree, "generator": document["generator"]}, parts, generator)
    return {**tree, "environment": document["environment"]}


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the JSON document of a checkpoint and its parts with their arrays; changes nothing.

    Raises `CheckpointError` for a missing, damaged or foreign file, and for an unknown format number.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "last.safetensors")
    >>> save_checkpoint(path, scale=tt_core.ones(2))
    >>> read_checkpoint(path)[1]
    {'scale': array([1., 1.], dtype=float32)}
    """
    # everything is checked before `restore` changes a model, so a damaged file leaves it as it was
    arrays, metadata = load_tensors(path)
    if _KEY not in metadata:
        raise CheckpointError(f"{path}: holds tensors, but is not a checkpoint of a training run")
    if metadata.get(_KEY_SUM) != checksum(metadata[_KEY].encode()):
        raise CheckpointError(f"{path}: the description differs from what was saved; the file is damaged")
    document = json.loads(metadata[_KEY])
    if document["format"] != FORMAT:
        raise CheckpointError(f"{path}: has checkpoint format {document['format']}, this version reads {FORMAT}")
    for name, expected in document["crc32"].items():
        if name not in arrays or checksum(arrays[name]) != expected:
            raise CheckpointError(f"{path}: {name} differs from what was saved; the file is damaged")
    return document, {name: unpack(part, arrays) for name, part in document["parts"].items()}
