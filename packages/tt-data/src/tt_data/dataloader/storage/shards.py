"""Reading a folder of shards with checksums, for datasets larger than memory.

Part of module 08, dataloader. Rows are read when a batch asks for them, and a worker process gets the dataset as a
path. `index` describes the folder, `writing` writes it.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tt_core.engine.arguments import checked
from tt_core.engine.errors import FileError
from tt_data.dataloader.dataset import Dataset
from tt_data.dataloader.indices import Indices, as_indices
from tt_data.dataloader.storage.index import INDEX, Field, Fields, one_line, read_index

_HASH_CHUNK = 1 << 20  # bytes
_GAP = 1 << 14  # bytes: reading this many unused bytes costs less than another call
_MAX_OPEN = 64  # files; macOS allows a process 256


class ShardedDataset(Dataset):
    """A folder of shards written by `write_shards` (or `tt data shard`): sample `i` is the tuple of its fields.

    Opening the folder compares the index with the sizes of the files. The first read from a shard in this process
    verifies its checksum, unless `verify=False`. Rows are read, not mapped, so memory use stays constant.

    Raises `FileError` with the name of the file for an index or a shard that is missing, damaged or of another format.
    Samples of a damaged shard are never delivered.

    >>> import tempfile
    >>> from tt_data.dataloader import write_shards
    >>> folder = tempfile.mkdtemp()
    >>> _ = write_shards(folder, [(np.arange(5), np.arange(5) % 2)], fields=("value", "odd"))
    >>> ShardedDataset(folder)[3]
    (np.int64(3), np.int64(1))
    """

    @checked
    def __init__(self, folder: str | os.PathLike[str], verify: bool = True) -> None:
        self.folder, self.verify = Path(folder), verify
        self.fields, self.shards = read_index(self.folder)
        self._ends = np.cumsum([shard.count for shard in self.shards], dtype=np.int64)
        self._verified: set[int] = set()
        self._starts: dict[Path, int] = {}  # where the rows of each file begin, known after its header was checked
        self._open: OrderedDict[Path, _RowFile] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitems__(self, indices: Indices) -> Fields:
        indices = as_indices(indices, len(self), "ShardedDataset")
        batch = tuple(np.empty((len(indices), *field.shape), field.dtype) for field in self.fields)
        order = np.argsort(indices, kind="stable")  # by shard, and within a shard in the order of the file
        numbers = np.searchsorted(self._ends, indices[order], side="right")
        for part in np.split(order, np.flatnonzero(np.diff(numbers)) + 1) if len(order) else ():
            self._read_part(indices[part], part, batch)
        return batch

    def _read_part(self, indices: Indices, positions: Indices, batch: Fields) -> None:
        """Read the rows `indices`, which are sorted and of one shard, into `positions` of the batch."""
        number = int(np.searchsorted(self._ends, indices[0], side="right"))
        shard = self.shards[number]
        rows = indices - (self._ends[number] - shard.count)
        # one thread at a time: without preadv, a read moves the position of the file
        with self._lock:
            for field, (path, _, sha256), array in zip(self.fields, shard.files, batch):
                file = self._opened(path, field, shard.count)
                if self.verify and number not in self._verified:
                    file.check(sha256)
                array[positions] = file.read(rows)
            self._verified.add(number)

    def _opened(self, path: Path, field: Field, count: int) -> _RowFile:
        if path not in self._open:
            # the file that was unused for the longest time is closed
            while len(self._open) >= _MAX_OPEN:
                self._open.popitem(last=False)[1].file.close()
            self._open[path] = _RowFile(path, field, count, self._starts.get(path))
            self._starts[path] = self._open[path].start
        self._open.move_to_end(path)
        return self._open[path]

    def close(self) -> None:
        """Closes the files; reading opens them again."""
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
        except Exception as error:  # the header reader of NumPy raises many types
            raise FileError(f"{self.path}: is not a .npy file ({one_line(error)})") from None
        expected = ((count, *self._field.shape), False, self._field.dtype)
        if header != expected:
            raise FileError(f"{self.path}: has {header[2]} {header[0]}, {INDEX} says {expected[2]} {expected[0]}")
        return self.file.tell()

    def check(self, sha256: str) -> None:
        digest = hashlib.sha256()
        self.file.seek(0)
        while chunk := self.file.read(_HASH_CHUNK):
            digest.update(chunk)
        if digest.hexdigest() != sha256:
            raise FileError(f"{self.path}: checksum differs from {INDEX}; the shard is damaged, write it again")

    def read(self, rows: Indices) -> npt.NDArray[Any]:
        """The given rows, which are sorted. Rows that are close together are read with one call."""
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
                raise FileError(f"{self.path}: ends within row {row + done // self._field.row_bytes}; it was truncated")
            done += got


def _read_at(file: Any, place: int, target: memoryview) -> int:
    """Read from byte `place` into `target`; returns the number of bytes.

    `preadv` does not move the position of the file, which forked processes share.
    """
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [target], place)
    file.seek(place)
    return int(file.readinto(target))
