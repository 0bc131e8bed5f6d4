"""Part of module 17: where keys and values lie. Arrays with room for more, as floats or as int8 with scales.

Memory grows by doubling, so a position is copied twice at most on average, and reading what is kept copies nothing.
It begins as zeros: a place that a mask hides is multiplied by 0, which leaves a nan that happens to lie there a nan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.tensor import Tensor
from tt_core.tensor.creation import from_numpy
from tt_perf.memoization.dynamic import CacheError, check_alike
from tt_perf.memoization.window import Plan
from tt_perf.quantization.affine import choose_qparams, quantize_affine

_FIRST = 256
"""Positions allocated at first, beyond those that are there already."""


class Floats:
    """Keys or values of one layer, (capacity, heads, room, size), as they are."""

    names: tuple[str, ...] = ("",)
    """What each part is called in a file, behind the name of the whole."""

    def __init__(self) -> None:
        self.parts: list[Array] = []
        self.like = np.empty((0, 0, 0, 0), np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return sum(part.nbytes for part in self.parts)

    def encode(self, x: Array) -> list[Array]:
        """The parts that stand for `x`."""
        return [x]

    def decode(self, parts: Sequence[Array]) -> Array:
        """What the parts stand for; a view of them, where nothing has to be computed."""
        return parts[0]

    def write(self, index: Any, x: Array) -> None:
        """Put `x` in a place of the arrays."""
        for part, new in zip(self.parts, self.encode(x)):
            part[index] = new

    def read(self, rows: int, end: int) -> Array:
        """The first rows and positions."""
        return self.decode([part[:rows, :, :end] for part in self.parts])

    def rounded(self, x: Array) -> Array:
        """What `read` would give back of `x`."""
        return self.decode(self.encode(x))

    def reserve(self, capacity: int, room: int, like: Array, rows: int, length: int) -> None:
        """Allocate arrays for numbers such as `like`, and move what is filled there."""
        old, self.like = self.parts, like[:0]
        parts = self.encode(like[:, :, :0])
        self.parts = [np.zeros((capacity, part.shape[1], room, part.shape[3]), part.dtype) for part in parts]
        for new, kept in zip(self.parts, old if length else ()):
            new[:rows, :, :length] = kept[:rows, :, :length]

    def move(self, rows: list[int], length: int) -> None:
        """Row i becomes what row `rows[i]` was, in the same arrays; only rows that change are copied."""
        moved = [i for i, row in enumerate(rows) if row != i]
        sources = [rows[i] for i in moved]
        for part in self.parts if moved else ():
            part[moved, :, :length] = part[sources, :, :length]

    def take(self, rows: list[int], start: int, end: int, room: int) -> list[Array]:
        """New arrays with room for `room` positions, which begin with these rows and positions."""
        taken = []
        for part in self.parts:
            new = np.zeros((len(rows), part.shape[1], room, part.shape[3]), part.dtype)
            new[:, :, : end - start] = part[rows, :, start:end]
            taken.append(new)
        return taken


class Int8(Floats):
    """Each vector of `size` numbers as int8, with one float32 scale: (size + 4) bytes, not 4 * size.

    Rounding is that of module 15: symmetric, with an error of half a scale at most.
    """

    names = ("", "_scale")

    def encode(self, x: Array) -> list[Array]:
        if not np.isfinite(x).all():
            raise CacheError("kv-cache: keys or values are not finite, and int8 has no integer for them")
        largest = np.abs(x).max(-1, keepdims=True, initial=0)
        scale, zero = choose_qparams(-largest, largest, -127, 127, symmetric=True)
        return [quantize_affine.kernel(x, scale, zero, quant_min=-127, quant_max=127), scale]

    def decode(self, parts: Sequence[Array]) -> Array:
        codes, scale = parts
        return np.multiply(codes, scale, dtype=np.float32).astype(self.like.dtype, copy=False)

    def rounded(self, x: Array) -> Array:
        if not self.parts:
            self.like = x[:0]
        return super().rounded(x)


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
        """Put new positions behind those that are kept; returns all of them."""
        end = self.length + k.shape[2]
        if self.static and end > self.most:
            raise CacheError(f"StaticCache: {end} positions, but it was made for {self.most}; make it longer")
        self._make_room(k, v, end)
        new = (slice(self.rows), slice(None), slice(self.length, end))
        self.keys.write(new, k)
        self.values.write(new, v)
        self.length = end
        return from_numpy(self.keys.read(self.rows, end)), from_numpy(self.values.read(self.rows, end))

    def extend_window(self, k: Array, v: Array, plan: Plan) -> tuple[Tensor, Tensor]:
        """Put new positions where `plan` says; returns what was there and the new ones, or the places for a single one.

        The order of keys means nothing to attention: each was rotated by its own position.
        """
        self._make_room(k, v, max(plan.used, plan.before))
        if k.shape[2] == 1:
            self._place(k, v, plan)
            return self._read(plan.used)
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
        row, at = np.nonzero(plan.slots >= 0)
        slot = plan.slots[row, at]
        self.keys.write((row, slice(None), slot), k[row, :, at])
        self.values.write((row, slice(None), slot), v[row, :, at])
        self.length = plan.used

    @property
    def room(self) -> int:
        """How many positions there is memory for."""
        return self.keys.parts[0].shape[2] if self.keys.parts else 0

    def make_room(self, end: int) -> None:
        """Allocate memory for `end` positions of what is kept already."""
        if self.static and end > self.most:
            raise CacheError(f"StaticCache: {end} positions, but it was made for {self.most}; make it longer")
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
        """Copies filled positions of rows that change; half as many rows or fewer give the rest of the memory back."""
        if self.capacity / 2 < len(rows) <= self.capacity:
            self.keys.move(rows, self.length)
            self.values.move(rows, self.length)
        else:
            self.capacity = len(rows)
            for kind in (self.keys, self.values):
                kind.parts = kind.take(rows, 0, self.length, kind.parts[0].shape[2] if kind.parts else 0)
        self.rows = len(rows)
