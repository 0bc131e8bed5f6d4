"""Part of module 17: how keys and values are stored, as floats or as int8 with scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.memoization.checks import CacheError
from tt_perf.quantization.affine import choose_qparams, quantize_affine


class Floats:
    """Keys or values of one layer, (capacity, heads, room, size), as they are."""

    names: tuple[str, ...] = ("",)
    """The suffix of each part's name in a file."""

    def __init__(self) -> None:
        self.parts: list[Array] = []
        self.like = np.empty((0, 0, 0, 0), np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return sum(part.nbytes for part in self.parts)

    def encode(self, x: Array) -> list[Array]:
        """The parts in which `x` is stored."""
        return [x]

    def decode(self, parts: Sequence[Array]) -> Array:
        """The numbers that the parts store; a view of them if nothing must be computed."""
        return parts[0]

    def write(self, index: Any, x: Array) -> None:
        """Store `x` at an index of the arrays."""
        for part, new in zip(self.parts, self.encode(x)):
            part[index] = new

    def read(self, rows: int, end: int) -> Array:
        """The first rows and positions."""
        return self.decode([part[:rows, :, :end] for part in self.parts])

    def rounded(self, x: Array) -> Array:
        """`x` as `read` returns it after it was stored."""
        return self.decode(self.encode(x))

    def reserve(self, capacity: int, room: int, like: Array, rows: int, length: int) -> None:
        """Allocates arrays for numbers such as `like`, and copies the filled part to them."""
        self.like = like[:0]
        parts = [np.zeros((capacity, part.shape[1], room, part.shape[3]), part.dtype)
                 for part in self.encode(like[:, :, :0])]  # fmt: skip
        for new, kept in zip(parts, self.parts if length else ()):
            new[:rows, :, :length] = kept[:rows, :, :length]
        self.parts = parts  # not before they are filled: another thread may copy this cache (`prefixes.py`)

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
        # one scale for each vector, since one large key would otherwise take the bits of all others
        scale, zero = choose_qparams(-largest, largest, -127, 127, symmetric=True)
        return [quantize_affine.kernel(x, scale, zero, quant_min=-127, quant_max=127), scale]

    def decode(self, parts: Sequence[Array]) -> Array:
        codes, scale = parts
        return np.multiply(codes, scale, dtype=np.float32).astype(self.like.dtype, copy=False)

    def rounded(self, x: Array) -> Array:
        if not self.parts:
            self.like = x[:0]
        return super().rounded(x)
