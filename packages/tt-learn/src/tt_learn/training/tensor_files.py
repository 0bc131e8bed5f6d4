"""Part of module 07: tensors by name in a `.safetensors` file, which is written completely or not at all.

Other programs read and write these files too, so everything that comes out of one is checked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import safetensors
import safetensors.numpy

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.files import write_atomic
from tt_core.tensor import as_array
from tt_learn.training.errors import CheckpointError

Arrays = dict[str, Array]

_DTYPES = {"bool", "float16", "float32", "float64", *(f"{kind}int{n}" for kind in ("", "u") for n in (8, 16, 32, 64))}


@checked
def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors or arrays by name to a `.safetensors` file, completely or not at all.

    Raises `FileError` if the file cannot be written, which leaves the old file intact, `DTypeError` for values that are
    not tensors or arrays, and `CheckpointError` for a dtype that the format lacks (longdouble) and for names and
    metadata that are not text.

    >>> import tempfile
    >>> import tt_core
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
        if _is_pickled(path):
            fact = "is a file of torch.save, which may hold code and is not read"
            remedy = "write it in PyTorch with safetensors.torch.save_file(model.state_dict(), path)"
            raise CheckpointError(f"{path}: {fact}; {remedy}") from None
        raise CheckpointError(f"{path}: is not a safetensors file, or is damaged ({_line(error)})") from None


def _is_pickled(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as those of `torch.save`: a zip file with a pickle in it, or a pickle."""
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError:
        return False
    return (start.startswith(b"PK\x03\x04") and b"data.pkl" in start) or start.startswith((b"\x80\x02", b"\x80\x04"))


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


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
