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
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


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
        self._mapped: dict[Path, Array] = {}
        self._starts: dict[Path, dict[str, tuple[int, int]]] = {}
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
        """One tensor, floats narrower than 32 bits as float32; others are the mapped file, read when they are used.

        Writing to the array changes the array and not the file.
        """
        entry = self.entries[name]
        if entry.dtype not in _FLOATS:
            raise CheckpointError(f"{entry.file}: {name} has type {entry.dtype}, expected one of {', '.join(_FLOATS)}")
        start, end = self._spans(entry.file)[name]
        stored = self._mapped[entry.file][start:end].view(_FLOATS[entry.dtype])
        if entry.dtype == "BF16":  # NumPy lacks this type, the upper half of a float32
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        if entry.dtype == "F16":
            stored = stored.astype(np.float32)
        stored = stored.reshape(entry.shape)
        return stored if stored.flags.aligned else stored.copy()

    def _spans(self, file: Path) -> dict[str, tuple[int, int]]:
        """Where each tensor of a file begins and ends. The library validated the file's header when it was opened."""
        if file not in self._mapped:
            self._mapped[file] = np.asarray(np.memmap(file, np.uint8, mode="c"))
            self._mapped[file][::4096].max()  # one read a page, in order: 0.05 s for 0.5 GB, where products take 1 s
            size = int.from_bytes(self._mapped[file][:8].tobytes(), "little")
            header = json.loads(self._mapped[file][8 : 8 + size].tobytes())
            offsets = {name: part["data_offsets"] for name, part in header.items() if name != "__metadata__"}
            self._starts[file] = {name: (8 + size + start, 8 + size + end) for name, (start, end) in offsets.items()}
        return self._starts[file]


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
