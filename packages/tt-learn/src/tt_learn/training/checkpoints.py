"""Part of module 07: everything that a run needs to go on, in one file that is either whole or not there.

A checkpoint is one `.safetensors` file. Its arrays are the tensors of all parts, by dotted name, so that any reader of
that format sees the weights under `model.`; its metadata holds one JSON text, `tinytorch`, with everything else.
It is written through `tt_core.engine.files.write_atomic` (one temporary file, one rename), so a kill at any moment
leaves the old checkpoint or the new one. Nothing in it is ever executed. (Recomputing activations instead of storing
them is `tt_learn.checkpoint`, another thing of the same name.)
"""

from __future__ import annotations

import json
import os
import platform
import zlib
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import safetensors
import safetensors.numpy

import tt_core
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.files import write_atomic
from tt_core.engine.threads import thread_count
from tt_core.tensor import as_array
from tt_learn.__about__ import __version__

FORMAT = 1
_KEY, _KEY_SUM = "tinytorch", "tinytorch.crc32"
_TENSOR = "$tensor"
_DTYPES = {"bool", "float16", "float32", "float64", *(f"{kind}int{n}" for kind in ("", "u") for n in (8, 16, 32, 64))}
Arrays = dict[str, Array]


class CheckpointError(TinyTorchError):
    """A checkpoint that is damaged, of another kind, or does not fit."""


@checked
def save_checkpoint(path: str | os.PathLike[str], /, **parts: Any) -> None:
    """Write `parts` to `path`, with the framework's generator and the versions and thread count it ran with.

    Each part is an object with `state_dict()` (model, optimizer, scheduler, loader) or plain data: tensors, arrays,
    numbers, strings, None, lists and dicts of these. Raises `FileError`, the old file intact, when it cannot be
    written, and `CheckpointError` for data that it cannot hold and for a part called `environment`, the name under
    which `load_checkpoint` returns versions and threads.

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
    arrays: Arrays = {}
    try:
        tree = {name: _pack(_state_of(part), name, arrays) for name, part in parts.items()}
    except RecursionError:
        raise CheckpointError("save_checkpoint: a part holds itself, or is nested too deep to be written") from None
    document = {
        "format": FORMAT,
        "parts": tree,
        "generator": tt_core.get_rng_state(),
        "environment": environment(),
        "crc32": {name: _sum(array) for name, array in arrays.items()},
    }
    text = json.dumps(document)
    save_tensors(path, arrays, {_KEY: text, _KEY_SUM: _sum(text.encode())})


@checked
def load_checkpoint(path: str | os.PathLike[str], /, generator: bool = True, **parts: Any) -> dict[str, Any]:
    """Read `path`, hand each of `parts` its state through `load_state_dict`, and return all that was saved.

    The generator is restored unless told otherwise. Everything is read and checked first: names, sizes, shapes and
    sums. Raises `CheckpointError` for a missing, damaged or foreign file, and what a part raises for a state that
    does not fit; parts before that one have been loaded by then.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "last.safetensors")
    >>> save_checkpoint(path, model=tt_core.Linear(1, 1), losses=[0.5, 0.25])
    >>> load_checkpoint(path, model=tt_core.Linear(1, 1))["losses"]
    [0.5, 0.25]
    """
    document, tree = read_checkpoint(path)
    for name, part in parts.items():
        if name not in tree:
            raise CheckpointError(f"{path}: holds no {name}; it has {', '.join(tree) or 'nothing'}")
        part.load_state_dict(tree[name])
    if generator:
        tt_core.set_rng_state(document["generator"])
    return {**tree, "environment": document["environment"]}


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON document of a checkpoint and its parts, with arrays in their places; changes nothing.

    Raises `CheckpointError` for a missing, damaged or foreign file, and for one of another format.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "last.safetensors")
    >>> save_checkpoint(path, scale=np.ones(2, "float32"))
    >>> read_checkpoint(path)[1]
    {'scale': array([1., 1.], dtype=float32)}
    """
    arrays, metadata = load_tensors(path)
    if _KEY not in metadata:
        raise CheckpointError(f"{path}: holds tensors, but is no checkpoint of a training run")
    if metadata.get(_KEY_SUM) != _sum(metadata[_KEY].encode()):
        raise CheckpointError(f"{path}: its description is not what was saved; the file is damaged")
    document = json.loads(metadata[_KEY])
    if document["format"] != FORMAT:
        raise CheckpointError(f"{path}: has checkpoint format {document['format']}, this version reads {FORMAT}")
    for name, expected in document["crc32"].items():
        if name not in arrays or _sum(arrays[name]) != expected:
            raise CheckpointError(f"{path}: {name} is not what was saved; the file is damaged")
    return document, {name: _unpack(part, arrays) for name, part in document["parts"].items()}


