"""Reading CIFAR-10's files (Krizhevsky 2009): the binary version, and the "python version", which is pickles.

Beside module 08, dataloader. This is the only file in the project that imports `pickle`, because the published files
are pickles. A pickle is a program. The interpreter here knows only instructions that build bytes, numbers, lists,
tuples and dicts. It resolves three names, all of NumPy's arrays, to stand-ins in this file. So nothing outside this
file is called, and nothing larger than the file is built.
"""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tt_core.engine.arguments import checked
from tt_core.engine.errors import FileError
from tt_data.datasets.reading import reading

Bytes = npt.NDArray[np.uint8]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_PIXELS = 3 * 32 * 32
_MAX_BYTES = 1 << 26  # a batch of 10,000 images has 31 MB
_DTYPES = ("u1", "i1", "i2", "i4", "i8", "f4", "f8")

# The instructions that Python 2 wrote with protocol 2, and no others: none imports, or allocates a stated size.
_OPCODES = (
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.GLOBAL, pickle.REDUCE, pickle.BUILD),
    *(pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2),
    *(pickle.LONG1, pickle.BINFLOAT, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.BINUNICODE),
    *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET),
)


class _DType:
    """Replaces numpy.dtype(code, align, copy): keeps the code of a dtype of numbers."""

    def __init__(self, code: Any, *_: Any) -> None:
        name = code.decode("ascii", "replace") if isinstance(code, bytes) else code
        if name not in _DTYPES:
            raise pickle.UnpicklingError(f"dtype {name!r} is not allowed")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        if state[1] in (b">", ">"):
            self.dtype = self.dtype.newbyteorder(">")


class _Array:
    """Replaces numpy.ndarray: builds the array from its state, and takes its size from the data."""

    array: npt.NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not (isinstance(dtype, _DType) and isinstance(data, bytes) and isinstance(shape, tuple)):
            raise pickle.UnpicklingError("an array must have a shape, a dtype and bytes")
        self.array = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if fortran else "C")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
}


class _Unpickler(pickle._Unpickler):  # the class in Python, whose instructions are a dict
    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES}  # noqa: RUF012

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return _ALLOWED[module, name]


def read_pickled(path: str | os.PathLike[str]) -> dict[bytes, Any]:
    """The dict in a file of CIFAR-10's "python version"; strings are bytes, arrays are arrays.

    Raises `FileError` with the name of a file that has anything but plain containers and arrays of numbers.
    """
    path = Path(path)
    content = _read_bytes(path)
    try:
        loaded = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(loaded, dict):
            raise pickle.UnpicklingError(f"it is a {type(loaded).__name__}, not a dict")
        return {key: value.array if isinstance(value, _Array) else value for key, value in loaded.items()}
    except Exception as error:  # a damaged pickle raises many types: KeyError for an instruction, IndexError, ...
        detail = f"instruction {error} is not allowed" if isinstance(error, KeyError) else error
        raise FileError(f"{path}: is not a CIFAR-10 file, or is damaged ({detail})") from None


@checked
def read_cifar_batch(path: str | os.PathLike[str]) -> tuple[Bytes, Bytes]:
    """Images (N, 3, 32, 32) and labels (N,), both uint8, of one file of the "python version"."""
    content = read_pickled(path)
    data, labels = content.get(b"data"), content.get(b"labels")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _PIXELS:
        raise FileError(f"{path}: is not a CIFAR-10 batch; its data must be bytes of shape (images, {_PIXELS})")
    if not isinstance(labels, list) or len(labels) != len(data):
        given = len(labels) if isinstance(labels, list) else "no"
        raise FileError(f"{path}: has {len(data)} images and {given} labels; it is damaged")
    if any(type(label) is not int or not 0 <= label < len(CLASSES) for label in labels):
        raise FileError(f"{path}: has labels outside 0 ... {len(CLASSES) - 1}; it is damaged or of another dataset")
    return data.reshape(-1, 3, 32, 32), np.array(labels, np.uint8)


@checked
def read_cifar_binary(path: str | os.PathLike[str]) -> tuple[Bytes, Bytes]:
    """Images (N, 3, 32, 32) and labels (N,), both uint8, of one file of the "binary version"."""
    content = np.frombuffer(_read_bytes(Path(path)), np.uint8)
    if not content.size or content.size % (1 + _PIXELS):
        raise FileError(
            f"{path}: is not a CIFAR-10 binary file; {content.size} bytes are not a multiple of {1 + _PIXELS}"
        )
    records = content.reshape(-1, 1 + _PIXELS)
    labels = records[:, 0].copy()
    if labels.max() >= len(CLASSES):
        raise FileError(
            f"{path}: has label {labels.max()}, expected 0 ... {len(CLASSES) - 1}; it is damaged or of another dataset"
        )
    return records[:, 1:].reshape(-1, 3, 32, 32), labels


def _read_bytes(path: Path) -> bytes:
    with reading(path):
        if path.stat().st_size > _MAX_BYTES:
            raise FileError(f"{path}: has {path.stat().st_size:,} bytes, a CIFAR-10 batch at most {_MAX_BYTES:,}")
        return path.read_bytes()
