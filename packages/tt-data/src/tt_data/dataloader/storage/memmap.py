"""Arrays mapped from .npy files, so that a dataset larger than memory is read as its rows are asked for.

Part of module 08, dataloader. The dataset uses little memory, and is sent to a worker process as a path. It does not
decode images: it returns the arrays as they are stored.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tt_core.engine.arguments import checked
from tt_core.engine.errors import ArgumentError, FileError, ShapeError
from tt_data.dataloader.dataset import Dataset
from tt_data.dataloader.indices import Indices
from tt_data.dataloader.storage.index import Fields, one_line

_FOLIO = 1 << 21  # bytes that touching one of them may load: Linux 6 maps pages in folios of up to 2 MB


class MemmapDataset(Dataset):
    """`.npy` files of equal length, mapped into memory: sample `i` is the tuple of their rows `i`.

    A mapped page counts as memory of this process once it was touched. So the maps are opened again when reads may have
    touched `resident_bytes`. The pages remain in the system's cache, and reading them again costs a page fault.

    Raises `FileError` for a file that is not a .npy file, is shorter than its header says, or changes size while it is
    in use; `ShapeError` when the lengths differ.

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

    def __getitems__(self, indices: Indices) -> Fields:
        self._check_sizes()
        return tuple(self._gather(number, indices) for number in range(len(self._maps)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": None}  # pickling a map would copy the file to the worker

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._maps = self._open()

    def _open(self) -> list[npt.NDArray[Any]]:
        return [_map_npy(path) for path in self.files]

    def _gather(self, number: int, indices: Indices) -> npt.NDArray[Any]:
        """Rows of one file, as many at a time as stay within the budget wherever they are in the file."""
        shape, dtype = self._maps[number].shape[1:], self._maps[number].dtype  # a variable would keep the map open
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
        """Raise `FileError` for a file that was truncated: reading its map would kill the process with SIGBUS."""
        for path, size in zip(self.files, self._sizes):
            now = path.stat().st_size if path.exists() else 0
            if now != size:
                raise FileError(f"{path}: changed size while in use ({size} to {now} bytes)")


def _map_npy(path: Path) -> npt.NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise FileError(f"{path}: no such file; give the path of a .npy file") from None
    except Exception as error:  # np.load raises ValueError, EOFError, SyntaxError, OverflowError, ...
        raise FileError(f"{path}: cannot be mapped as a .npy file ({one_line(error)})") from None
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        raise FileError(f"{path}: is not an array with rows; give a .npy file of at least one dimension")
    return array
