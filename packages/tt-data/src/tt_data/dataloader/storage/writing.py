"""Writing a folder of shards that `ShardedDataset` reads. Part of module 08, dataloader."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tt_core.engine.arguments import checked
from tt_core.engine.errors import ArgumentError, FileError, ShapeError
from tt_core.engine.files import check_folder, make_folder, remove_stale, write_atomic
from tt_data.dataloader.indices import as_array
from tt_data.dataloader.storage.index import INDEX, Field, Fields, Shard, index_content

_FILE_NAME = re.compile(r'[^\\/:*?"<>|\x00-\x1f]{1,100}')  # valid on every system


@checked
def write_shards(
    folder: str | os.PathLike[str],
    batches: Iterable[Sequence[Any]],
    fields: Sequence[str] = ("image", "label"),
    shard_bytes: int = 64 << 20,
) -> Path:
    """Writes batches, each a tuple with one array (batch, ...) for each field, to a folder for `ShardedDataset`.

    Memory use is about two shards and two batches. The index is written last, so an interrupted call leaves no dataset.
    Returns the folder. Raises `ShapeError` when batches do not fit together, `ArgumentError` for field names that are
    equal or cannot be file names, `FileError` when the folder already has a dataset or cannot be written.
    """
    folder = Path(folder)
    if len({field.casefold() for field in fields}) < len(fields) or not all(map(_FILE_NAME.fullmatch, fields)):
        raise ArgumentError(
            f"write_shards: fields must have different names that are valid file names, got {list(fields)}"
        )
    if shard_bytes < 1:
        raise ArgumentError(f"write_shards: shard_bytes must be >= 1, got {shard_bytes}")
    if os.path.exists(folder / INDEX):
        raise FileError(f"{folder}: already has a sharded dataset; choose another folder, or remove it")
    check_folder(folder)
    described: tuple[Field, ...] = ()
    shards: list[Shard] = []
    for arrays in _cut_into_shards(batches, tuple(fields), shard_bytes):
        if not shards:  # after the first batch was read, so that an error there leaves no folder
            remove_stale(make_folder(folder))
        described = _describe(arrays, tuple(fields))
        shards.append(_write_shard(folder, len(shards), arrays, described))
    if not shards:
        raise ArgumentError("write_shards: got no samples; give at least one batch")
    write_atomic(folder / INDEX, json.dumps(index_content(described, shards), indent=1).encode())
    return folder


def _describe(arrays: Fields, names: tuple[str, ...]) -> tuple[Field, ...]:
    return tuple(Field(name, array.dtype, array.shape[1:]) for name, array in zip(names, arrays))


def _cut_into_shards(batches: Iterable[Sequence[Any]], names: tuple[str, ...], shard_bytes: int) -> Iterator[Fields]:
    """Batches regrouped into shards of about `shard_bytes`."""
    first: tuple[Field, ...] = ()
    rows, held, held_rows = 0, [], 0
    for batch in batches:
        arrays = _checked_batch(batch, names, first)
        if not first:
            first = _describe(arrays, names)
            rows = max(1, shard_bytes // max(1, sum(field.row_bytes for field in first)))
        held.append(tuple(array.copy() for array in arrays))  # the next batch may reuse the memory
        held_rows += len(arrays[0])
        while held_rows >= rows:  # a batch may be larger than a shard
            joined = _join(held)
            yield tuple(array[:rows] for array in joined)
            held, held_rows = [tuple(array[rows:] for array in joined)], held_rows - rows
    if held_rows:
        yield _join(held)


def _join(parts: list[Fields]) -> Fields:
    return parts[0] if len(parts) == 1 else tuple(np.concatenate(column) for column in zip(*parts))


def _checked_batch(batch: Sequence[Any], names: tuple[str, ...], first: tuple[Field, ...]) -> Fields:
    arrays = tuple(as_array(array) for array in batch)
    if len(arrays) != len(names) or len({array.shape[:1] for array in arrays}) != 1 or not arrays[0].ndim:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ShapeError(f"write_shards: a batch needs arrays of one length for {', '.join(names)}; got {shapes}")
    if any(array.dtype.kind not in "fiub" for array in arrays):
        raise ArgumentError(f"write_shards: fields must be numbers, got {[str(array.dtype) for array in arrays]}")
    if first and _describe(arrays, names) != first:
        given = _plain(_describe(arrays, names))
        raise ShapeError(f"write_shards: a batch has {given}, the first one has {_plain(first)}")
    return arrays


def _plain(fields: tuple[Field, ...]) -> str:
    return ", ".join(f"{field.name} {field.dtype} {field.shape}" for field in fields)


def _write_shard(folder: Path, number: int, arrays: Fields, fields: tuple[Field, ...]) -> Shard:
    files = []
    for field, array in zip(fields, arrays):
        path = folder / f"{number:05d}-{field.name}.npy"
        writer = _NpyWriter(array)
        write_atomic(path, writer.write_to)
        files.append((path, writer.size, writer.digest.hexdigest()))
    return Shard(len(arrays[0]), tuple(files))


class _NpyWriter:
    """Writes an array as a .npy file and hashes it at the same time."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = np.ascontiguousarray(array)
        self.digest, self.size = hashlib.sha256(), 0

    def write_to(self, file: BinaryIO) -> None:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(self._array))
        for part in (header.getvalue(), self._array.reshape(-1).view(np.uint8).data):
            self.digest.update(part)
            self.size += len(part)
            file.write(part)
