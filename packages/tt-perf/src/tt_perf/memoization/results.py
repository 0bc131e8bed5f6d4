"""Part of module 17: results by their inputs, which the plugin `memoize` (`memoizing.py`) keeps.

A call whose inputs have the same bytes as those of an earlier one gets a copy of that result:

    key = op, kernel, attributes, and dtype, shape, strides and SHA-256 of each input

Bytes tell -0.0 from 0.0 and find nan again; strides decide in which order products are added up. Results are copied
when they are kept and when they are given, so no other code can change them, and a changed input has another key.
Hashing reads each input once, at about 1 GB/s: a call that is cheaper than that gains nothing.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, HasArray, wrap


class Unkeyed(Exception):
    """An argument that has no key, such as a function or a cache."""


def key_of(value: object) -> Hashable:
    """A key that only equal arguments share; raises `Unkeyed` for a value that has none, such as a function.

    A tensor has the key of its array.

    >>> key_of(0.0) == key_of(-0.0), key_of(float("nan")) == key_of(float("nan")), key_of(1) == key_of(True)
    (False, True, False)
    """
    if isinstance(value, HasArray):
        return key_of(value.data)
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data).digest()
        return value.dtype.str, value.shape, value.strides, digest
    if value is None or isinstance(value, (bool, int, str)):
        return type(value), value
    if isinstance(value, float):
        return float, struct.pack("<d", value)
    if isinstance(value, np.generic):
        return key_of(np.asarray(value))
    if isinstance(value, (tuple, list)):
        return type(value), tuple([key_of(part) for part in value])
    if isinstance(value, dict):
        return dict, tuple([(key_of(name), key_of(part)) for name, part in value.items()])
    if isinstance(value, slice):
        return slice, key_of((value.start, value.stop, value.step))
    if isinstance(value, (np.dtype, type)):
        return "type", value
    raise Unkeyed(type(value).__name__)


class Results:
    """Results by key, at most `max_bytes` in all; drops the least recently used first. Safe to use from threads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = self.evicted = 0
        # in order of use: the first entry is the least recently used
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()  # the sizes and the order of use must change together

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> Any:
        """A copy of the stored result, as tensors; None if there is none."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            kept = self._kept[key]
        return wrap(_copied(kept))

    def put(self, key: Hashable, result: object) -> None:
        """Store a copy of a tensor or of a tuple of tensors; other results are not stored."""
        arrays = _arrays(result)
        if arrays is None or _size(arrays) > self.max_bytes:
            return
        copied = _copied(arrays)
        with self._lock:
            self._drop([key])
            self._kept[key] = copied
            self.nbytes += _size(copied)
            while self.nbytes > self.max_bytes:
                self._drop([next(iter(self._kept))])
                self.evicted += 1

    def forget(self, belongs: Callable[[Hashable], bool]) -> None:
        """Drop every result whose key `belongs` to what has changed."""
        with self._lock:
            self._drop([key for key in self._kept if belongs(key)])

    def _drop(self, keys: Iterable[Hashable]) -> None:
        for key in keys:
            self.nbytes -= _size(self._kept.pop(key, ()))


def _arrays(result: Any) -> Any:
    """A tensor as its array, a tuple of tensors as a tuple of arrays; None for anything else."""
    if isinstance(result, HasArray):
        return result.data
    if type(result) is tuple and all(isinstance(part, HasArray) for part in result):
        return tuple([part.data for part in result])
    return None


def _copied(arrays: Any) -> Any:
    # "K" keeps the strides: a later product would add its terms in another order, and round otherwise
    return tuple([part.copy("K") for part in arrays]) if type(arrays) is tuple else arrays.copy("K")


def _size(arrays: Array | tuple[Array, ...]) -> int:
    return sum(part.nbytes for part in arrays) if isinstance(arrays, tuple) else arrays.nbytes
