"""Part of module 07: everything that a run needs to continue, in one file that is either complete or absent.

`snapshot` and `restore` say what that is. A checkpoint is one `.safetensors` file. Its arrays are the tensors of all
parts under dotted names, so other readers of the format find the weights under `model.`; one that has several names is
stored under the first. Its metadata holds everything else as one JSON text, `tinytorch`. The file is written by
`tt_core.engine.files.write_atomic` (a temporary file and a rename), so a process that is killed at any moment leaves
the old checkpoint or the new one. Nothing in a file is ever executed. (`tt_learn.checkpoint` is something else: it
recomputes activations instead of storing them.)
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


def snapshot(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a run needs to continue with the same bits: the state of each part, and of the generator.

    A part is an object with `state_dict()` or plain data. Weights alone are not enough: Adam's running means, the step
    of the schedule and the generator, from which dropout and shuffling draw, decide about the next step too.

    >>> sorted(snapshot({"model": tt_core.Linear(1, 1), "step": 3})["parts"]["model"])
    ['bias', 'weight']
    """
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
    arrays = _Arrays()
    saved = snapshot(parts)
    try:
        tree = {name: _pack(state, name, arrays) for name, state in saved["parts"].items()}
    except RecursionError:
        raise CheckpointError("save_checkpoint: a part contains itself, or is nested too deeply") from None
    document = {
        "format": FORMAT,
        "parts": tree,
        "generator": saved["generator"],
        "environment": environment(),
        "crc32": {name: _sum(array) for name, array in arrays.items()},
    }
    text = json.dumps(document)
    save_tensors(path, arrays, {_KEY: text, _KEY_SUM: _sum(text.encode())})


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
    >>> save_checkpoint(path, scale=np.ones(2, "float32"))
    >>> read_checkpoint(path)[1]
    {'scale': array([1., 1.], dtype=float32)}
    """
    arrays, metadata = load_tensors(path)
    if _KEY not in metadata:
        raise CheckpointError(f"{path}: holds tensors, but is not a checkpoint of a training run")
    if metadata.get(_KEY_SUM) != _sum(metadata[_KEY].encode()):
        raise CheckpointError(f"{path}: the description differs from what was saved; the file is damaged")
    document = json.loads(metadata[_KEY])
    if document["format"] != FORMAT:
        raise CheckpointError(f"{path}: has checkpoint format {document['format']}, this version reads {FORMAT}")
    for name, expected in document["crc32"].items():
        if name not in arrays or _sum(arrays[name]) != expected:
            raise CheckpointError(f"{path}: {name} differs from what was saved; the file is damaged")
    return document, {name: _unpack(part, arrays) for name, part in document["parts"].items()}


@checked
def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors or arrays by name to a `.safetensors` file, completely or not at all.

    Raises `FileError` if the file cannot be written, which leaves the old file intact, `DTypeError` for values that are
    not tensors or arrays, and `CheckpointError` for a dtype that the format lacks (longdouble) and for names and
    metadata that are not text.

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
    """`name`; raises `CheckpointError` if the format cannot hold it."""
    if not isinstance(name, str) or name == "__metadata__" or not _is_unicode(name):
        raise CheckpointError(f"save_tensors: a tensor's name is text other than __metadata__, got {name!r}")
    return name


def _check_metadata(path: Any, metadata: Mapping[Any, Any]) -> None:
    for name, text in metadata.items():
        if not (isinstance(name, str) and isinstance(text, str) and _is_unicode(name + text)):
            raise CheckpointError(f"{path}: metadata is text by name, got {name!r}: {text!r}; convert it with str()")


def _is_unicode(text: str) -> bool:
    return text.encode("utf-8", "ignore").decode("utf-8") == text  # false for half a surrogate pair


@checked
def load_tensors(path: str | os.PathLike[str]) -> tuple[Arrays, dict[str, str]]:
    """Returns the arrays of a `.safetensors` file by name, and its metadata; bfloat16 becomes float32.

    The library compares shapes with the file's size before it allocates memory. Raises `CheckpointError` for a missing,
    damaged or foreign file, and for float8 and other dtypes that NumPy lacks.

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
        raise CheckpointError(f"{path}: is not a safetensors file, or is damaged ({_line(error)})") from None


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
    """CRC-32: detects damage, not manipulation."""
    return f"{zlib.crc32(np.ascontiguousarray(data).data if isinstance(data, np.ndarray) else data):08x}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


# --- trees of data as arrays and JSON


class _Arrays(Arrays):
    """Arrays by name. One that stands under several names, as a weight that two layers share, is kept once."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[object, str] = {}

    def keep(self, name: str, array: Array) -> str:
        """Adds an array; returns its name, or that under which the same memory is here already."""
        memory = (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str)
        known = self._names.setdefault(memory, name) if array.size else name
        if known == name:
            self[name] = array  # which keeps it alive, so its address stays its own
        return known


def _pack(value: Any, name: str, arrays: _Arrays) -> Any:
    """`value` as JSON; arrays move to `arrays` and are replaced by their names."""
    if isinstance(value, (tt_core.Tensor, np.ndarray)):
        if name in arrays:
            raise CheckpointError(f"save_checkpoint: two tensors are both called {name}")
        return {_TENSOR: arrays.keep(name, as_array(value, what=f"save_checkpoint: {name}"))}
    if isinstance(value, Mapping):
        if _TENSOR in value:
            raise CheckpointError(f"save_checkpoint: {name} has a key {_TENSOR}, which is reserved for tensors")
        packed = {str(key): _pack(entry, f"{name}.{key}", arrays) for key, entry in value.items()}
        if len(packed) < len(value):
            raise CheckpointError(f"save_checkpoint: {name} has keys that are equal as text, such as 1 and '1'")
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


# --- what else the bits depend on


def environment() -> dict[str, Any]:
    """Returns what the bits of a run depend on besides its state: versions, machine and threads.

    BLAS adds up products in another order when the number of threads changes.

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
    """Returns how this environment differs from that of a checkpoint, as `threads 2 -> 4`.

    >>> environment_changes({**environment(), "machine": "abacus"})[0].startswith("machine abacus -> ")
    True
    """
    return [f"{name} {saved.get(name)} -> {here}" for name, here in environment().items() if saved.get(name) != here]
