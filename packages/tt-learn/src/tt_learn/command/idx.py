"""Reading IDX files, the format of MNIST (LeCun, http://yann.lecun.com/exdb/mnist/), plain or gzipped.

Stands beside module 07, whose milestone reads MNIST; Act III's datasets read with it too. A file's header is checked
against what the file can hold before anything is allocated; a gzip file is unpacked no further than its header
promises.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tt_core.engine.errors import FileError

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DEFLATE = 1032  # deflate shrinks nothing further (zlib's technical notes)
MAX_BYTES = 1 << 31  # unpacked; the largest IDX files about, EMNIST's, have 0.6 GB


def read_idx(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> npt.NDArray[Any]:
    """The array in an IDX file, in the machine's byte order; a name ending in `.gz` is unpacked.

    Raises `FileError` naming the file when it is foreign, truncated, has bytes left over, or unpacks to more
    than `max_bytes`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
    >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    >>> read_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    path = Path(path)
    try:
        stored = path.stat().st_size
        zipped = path.suffix == ".gz"
        with gzip.open(path, "rb") if zipped else open(path, "rb") as file:
            return _read(path, file, min(max_bytes, stored * _MAX_DEFLATE if zipped else stored))
    except FileNotFoundError:
        raise FileError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FileError(f"{path}: is damaged or no gzip file ({error})") from None
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path}: cannot be read ({error.strerror or error})") from None


def _read(path: Path, file: Any, limit: int) -> npt.NDArray[Any]:
    dtype, shape = _read_header(path, file)
    size = math.prod(shape) * dtype.itemsize
    if size > limit:
        raise FileError(f"{path}: header promises {size:,} bytes of shape {shape}, the file can hold at most {limit:,}")
    data = bytearray(size)
    if _read_fully(file, data) < size:
        raise FileError(f"{path}: ends before its {size:,} bytes of shape {shape}; it was cut short")
    if file.read(1):
        raise FileError(f"{path}: goes on after its {size:,} bytes of shape {shape}; it is damaged")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read_header(path: Path, file: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or magic[3] == 0:
        raise FileError(f"{path}: is no IDX file (it begins with {magic.hex(' ') or 'nothing'})")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise FileError(f"{path}: ends within its header; it was cut short")
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    if len(shape) > 32:
        raise FileError(f"{path}: is no IDX file (it claims {len(shape)} dimensions)")
    return np.dtype(_DTYPES[magic[2]]), shape


def _read_fully(file: Any, target: bytearray) -> int:
    view, done = memoryview(target), 0
    while done < len(target) and (got := file.readinto(view[done : done + (1 << 20)])):
        done += got
    return done
