"""Datasets larger than memory: arrays mapped from .npy files, and folders of shards with checksums.

Part of module 08 (Act III). Both read rows from disk when a batch asks for them, keep little in memory, and
travel to a worker process as a path. Neither decodes images: what is stored is what is delivered.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tt_core.engine.arguments import checked
from tt_core.engine.errors import ArgumentError, FileError, ShapeError
from tt_core.engine.files import check_folder, make_folder, remove_stale, write_atomic
from tt_data.dataloader.dataset import Dataset, Indices, as_array, as_indices, wrap_index

INDEX = "index.json"
_FORMAT, _VERSION = "tinytorch-shards", 1
_MAX_INDEX = 1 << 26  # bytes; a million shards need less
_HASH_CHUNK = 1 << 20  # bytes
_FOLIO = 1 << 21  # bytes that a touched one may bring in: Linux 6 maps a file's pages in folios of up to 2 MB
_GAP = 1 << 14  # bytes: reading that much too much costs less than another call
_FILE_NAME = re.compile(r'[^\\/:*?"<>|\x00-\x1f]{1,100}')  # on every system
_MAX_OPEN = 64  # files; macOS allows a process 256

Fields = tuple[npt.NDArray[Any], ...]


class MemmapDataset(Dataset):
    """`.npy` files of one length, side by side, mapped into memory: sample `i` is the tuple of their rows `i`.

    A mapped page counts as this process's memory once it is touched. So the maps are opened anew when reads
    may have touched `resident_bytes`; the pages stay in the system's cache, and reading them again costs a
    page fault.

    Raises `FileError` for a file that is no .npy file, is shorter than it says, or changes size while it is
    in use; `ShapeError` when lengths differ.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.npy"
    >>> np.save(path, np.arange(6.0).reshape(3, 2))
    >>> MemmapDataset(path)[1]
    (array([2., 3.]),)
    """

    @checked
    def __init__(self, *files: str | os.PathLike[str], resident_bytes: int = 128 << 20) -> None:
        if not files:
            raise ArgumentError("MemmapDataset: got no files; give at least one .npy file")
        self.files, self.resident_bytes = tuple(Path(file) for file in files), resident_bytes
        self._sizes = [path.stat().st_size if path.is_file() else 0 for path in self.files]
        self._maps, self._touched = self._open(), 0
        if len({len(array) for array in self._maps}) > 1:
            lengths = ", ".join(f"{path.name} {len(array)}" for path, array in zip(self.files, self._maps))
            raise ShapeError(f"MemmapDataset: files must have equal lengths, got {lengths}")

    def __len__(self) -> int:
        return len(self._maps[0])

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return tuple(array[0] for array in self.__getitems__(np.array([wrap_index(index, len(self), "MemmapDataset")])))

    def __getitems__(self, indices: Indices) -> Fields:
        self._check_sizes()
        return tuple(self._gather(number, indices) for number in range(len(self._maps)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": None}  # a map sent to a worker would arrive as a copy of the file

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._maps = self._open()

    def _open(self) -> list[npt.NDArray[Any]]:
        return [_map_npy(path) for path in self.files]

    def _gather(self, number: int, indices: Indices) -> npt.NDArray[Any]:
        """Rows of one file, so many at a time that they stay within the budget wherever they lie."""
        shape, dtype = self._maps[number].shape[1:], self._maps[number].dtype  # no name may hold a map open
        row_bytes = math.prod(shape) * dtype.itemsize
        out = np.empty((len(indices), *shape), dtype)
        step = max(1, self.resident_bytes // (_FOLIO + row_bytes))
        for start in range(0, len(indices), step):
            rows = indices[start : start + step]
            self._make_room(len(np.unique(rows * row_bytes // _FOLIO)) * _FOLIO + len(rows) * row_bytes)
            out[start : start + step] = self._maps[number][rows]
        return out

    def _make_room(self, cost: int) -> None:
        self._touched += cost
        if self._touched > self.resident_bytes:
            self._maps, self._touched = self._open(), cost

    def _check_sizes(self) -> None:
        """A map of a file that was cut short kills the process with SIGBUS; an error is better."""
        for path, size in zip(self.files, self._sizes):
            now = path.stat().st_size if path.exists() else 0
            if now != size:
                raise FileError(f"{path}: changed size while in use ({size} to {now} bytes)")


def _map_npy(path: Path) -> npt.NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise FileError(f"{path}: no such file; give the path of a .npy file") from None
    except Exception as error:  # np.load has no error of its own: ValueError, EOFError, SyntaxError, OverflowError, ...
        raise FileError(f"{path}: cannot be mapped as a .npy file ({_one_line(error)})") from None
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        raise FileError(f"{path}: holds no array with rows; give a .npy file of at least one dimension")
    return array


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@dataclass(frozen=True)
class Field:
    """What one field of each sample is: its name, dtype and shape."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


