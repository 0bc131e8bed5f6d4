"""Part of module 13, transformers: tensors by name from safetensors files, one file or shards with an index.

Only headers are read when a checkpoint is opened, so shapes can be checked before anything is allocated. float16 and
bfloat16 become float32. Which names a model has is in `pretrained`.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from tt_core.engine.dispatch import Array
from tt_language.errors import CheckpointError, first_few, short

_MOST_JSON = 64 << 20
_PLAIN_NAME = re.compile(r"(?!\.)[\w .-]{1,200}", re.ASCII)
"""A shard's file name: no folder, not hidden, not too long for any system."""
_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Entry:
    """The file of a tensor, its shape, and its dtype by the file's name for it."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


class Checkpoint:
    """The tensors of a folder in Hugging Face's format; raises `CheckpointError` for missing or damaged files."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.entries: dict[str, Entry] = {}
        for file in self._files():
            with _opened(file) as content:
                for name in content.keys():  # noqa: SIM118 - not a dict
                    if name in self.entries:
                        raise CheckpointError(f"{file}: {short(name)} is in {self.entries[name].file.name} too")
                    part = content.get_slice(name)
                    self.entries[name] = Entry(file, tuple(part.get_shape()), str(part.get_dtype()))

    def _files(self) -> list[Path]:
        index, single = self.folder / "model.safetensors.index.json", self.folder / "model.safetensors"
        if single.is_file():  # first, as transformers does
            return [single]
        if index.is_file():
            names = _shard_names(index)
            missing = [name for name in names if not (self.folder / name).is_file()]
            if missing:
                raise CheckpointError(
                    f"{self.folder}: {len(missing)} of {len(names)} shards are missing: {first_few(missing)}"
                )
            return [self.folder / name for name in names]
        other = sorted(path.name for path in self.folder.glob("*.bin"))
        instead = f"; {other[0]} holds pickles, which are not read; convert it to safetensors" if other else ""
        raise CheckpointError(f"{self.folder}: has no model.safetensors and no model.safetensors.index.json{instead}")

    def read(self, name: str) -> Array:
        """One tensor, floats narrower than 32 bits as float32."""
        entry = self.entries[name]
        if entry.dtype not in _FLOATS:
            raise CheckpointError(f"{entry.file}: {name} has type {entry.dtype}, expected one of {', '.join(_FLOATS)}")
        if entry.dtype == "BF16":  # NumPy lacks this type, the upper half of a float32
            return (_raw(entry.file, name).astype(np.uint32) << 16).view(np.float32).reshape(entry.shape)
        with _opened(entry.file) as content:
            array = content.get_tensor(name)
        return array.astype(np.float32) if entry.dtype == "F16" else array


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises `CheckpointError` that names the file."""
    try:
        if path.stat().st_size > _MOST_JSON:
            raise CheckpointError(f"{path}: is larger than {_MOST_JSON >> 20} MB, the limit for JSON files")
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not JSON: {str(error) or type(error).__name__}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds a JSON {type(value).__name__}, expected an object")
    return value


def _shard_names(index: Path) -> list[str]:
    mapping = read_json_object(index).get("weight_map")
    if not isinstance(mapping, dict) or not all(isinstance(file, str) for file in mapping.values()):
        raise CheckpointError(f"{index}: has no weight_map from tensor names to file names")
    names = sorted(set(mapping.values()))
    outside = [name for name in names if not _PLAIN_NAME.fullmatch(name)]
    if outside:
        raise CheckpointError(f"{index}: names {short(outside[0])}, which is not a file of this folder")
    return names


@contextmanager
def _opened(file: Path) -> Any:
    try:
        with safetensors.safe_open(file, framework="numpy") as content:
            yield content
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file}: is damaged or not a safetensors file: {error}") from None


def _raw(file: Path, name: str) -> Array:
    """The 16-bit words of a tensor. The file's header was validated by the library when it was opened."""
    with open(file, "rb") as content:
        size = int.from_bytes(content.read(8), "little")
        start, end = json.loads(content.read(size))[name]["data_offsets"]
        content.seek(8 + size + start)
        words = np.frombuffer(content.read(end - start), "<u2")
    return words