@checked
def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors or arrays by name to a `.safetensors` file, whole or not at all.

    Raises `FileError`, the old file intact, when it cannot be written, `DTypeError` for what is no tensor or array, and
    `CheckpointError` for a dtype that the format lacks (longdouble), and for names and metadata that are no text.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> save_tensors(path, tt_core.Linear(3, 2).state_dict())
    >>> {name: array.shape for name, array in load_tensors(path)[0].items()}
    {'bias': (2,), 'weight': (2, 3)}
    """
    given = {_checked_name(name): as_array(tensor) for name, tensor in tensors.items()}
    for name, array in given.items():
        if array.dtype.name not in _DTYPES:
            raise CheckpointError(f"{path}: {name} is {array.dtype}, which the format lacks; convert it to float64")
    _check_metadata(path, metadata or {})
    # safetensors 0.8.0 writes the memory of an array that is not C-contiguous as if it were, without an error
    arrays = {name: array if array.flags.c_contiguous else array.copy("C") for name, array in given.items()}
    write_atomic(path, safetensors.numpy.save(arrays, dict(metadata or {})))


def _checked_name(name: Any) -> str:
    """`name`, or a `CheckpointError` where the format cannot hold it."""
    if not isinstance(name, str) or name == "__metadata__" or not _is_unicode(name):
        raise CheckpointError(f"save_tensors: a tensor's name is text other than __metadata__, got {name!r}")
    return name


def _check_metadata(path: Any, metadata: Mapping[Any, Any]) -> None:
    for name, text in metadata.items():
        if not (isinstance(name, str) and isinstance(text, str) and _is_unicode(name + text)):
            raise CheckpointError(f"{path}: metadata is text by name, got {name!r}: {text!r}; convert it with str()")


def _is_unicode(text: str) -> bool:
    return text.encode("utf-8", "ignore").decode("utf-8") == text  # half a surrogate pair is none


@checked
def load_tensors(path: str | os.PathLike[str]) -> tuple[Arrays, dict[str, str]]:
    """The arrays of a `.safetensors` file by name, and its metadata; bfloat16, which NumPy lacks, becomes float32.

    The library checks shapes against the file's size before anything is allocated. Raises `CheckpointError` for a
    missing, damaged or foreign file, and for one that holds float8 or another dtype that NumPy lacks.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "scale.safetensors")
    >>> save_tensors(path, {"scale": np.ones(2, "float32")}, {"unit": "m"})
    >>> load_tensors(path)
    ({'scale': array([1., 1.], dtype=float32)}, {'unit': 'm'})
    """
    if not os.path.isfile(path):  # unlike Path.is_file, also False for a name that is too long
        what = "is a folder; name a file in it" if os.path.isdir(path) else "there is no such file"
        raise CheckpointError(f"{path}: {what}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: _read(path, file, name) for name in sorted(file.keys())}, file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: is no safetensors file, or a damaged one ({_line(error)})") from None


def _read(path: str | os.PathLike[str], file: Any, name: str) -> Array:
    """One tensor of an open file, whose header the library has checked."""
    dtype = file.get_slice(name).get_dtype()
    if dtype == "BF16":  # the upper half of a float32
        with open(path, "rb") as raw:
            size = int.from_bytes(raw.read(8), "little")
            entry = json.loads(raw.read(size))[name]
            begin, end = entry["data_offsets"]
            raw.seek(8 + size + begin)
            halves = np.frombuffer(raw.read(end - begin), "<u2").reshape(entry["shape"])
        return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype.startswith(("F8_", "F6_")) or dtype == "F4":
        raise CheckpointError(f"{path}: {name} is {dtype}, which NumPy lacks; convert the file to float32 or bfloat16")
    return cast(Array, file.get_tensor(name))


def _sum(data: Any) -> str:
    """CRC-32, against bits that rot; no protection against intent."""
    return f"{zlib.crc32(np.ascontiguousarray(data).data if isinstance(data, np.ndarray) else data):08x}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


# --- trees of data as arrays and JSON


def _state_of(part: Any) -> Any:
    return part.state_dict() if hasattr(part, "state_dict") else part


def _pack(value: Any, name: str, arrays: Arrays) -> Any:
    """`value` as JSON; its arrays go to `arrays` and leave their names."""
    if isinstance(value, (tt_core.Tensor, np.ndarray)):
        if name in arrays:
            raise CheckpointError(f"save_checkpoint: two tensors are both called {name}")
        arrays[name] = as_array(value, what=f"save_checkpoint: {name}")
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        if _TENSOR in value:
            raise CheckpointError(f"save_checkpoint: {name} has a key {_TENSOR}, which stands for a tensor here")
        packed = {str(key): _pack(entry, f"{name}.{key}", arrays) for key, entry in value.items()}
        if len(packed) < len(value):
            raise CheckpointError(f"save_checkpoint: {name} has keys that are the same as text, such as 1 and '1'")
        return packed
    if isinstance(value, (list, tuple)):
        return [_pack(entry, f"{name}.{i}", arrays) for i, entry in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CheckpointError(f"save_checkpoint: {name} is a {type(value).__name__}, which a checkpoint cannot hold")


def _unpack(value: Any, arrays: Arrays) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_TENSOR}:
            return arrays[value[_TENSOR]]
        return {key: _unpack(entry, arrays) for key, entry in value.items()}
    return [_unpack(entry, arrays) for entry in value] if isinstance(value, list) else value


# --- what else decides the bits


def environment() -> dict[str, Any]:
    """What the bits of a run depend on beside its own state: versions, machine, and threads (products are summed
    in another order with another number of threads).

    >>> list(environment())
    ['tt_core', 'tt_learn', 'numpy', 'python', 'machine', 'system', 'threads']
    """
    return {
        "tt_core": tt_core.__version__,
        "tt_learn": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": thread_count(),
    }


def environment_changes(saved: Mapping[str, Any]) -> list[str]:
    """What differs here from the environment that a checkpoint was saved in, as `threads 2 -> 4`.

    >>> environment_changes({**environment(), "machine": "abacus"})[0].startswith("machine abacus -> ")
    True
    """
    return [f"{name} {saved.get(name)} -> {here}" for name, here in environment().items() if saved.get(name) != here]