@dataclass(frozen=True)
class Shard:
    """`count` samples: a file, its size and its sha256 for each field."""

    count: int
    files: tuple[tuple[Path, int, str], ...]


class ShardedDataset(Dataset):
    """A folder of shards written by `write_shards` (or `tt data shard`): sample `i` is the tuple of its fields.

    The index is checked against the files' sizes when the folder is opened; a shard's checksum when this
    process first reads from it (`verify=False` leaves that out). Rows are read, not mapped, so memory stays
    flat.

    Raises `FileError` naming the file, for an index or a shard that is missing, damaged or foreign. No sample
    of a damaged shard is ever delivered.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> _ = write_shards(folder, [(np.arange(5), np.arange(5) % 2)], fields=("value", "odd"))
    >>> ShardedDataset(folder)[3]
    (np.int64(3), np.int64(1))
    """

    @checked
    def __init__(self, folder: str | os.PathLike[str], verify: bool = True) -> None:
        self.folder, self.verify = Path(folder), verify
        self.fields, self.shards = _read_index(self.folder)
        self._ends = np.cumsum([shard.count for shard in self.shards], dtype=np.int64)
        self._verified: set[int] = set()
        self._starts: dict[Path, int] = {}  # where each file's rows begin, once its header was checked
        self._open: OrderedDict[Path, _RowFile] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        index = wrap_index(index, len(self), "ShardedDataset")
        return tuple(array[0] for array in self.__getitems__(np.array([index])))

    def __getitems__(self, indices: Indices) -> Fields:
        indices = as_indices(indices, len(self), "ShardedDataset")
        batch = tuple(np.empty((len(indices), *field.shape), field.dtype) for field in self.fields)
        order = np.argsort(indices, kind="stable")  # shard by shard, and within one in the order of the file
        numbers = np.searchsorted(self._ends, indices[order], side="right")
        for part in np.split(order, np.flatnonzero(np.diff(numbers)) + 1) if len(order) else ():
            self._read_part(indices[part], part, batch)
        return batch

    def _read_part(self, indices: Indices, positions: Indices, batch: Fields) -> None:
        """Rows `indices`, sorted and of one shard, to `positions` of the batch."""
        number = int(np.searchsorted(self._ends, indices[0], side="right"))
        shard = self.shards[number]
        rows = indices - (self._ends[number] - shard.count)
        with self._lock:
            for field, (path, _, sha256), array in zip(self.fields, shard.files, batch):
                file = self._opened(path, field, shard.count)
                if self.verify and number not in self._verified:
                    file.check(sha256)
                array[positions] = file.read(rows)
            self._verified.add(number)

    def _opened(self, path: Path, field: Field, count: int) -> _RowFile:
        if path not in self._open:
            while len(self._open) >= _MAX_OPEN:
                self._open.popitem(last=False)[1].file.close()
            self._open[path] = _RowFile(path, field, count, self._starts.get(path))
            self._starts[path] = self._open[path].start
        self._open.move_to_end(path)
        return self._open[path]

    def close(self) -> None:
        """Close the files; reading opens them again."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].file.close()

    def __del__(self) -> None:
        if hasattr(self, "_open"):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_open", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open, self._lock = OrderedDict(), threading.Lock()


class _RowFile:
    """An open .npy file of a shard, read by row numbers."""

    def __init__(self, path: Path, field: Field, count: int, start: int | None) -> None:
        self.path, self._field = path, field
        try:
            self.file: BinaryIO = open(path, "rb", buffering=0)  # noqa: SIM115  (closed by its dataset)
        except OSError as error:
            raise FileError(f"{path}: cannot be opened ({error.strerror})") from None
        try:
            self.start = self._check_header(count) if start is None else start
        except BaseException:
            self.file.close()
            raise

    def _check_header(self, count: int) -> int:
        try:
            version = np.lib.format.read_magic(self.file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            header = read_header[version](self.file)
        except Exception as error:  # whatever NumPy's header reader runs into
            raise FileError(f"{self.path}: is no .npy file ({_one_line(error)})") from None
        expected = ((count, *self._field.shape), False, self._field.dtype)
        if header != expected:
            raise FileError(f"{self.path}: holds {header[2]} {header[0]}, {INDEX} says {expected[2]} {expected[0]}")
        return self.file.tell()

    def check(self, sha256: str) -> None:
        digest = hashlib.sha256()
        self.file.seek(0)
        while chunk := self.file.read(_HASH_CHUNK):
            digest.update(chunk)
        if digest.hexdigest() != sha256:
            raise FileError(f"{self.path}: checksum differs from {INDEX}; the shard is damaged, write it again")

    def read(self, rows: Indices) -> npt.NDArray[Any]:
        """The given rows, which are sorted; what lies close together is read in one go."""
        out = np.empty((len(rows), *self._field.shape), self._field.dtype)
        if self._field.row_bytes == 0 or not len(rows):
            return out
        ends = np.flatnonzero(np.diff(rows) * self._field.row_bytes > _GAP) + 1
        for start, stop in zip([0, *ends.tolist()], [*ends.tolist(), len(rows)]):
            self._read_run(rows[start:stop], out[start:stop])
        return out

    def _read_run(self, rows: Indices, out: npt.NDArray[Any]) -> None:
        first, count = int(rows[0]), int(rows[-1] - rows[0]) + 1
        if (np.diff(rows) == 1).all():
            self._read_into(out.reshape(-1).view(np.uint8).data, first)
        else:  # with gaps, or a row twice
            span = np.empty((count, *self._field.shape), self._field.dtype)
            self._read_into(span.reshape(-1).view(np.uint8).data, first)
            out[...] = span[rows - first]

    def _read_into(self, target: memoryview, row: int) -> None:
        start, done = self.start + row * self._field.row_bytes, 0
        while done < len(target):
            got = _read_at(self.file, start + done, target[done:])
            if not got:
                raise FileError(f"{self.path}: ends within row {row + done // self._field.row_bytes}; cut short")
            done += got


def _read_at(file: Any, place: int, target: memoryview) -> int:
    """Bytes read from `place` on. Where the system can, without moving the file's position, which a fork shares."""
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [target], place)
    file.seek(place)
    return int(file.readinto(target))


