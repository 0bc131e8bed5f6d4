"""Module 17, memoization: keys and values of attention kept between tokens, so that each new token costs one row.

Without a cache, generating token n runs the model over all n tokens before it: n^2 work for n tokens. What those
earlier tokens contribute to attention, their keys and values, does not change when a token is added, so it can be kept.
The plugin `kv-cache` answers the hook that tt_language declares for this; the transformer's code knows nothing of it,
and the tokens are the same with and without.

What it costs is memory: 2 * layers * key-value heads * head size numbers for each token and text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ShapeError
from tt_core.engine.hookspecs import hookimpl
from tt_core.layers import Layer
from tt_core.tensor import Tensor
from tt_core.tensor.creation import from_numpy
from tt_language.hookspecs import Past
from tt_learn.autograd import GradientError


class KVCache:
    """Keys and values of one generation (see `tt_language.hookspecs.Past`).

    `rows` is the number of texts and `length` the number of positions expected at most. Memory grows with the text by
    doubling, so a long context costs nothing until it is used. More texts or positions than expected are held too.

    >>> import tt_core
    >>> cache, layer = KVCache(rows=1, length=4), Layer()
    >>> k, v = cache.extend(layer, tt_core.ones(1, 2, 3, 8), tt_core.ones(1, 2, 3, 8))
    >>> k, v = cache.extend(layer, tt_core.zeros(1, 2, 1, 8), tt_core.zeros(1, 2, 1, 8))
    >>> k.shape, cache.length, cache.nbytes
    ((1, 2, 4, 8), 4, 512)
    """

    def __init__(self, rows: int, length: int) -> None:
        self.rows, self._room = rows, length
        self._kept: dict[Layer, _Kept] = {}

    @property
    def length(self) -> int:
        """How many positions are remembered."""
        return max((kept.length for kept in self._kept.values()), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes allocated for keys and values."""
        return sum(kept.keys.nbytes + kept.values.nbytes for kept in self._kept.values())

    def extend(self, layer: Layer, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Remember (batch, heads, new, size) keys and values of a layer, and give back all of that layer's.

        Raises `GradientError` for those that require gradients, which would end here, and `ShapeError` for a batch
        other than the one that is remembered.
        """
        if getattr(k, "requires_grad", False) or getattr(v, "requires_grad", False):
            raise GradientError("kv-cache: what is remembered gets no gradient; run the model under no_grad()")
        kept = self._kept.get(layer)
        if kept is None:
            kept = self._kept[layer] = _Kept(max(self.rows, len(k.data)), self._room)
        return kept.extend(k.data, v.data)

    def select(self, rows: Sequence[int]) -> None:
        """Row i becomes what row `rows[i]` was."""
        for kept in self._kept.values():
            kept.select(list(rows))
        self.rows = len(rows)

    def clear(self) -> None:
        """Forget everything, and keep the memory for what comes."""
        for kept in self._kept.values():
            kept.length = 0


_FIRST = 256
"""Positions allocated at first, beyond those that are there already."""


class _Kept:
    """One layer's keys and values, (capacity, heads, room, size); the first `rows` and `length` of them are filled."""

    def __init__(self, rows: int, most: int) -> None:
        self.capacity, self.most = rows, most
        self.rows = self.length = 0
        self.keys = self.values = np.empty((0, 0, 0, 0), np.float32)

    def extend(self, k: Array, v: Array) -> tuple[Tensor, Tensor]:
        if self.length and len(k) != self.rows:  # NumPy would repeat a single one
            raise ShapeError(f"kv-cache: {self.rows} texts are remembered, got {len(k)}; start another cache")
        end, room = self.length + k.shape[2], self.keys.shape[2]
        self.rows = len(k)
        if self.rows > len(self.keys) or end > room:
            self.capacity = max(self.capacity, self.rows)
            room = max(end, min(self.most, max(2 * room, end + _FIRST)))
            self.keys, self.values = (self._moved(old, new, room) for old, new in ((self.keys, k), (self.values, v)))
        self.keys[: self.rows, :, self.length : end] = k
        self.values[: self.rows, :, self.length : end] = v
        self.length = end
        return from_numpy(self.keys[: self.rows, :, :end]), from_numpy(self.values[: self.rows, :, :end])

    def _moved(self, old: Array, like: Array, room: int) -> Array:
        """What is filled, in an array with more room."""
        result = np.empty((self.capacity, like.shape[1], room, like.shape[3]), like.dtype)
        if self.length:
            result[: self.rows, :, : self.length] = old[: self.rows, :, : self.length]
        return result

    def select(self, rows: list[int]) -> None:
        """Copies filled positions of rows that change; half as many rows or fewer give the rest of the memory back."""
        if self.capacity / 2 < len(rows) <= self.capacity:
            moved = [i for i, row in enumerate(rows) if row != i]
            sources = [rows[i] for i in moved]
            for kept in (self.keys, self.values) if moved else ():
                kept[moved, :, : self.length] = kept[sources, :, : self.length]
        else:
            self.capacity = len(rows)
            self.keys, self.values = self._selected(self.keys, rows), self._selected(self.values, rows)
        self.rows = len(rows)

    def _selected(self, old: Array, rows: list[int]) -> Array:
        result = np.empty((len(rows), *old.shape[1:]), old.dtype)
        result[:, :, : self.length] = old[rows, :, : self.length]
        return result


class KVCachePlugin:
    """What `use("kv-cache")` activates."""

    @hookimpl
    def tt_past(self, model: Layer, rows: int, length: int) -> Past:
        return KVCache(rows, length)


plugin = KVCachePlugin()
