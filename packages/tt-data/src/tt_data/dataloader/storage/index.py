"""The index of a sharded dataset: `index.json`, which names each field, and each file with its size and checksum.

Part of module 08, dataloader.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tt_core.engine.errors import FileError

INDEX = "index.json"
_FORMAT, _VERSION = "tinytorch-shards", 1
_MAX_INDEX = 1 << 26  # bytes; a million shards need less

Fields = tuple[npt.NDArray[Any], ...]
"""One array for each field; the first dimension is the batch."""


@dataclass(frozen=True)
class Field:
    """One field of each sample: its name, dtype and shape."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


@dataclass(frozen=True)
class Shard:
    """`count` samples: for each field a file, its size and its sha256."""

    count: int
    files: tuple[tuple[Path, int, str], ...]


def index_content(fields: tuple[Field, ...], shards: list[Shard]) -> dict[str, Any]:
    """The content of `index.json`."""
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "fields": [{"name": f.name, "dtype": f.dtype.str, "shape": list(f.shape)} for f in fields],
        "shards": [
            {
                "count": shard.count,
                "files": [{"name": p.name, "bytes": n, "sha256": h} for p, n, h in shard.files],
            }
            for shard in shards
        ],
    }


def read_index(folder: Path) -> tuple[tuple[Field, ...], tuple[Shard, ...]]:
    """The fields and shards of a folder; raises `FileError` for a missing or damaged index, and for missing files."""
    path = folder / INDEX
    try:
        if path.stat().st_size > _MAX_INDEX:
            raise FileError(f"{path}: is too large for an index")
        content = json.loads(path.read_bytes())
        if (content["format"], content["version"]) != (_FORMAT, _VERSION):
            raise FileError(f"{path}: is {content['format']} version {content['version']}, not {_FORMAT} {_VERSION}")
        fields = tuple(_read_field(entry) for entry in content["fields"])
        shards = tuple(_read_shard(folder, entry, fields) for entry in content["shards"])
    except FileNotFoundError:
        raise FileError(f"{path}: no such file; write one with write_shards or `tt data shard`") from None
    except FileError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError, OSError) as error:
        raise FileError(f"{path}: is not the index of a sharded dataset ({one_line(error)})") from None
    return fields, shards


def _read_field(entry: dict[str, Any]) -> Field:
    dtype, shape = np.dtype(str(entry["dtype"])), tuple(entry["shape"])
    if dtype.kind not in "fiub" or any(type(size) is not int or not 0 <= size < 1 << 40 for size in shape):
        raise ValueError(f"field {entry['name']!r} has dtype {dtype} and shape {shape}")
    return Field(str(entry["name"]), dtype, shape)


def _read_shard(folder: Path, entry: dict[str, Any], fields: tuple[Field, ...]) -> Shard:
    count, files = entry["count"], entry["files"]
    if type(count) is not int or count < 1 or len(files) != len(fields):
        raise ValueError(f"a shard of {count!r} samples has {len(files)} files for {len(fields)} fields")
    return Shard(count, tuple(_read_file_entry(folder, file, field, count) for file, field in zip(files, fields)))


def _read_file_entry(folder: Path, entry: dict[str, Any], field: Field, count: int) -> tuple[Path, int, str]:
    name, size, sha256 = entry["name"], entry["bytes"], entry["sha256"]
    path = folder / name
    if path.name != name or path.parent != folder:
        raise ValueError(f"file name {name!r} leaves the folder")
    if not path.is_file():
        raise FileError(f"{path}: is missing")
    actual = path.stat().st_size
    if actual != size or actual < count * field.row_bytes:  # checked before an array of that size is allocated
        raise FileError(f"{path}: has {actual} bytes, {INDEX} says {size} for {count} samples; it is damaged")
    return path, size, str(sha256)


def one_line(error: Exception) -> str:
    """The first line of an error's message."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