@checked
def write_shards(
    folder: str | os.PathLike[str],
    batches: Iterable[Sequence[Any]],
    fields: Sequence[str] = ("image", "label"),
    shard_bytes: int = 64 << 20,
) -> Path:
    """Write batches, each a tuple of arrays (batch, ...), one a field, as a folder that `ShardedDataset` reads.

    Memory stays at about two shards and two batches. The index is written last, so an interrupted writing
    leaves no dataset. Returns the folder. Raises `ShapeError` when batches do not fit together, `FileError`
    when the folder already holds a dataset or cannot be written.
    """
    folder = Path(folder)
    if len({field.casefold() for field in fields}) < len(fields) or not all(map(_FILE_NAME.fullmatch, fields)):
        raise ArgumentError(
            f"write_shards: fields must have names of their own that a file can bear, got {list(fields)}"
        )
    if shard_bytes < 1:
        raise ArgumentError(f"write_shards: shard_bytes must be >= 1, got {shard_bytes}")
    if os.path.exists(folder / INDEX):
        raise FileError(f"{folder}: already holds a sharded dataset; choose another folder, or remove it")
    check_folder(folder)
    described: tuple[Field, ...] = ()
    shards: list[Shard] = []
    for arrays in _cut_into_shards(batches, tuple(fields), shard_bytes):
        if not shards:  # batches that cannot be read leave no folder
            remove_stale(make_folder(folder))
        described = _describe(arrays, tuple(fields))
        shards.append(_write_shard(folder, len(shards), arrays, described))
    if not shards:
        raise ArgumentError("write_shards: got no samples; give at least one batch")
    write_atomic(folder / INDEX, json.dumps(_index_content(described, shards), indent=1).encode())
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
        held.append(tuple(array.copy() for array in arrays))  # the next batch may come in the same memory
        held_rows += len(arrays[0])
        while held_rows >= rows:
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
        raise ShapeError(f"write_shards: a batch has {given}, those before had {_plain(first)}")
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
    """Writes an array as a .npy file and hashes what it wrote on the way."""

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


def _index_content(fields: tuple[Field, ...], shards: list[Shard]) -> dict[str, Any]:
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


def _read_index(folder: Path) -> tuple[tuple[Field, ...], tuple[Shard, ...]]:
    path = folder / INDEX
    try:
        if path.stat().st_size > _MAX_INDEX:
            raise FileError(f"{path}: is larger than any index")
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
        raise FileError(f"{path}: is no index of a sharded dataset ({_one_line(error)})") from None
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
    if actual != size or actual < count * field.row_bytes:  # before anything of that size is allocated
        raise FileError(f"{path}: has {actual} bytes, {INDEX} says {size} for {count} samples; it is damaged")
    return path, size, str(sha256)
