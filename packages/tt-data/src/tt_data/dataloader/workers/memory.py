"""Shared memory between a loader and its workers: who owns it, and how a batch is laid out in it.

Part of module 08 (Act III). The process that trains creates every segment and is the only one to remove one, so
nothing is left behind however a worker ends. A segment loses its name once its workers hold it: from then on the
system itself frees it with its last holder, even if all of them are killed at once. Until then Python's resource
tracker looks after it.
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
_SHARE_FROM = 1 << 16  # bytes: a smaller array of a dataset is cheaper to send than to share


class Arena:
    """The shared memory that one loader owns; `close` removes all of it."""

    def __init__(self) -> None:
        self._segments: dict[str, SharedMemory] = {}
        self._named: set[str] = set()

    @property
    def segments(self) -> list[SharedMemory]:
        """What is held now."""
        return list(self._segments.values())

    def create(self, size: int) -> SharedMemory:
        """A new segment of at least `size` bytes. Raises `TinyTorchError` when there is no room for it."""
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
        """Take a segment's name away once everybody who needs it has opened it."""
        if segment.name in self._named:
            self._named.remove(segment.name)
            with contextlib.suppress(FileNotFoundError):
                segment.unlink()  # on Windows nothing: there a segment ends with its last holder anyway

    def remove(self, segment: SharedMemory) -> None:
        """Give one segment back to the system."""
        self._segments.pop(segment.name, None)
        with contextlib.suppress(BufferError):  # an exception's traceback may hold a view; its end unmaps it
            segment.close()
        self.unname(segment)

    def close(self) -> None:
        """Give everything back."""
        for segment in self.segments:
            self.remove(segment)


def _reserve(segment: SharedMemory) -> None:
    """Ask a tmpfs for the pages now: a full one is an error here, and a SIGBUS once somebody writes."""
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
    """Where an array of a batch lies in a segment."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def size_of(batch: Any) -> int:
    """Bytes of shared memory that `batch` needs."""
    total = 0

    def add(leaf: Any) -> None:
        nonlocal total
        total += _aligned(leaf.nbytes) if _placeable(leaf) else 0

    map_leaves(add, batch)
    return total


def store(batch: Any, buffer: memoryview) -> Any:
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


def load(stored: Any, buffer: memoryview) -> Any:
    """The batch that `store` laid out, copied out of `buffer`, which is then free for the next."""
    return _map_placed(lambda placed: _view(placed, buffer).copy(), stored)


def _map_placed(function: Callable[[Placed], Any], stored: Any) -> Any:
    if isinstance(stored, Placed):  # before map_leaves sees it: it is a tuple too
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


def dump_sharing(job: Any, arena: Arena) -> memoryview:
    """`job` in multiprocessing's own encoding, its large arrays in shared memory, not in the message."""
    buffer = io.BytesIO()
    _SharingPickler(buffer, arena).dump(job)
    return buffer.getbuffer()


def load_sent(job: bytes) -> Any:
    """What `dump_sharing` encoded, in the process it was sent to."""
    return ForkingPickler.loads(job)


def encode(message: Any) -> memoryview:
    """A message as `Connection.send` would encode it, so that failing to encode is not taken for failing to send."""
    return ForkingPickler.dumps(message)


class _SharingPickler(ForkingPickler):
    """What multiprocessing itself sends objects with; a large array goes into the arena, once for all workers."""

    def __init__(self, buffer: io.BytesIO, arena: Arena) -> None:
        super().__init__(buffer)
        self._arena = arena

    def reducer_override(self, value: Any) -> Any:
        if type(value) is not np.ndarray or value.dtype.hasobject or value.nbytes < _SHARE_FROM:
            return NotImplemented
        segment = self._arena.create(value.nbytes)
        store(value, buffer_of(segment))
        return _attach, (segment.name, value.shape, value.dtype)


_attached: list[SharedMemory] = []  # in a worker: the dataset's arrays, alive as long as the worker


def _attach(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    segment = SharedMemory(name)
    _attached.append(segment)
    return _view(Placed(0, shape, dtype), buffer_of(segment))
