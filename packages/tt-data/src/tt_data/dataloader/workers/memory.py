"""Shared memory between a loader and its workers: its ownership, and the layout of a batch in it.

Part of module 08, dataloader. The main process creates every segment, and only it removes them, so nothing is left
however a worker ends. A segment loses its name once its workers have opened it. From then on the system frees it with
its last process, even if all are killed at once. Until then the resource tracker of Python is responsible for it.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
from collections.abc import Callable
from multiprocessing import shared_memory
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tt_core.engine.errors import TinyTorchError
from tt_data.dataloader.collate import map_leaves, rebuild

SharedMemory = shared_memory.SharedMemory

NAME_PREFIX = "ttdata"
_ALIGNMENT = 64  # bytes: a cache line, and enough for any vector instruction
_SHARE_FROM = 1 << 16  # bytes: sending a smaller array is cheaper than sharing it


class Arena:
    """The shared memory of one loader; `close` removes all of it."""

    def __init__(self) -> None:
        self._segments: dict[str, SharedMemory] = {}
        self._named: set[str] = set()

    @property
    def segments(self) -> list[SharedMemory]:
        """The segments that exist now."""
        return list(self._segments.values())

    def create(self, size: int) -> SharedMemory:
        """A new segment of at least `size` bytes; raises `TinyTorchError` if the system has no room for it."""
        name = f"{NAME_PREFIX}{os.getpid():x}_{secrets.token_hex(4)}"  # macOS allows 30 characters
        try:
            segment = SharedMemory(name, create=True, size=max(size, 1))
            self._segments[segment.name] = segment
            self._named.add(segment.name)
            _reserve(segment)
        except OSError as error:
            raise TinyTorchError(
                f"DataLoader: no room for {size:,} bytes of shared memory ({error.strerror or error}); use smaller "
                "batches, fewer workers or less prefetch, or give the system more (in a container: --shm-size)"
            ) from None
        return segment

    def unname(self, segment: SharedMemory) -> None:
        """Remove the name of a segment that all its processes have opened."""
        if segment.name in self._named:
            self._named.remove(segment.name)
            with contextlib.suppress(FileNotFoundError):
                segment.unlink()  # does nothing on Windows, which frees a segment with its last process

    def remove(self, segment: SharedMemory) -> None:
        """Free one segment."""
        self._segments.pop(segment.name, None)
        with contextlib.suppress(BufferError):  # a traceback may hold a view, and then unmaps it later
            segment.close()
        self.unname(segment)

    def close(self) -> None:
        """Free all segments."""
        for segment in self.segments:
            self.remove(segment)


def _reserve(segment: SharedMemory) -> None:
    """Allocate the pages now: in a full tmpfs this is an error, while a later write would be a SIGBUS."""
    path = Path("/dev/shm", segment.name)
    if hasattr(os, "posix_fallocate") and path.exists():
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, segment.size)


def buffer_of(segment: SharedMemory) -> memoryview:
    """The bytes of an open segment."""
    if segment.buf is None:
        raise TinyTorchError(f"DataLoader: shared memory {segment.name} is closed")
    return segment.buf


class Placed(NamedTuple):
    """The location of an array of a batch in a segment."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def size_of(batch: object) -> int:
    """Bytes of shared memory that `batch` needs."""
    total = 0  # each array starts at a multiple of the alignment

    def add(leaf: Any) -> None:
        nonlocal total
        total += _aligned(leaf.nbytes) if _placeable(leaf) else 0

    map_leaves(add, batch)
    return total


def store(batch: object, buffer: memoryview) -> Any:
    """Copy the arrays of `batch` into `buffer`; returns the batch with a `Placed` for each array."""
    offset = 0

    def place(leaf: Any) -> Any:
        nonlocal offset
        if not _placeable(leaf):
            return leaf
        placed = Placed(offset, leaf.shape, leaf.dtype)
        _view(placed, buffer)[...] = leaf
        offset += _aligned(leaf.nbytes)
        return placed

    return map_leaves(place, batch)


def load(stored: object, buffer: memoryview) -> Any:
    """The batch that `store` wrote, copied from `buffer`, which can then be reused."""
    return _map_placed(lambda placed: _view(placed, buffer).copy(), stored)


def _map_placed(function: Callable[[Placed], Any], stored: Any) -> Any:
    if isinstance(stored, Placed):  # first, because it is a tuple too
        return function(stored)
    if isinstance(stored, dict):
        return {key: _map_placed(function, value) for key, value in stored.items()}
    if isinstance(stored, (tuple, list)):
        return rebuild(stored, [_map_placed(function, value) for value in stored])
    return stored


def _view(placed: Placed, buffer: memoryview) -> npt.NDArray[Any]:
    return np.ndarray(placed.shape, placed.dtype, buffer, placed.offset)


def _placeable(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray) and not leaf.dtype.hasobject


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def dump_sharing(job: object, arena: Arena) -> memoryview:
    """`job` in the encoding of multiprocessing, with its large arrays in shared memory."""
    buffer = io.BytesIO()
    _SharingPickler(buffer, arena).dump(job)
    return buffer.getbuffer()


def load_sent(job: bytes) -> Any:
    """The object that `dump_sharing` encoded."""
    return ForkingPickler.loads(job)


def encode(message: object) -> memoryview:
    """A message as `Connection.send` encodes it, so that an error of encoding differs from one of sending."""
    return ForkingPickler.dumps(message)


class _SharingPickler(ForkingPickler):
    """The pickler of multiprocessing, which puts each large array into the arena, once for all workers."""

    def __init__(self, buffer: io.BytesIO, arena: Arena) -> None:
        super().__init__(buffer)
        self._arena = arena

    def reducer_override(self, value: Any) -> Any:
        if type(value) is not np.ndarray or value.dtype.hasobject or value.nbytes < _SHARE_FROM:
            return NotImplemented
        segment = self._arena.create(value.nbytes)
        store(value, buffer_of(segment))
        return _attach, (segment.name, value.shape, value.dtype)


_attached: list[SharedMemory] = []  # in a worker: the arrays of the dataset, which live as long as the worker


def _attach(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    segment = SharedMemory(name)
    _attached.append(segment)
    return _view(Placed(0, shape, dtype), buffer_of(segment))
