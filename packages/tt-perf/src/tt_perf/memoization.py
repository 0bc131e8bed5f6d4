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

from tt_core.creation import from_numpy
from tt_core.dispatch import Array
from tt_core.errors import ShapeError
from tt_core.hookspecs import hookimpl
from tt_core.layers import Layer
from tt_core.tensor import Tensor
from tt_language.hookspecs import Past
from tt_learn.autograd import GradientError


class KVCache:
    """Keys and values of one generation, in memory allocated once (see `tt_language.hookspecs.Past`).

    `rows` is the number of texts, `length` the number of positions made room for; more are made room for when needed.

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
            kept = self._kept[layer] = _Kept(k.data, v.data, self._room)
        return kept.extend(k.data, v.data)

    def select(self, rows: Sequence[int]) -> None:
        """Row i becomes what row `rows[i]` was."""
        for kept in self._kept.values():
            kept.keys, kept.values = kept.keys[list(rows)], kept.values[list(rows)]
        self.rows = len(rows)

    def clear(self) -> None:
        """Forget everything, and keep the memory for what comes."""
        for kept in self._kept.values():
            kept.length = 0


class _Kept:
    """One layer's keys and values; `length` positions of the allocated ones are filled."""

    def __init__(self, k: Array, v: Array, room: int) -> None:
        self.length = 0
        self.keys, self.values = self._allocate(k, room), self._allocate(v, room)

    @staticmethod
    def _allocate(like: Array, room: int) -> Array:
        rows, heads, new, size = like.shape
        return np.empty((rows, heads, max(room, new), size), like.dtype)

    def extend(self, k: Array, v: Array) -> tuple[Tensor, Tensor]:
        if len(k) != len(self.keys):  # NumPy would repeat a single one
            raise ShapeError(f"kv-cache: {len(self.keys)} texts are remembered, got {len(k)}; start another cache")
        end = self.length + k.shape[2]
        if end > self.keys.shape[2]:
            self._grow(max(end, 2 * self.keys.shape[2]), k, v)
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return from_numpy(self.keys[:, :, :end]), from_numpy(self.values[:, :, :end])

    def _grow(self, room: int, k: Array, v: Array) -> None:
        for name, like in (("keys", k), ("values", v)):
            old, new = getattr(self, name), self._allocate(like, room)
            new[:, :, : self.length] = old[:, :, : self.length]
            setattr(self, name, new)


class KVCachePlugin:
    """What `use("kv-cache")` activates."""

    @hookimpl
    def tt_past(self, model: Layer, rows: int, length: int) -> Past:
        return KVCache(rows, length)


plugin = KVCachePlugin()
