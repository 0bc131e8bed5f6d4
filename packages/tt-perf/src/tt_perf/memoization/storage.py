"""Part of module 17: memory for keys and values, arrays with room for more.

Memory grows by doubling, so a position is copied twice at most on average, and reading the filled part copies nothing.
It begins as zeros: a place that a mask hides is multiplied by 0, and 0 times a nan that memory happens to hold is nan.
`formats.py` stores the numbers, as floats or as int8.
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.tensor import Tensor
from tt_core.tensor.creation import from_numpy
from tt_perf.memoization.checks import CacheError, check_alike
from tt_perf.memoization.formats import Floats
from tt_perf.memoization.window import Plan

_FIRST = 256
"""Positions allocated at first, in addition to the existing ones."""


class LayerMemory:
    """Keys and values of one layer; the first `rows` and `length` places of the arrays are filled."""

    def __init__(self, rows: int, most: int, kind: type[Floats], static: bool = False) -> None:
        self.capacity, self.most, self.static = rows, most, static
        self.rows = self.length = 0
        self.keys, self.values = kind(), kind()

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self.keys.nbytes + self.values.nbytes

    def extend(self, k: Array, v: Array) -> tuple[Tensor, Tensor]:
        """Append new positions to the stored ones; returns all of them."""
        end = self.length + k.shape[2]
        if self.static and end > self.most:
            raise CacheError(f"StaticCache: the text needs {end} positions, the cache has {self.most}; make it longer")
        self._make_room(k, v, end)
        new = (slice(self.rows), slice(None), slice(self.length, end))
        self.keys.write(new, k)
        self.values.write(new, v)
        self.length = end
        return from_numpy(self.keys.read(self.rows, end)), from_numpy(self.values.read(self.rows, end))

    def extend_window(self, k: Array, v: Array, plan: Plan) -> tuple[Tensor, Tensor]:
        """Writes new positions to the slots of `plan`; returns the old and the new ones, or the slots for a single one.

        The order of keys means nothing to attention: each was rotated by its own position.
        """
        self._make_room(k, v, max(plan.used, plan.before))
        if k.shape[2] == 1:
            self._place(k, v, plan)
            return self._read(plan.used)
        # a chunk of a prompt sees positions that its own end pushes out of the window: they are read before that
        if plan.before:
            kept = self.keys.read(self.rows, plan.before), self.values.read(self.rows, plan.before)
            found = [np.concatenate([old, kind.rounded(new)], axis=2)
                     for old, kind, new in zip(kept, (self.keys, self.values), (k, v))]  # fmt: skip
        else:
            found = [self.keys.rounded(k), self.values.rounded(v)]
        self._place(k, v, plan)
        return from_numpy(found[0]), from_numpy(found[1])

    def _read(self, end: int) -> tuple[Tensor, Tensor]:
        return from_numpy(self.keys.read(self.rows, end)), from_numpy(self.values.read(self.rows, end))

    def _place(self, k: Array, v: Array, plan: Plan) -> None:
        row, at = np.nonzero(plan.slots >= 0)  # (kept positions,) each; -1 is padding
        slot = plan.slots[row, at]
        self.keys.write((row, slice(None), slot), k[row, :, at])
        self.values.write((row, slice(None), slot), v[row, :, at])
        self.length = plan.used

    @property
    def room(self) -> int:
        """The number of positions that fit in the arrays."""
        return self.keys.parts[0].shape[2] if self.keys.parts else 0

    def make_room(self, end: int) -> None:
        """Allocates memory for `end` positions and keeps the filled ones."""
        if self.static and end > self.most:
            raise CacheError(f"StaticCache: the text needs {end} positions, the cache has {self.most}; make it longer")
        k, v = (
            np.empty((self.rows, kind.like.shape[1], 1, kind.like.shape[3]), kind.like.dtype)
            for kind in (self.keys, self.values)
        )
        self._make_room(k, v, end)

    def _make_room(self, k: Array, v: Array, end: int) -> None:
        capacity, room = self.keys.parts[0].shape[0] if self.keys.parts else 0, self.room
        if self.length:
            check_alike(self.rows, self.keys.like, k)
            check_alike(self.rows, self.values.like, v)
        self.rows = len(k)
        # (rows, heads, positions, size): heads, size and dtype must be those of the arrays
        alike = all(
            (kind.like.shape[1], kind.like.shape[3], kind.like.dtype) == (new.shape[1], new.shape[3], new.dtype)
            for kind, new in ((self.keys, k), (self.values, v))
        )
        if alike and self.rows <= capacity and end <= room:
            return
        self.capacity = max(self.capacity, self.rows)
        wanted = self.most if self.static else min(self.most, max(2 * room, end + _FIRST))
        for kind, new in ((self.keys, k), (self.values, v)):
            kind.reserve(self.capacity, max(end, wanted), new, self.rows, self.length)

    def select(self, rows: list[int]) -> None:
        """Copies filled positions of rows that change; frees memory if half of the rows or fewer remain."""
        # beams choose among the same rows at every token, which must not allocate
        if self.capacity / 2 < len(rows) <= self.capacity:
            self.keys.move(rows, self.length)
            self.values.move(rows, self.length)
        else:
            self.capacity = len(rows)
            for kind in (self.keys, self.values):
                kind.parts = kind.take(rows, 0, self.length, kind.parts[0].shape[2] if kind.parts else 0)
        self.rows = len(rows)
