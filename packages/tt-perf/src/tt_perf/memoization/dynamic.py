"""Module 17, memoization: the lesson. Keys and values of past positions are kept, so that a new token costs one row.

A causal transformer computes, for each position i, a query q_i, a key k_i and a value v_i, and attends

    out_i = softmax(q_i [k_0 ... k_i]^T) [v_0 ... v_i]

k_j and v_j depend only on tokens 0 to j, so they do not change when a token is added. Without a cache, generating n
tokens runs the model over 1 + 2 + ... + n positions, about n^2 / 2. With one, over n. The price is memory:
2 * layers * key-value heads * head size numbers for each token and text.

`DynamicCache` is this idea and nothing else: it joins new keys to the old ones, which copies them at each token.
`cache.py` computes the same without the copies.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import OutOfRangeError, ShapeError, TinyTorchError, shown
from tt_core.tensor import Tensor, as_array
from tt_core.tensor.creation import from_numpy
from tt_learn.autograd import GradientError

_MOST = 1 << 16
"""Rows for each row that is there; more is a typing error, and a list of all of them fits no memory."""


class CacheError(TinyTorchError, ValueError):
    """A cache that does not fit the model, the text or the option it is used with, or a damaged cache file."""


class DynamicCache:
    """Keys and values of each layer, joined along positions (see `tt_language.hookspecs.Past`).

    It goes into a model as `model(ids, past=cache)`; method names are those of Hugging Face's caches. Layers are told
    apart by a layer or by its number. Keys and values are (batch, key-value heads, positions, head size).

    >>> import tt_core
    >>> cache = DynamicCache()
    >>> k, v = cache.update(tt_core.ones(1, 2, 3, 8), tt_core.ones(1, 2, 3, 8), layer_idx=0)
    >>> k, v = cache.update(tt_core.zeros(1, 2, 1, 8), tt_core.zeros(1, 2, 1, 8), layer_idx=0)
    >>> k.shape, cache.get_seq_length(), cache.nbytes
    ((1, 2, 4, 8), 4, 512)
    """

    beyond = "crop"

    def __init__(self) -> None:
        self._keys: dict[Hashable, Array] = {}
        self._values: dict[Hashable, Array] = {}
        self.rows = 0

    @property
    def length(self) -> int:
        """How many positions were read; the next token has this position."""
        return max((keys.shape[2] for keys in self._keys.values()), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes allocated for keys and values."""
        return sum(array.nbytes for kept in (self._keys, self._values) for array in kept.values())

    @checked
    def extend(self, layer: Hashable, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Remember keys and values of new positions for one layer; returns all of that layer's, oldest first.

        Raises `GradientError` for those that require gradients, which would end here, and `CacheError` for shapes
        other than those that are remembered.
        """
        check_new(k, v)
        if layer in self._keys:
            check_alike(len(self._keys[layer]), self._keys[layer], k.data)
        for kept, new in ((self._keys, k.data), (self._values, v.data)):
            kept[layer] = np.concatenate([kept[layer], new], axis=2) if layer in kept else new.copy()
        self.rows = len(k.data)
        return from_numpy(self._keys[layer]), from_numpy(self._values[layer])

    @checked
    def select(self, rows: Sequence[int]) -> None:
        """Row i becomes what row `rows[i]` was; raises `OutOfRangeError` for a row that is not there."""
        chosen = checked_rows(rows, self.rows)
        for kept in (self._keys, self._values):
            for layer in kept:
                kept[layer] = kept[layer][chosen]
        self.rows = len(chosen)

    @checked
    def crop(self, max_length: int) -> None:
        """Keep the first `max_length` positions; a negative number removes as many from the end."""
        end = cropped_length(self.length, max_length)
        if not end:  # the next texts may be others, of any number
            self.clear()
        for kept in (self._keys, self._values):
            for layer in kept:
                kept[layer] = kept[layer][:, :, :end].copy()

    def clear(self) -> None:
        """Forget everything."""
        self._keys.clear()
        self._values.clear()

    # --- the names that Hugging Face's caches have

    @checked
    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, cache_kwargs: Any = None
    ) -> tuple[Tensor, Tensor]:
        """`extend` with the layer, or its number, behind; `cache_kwargs` is ignored."""
        return self.extend(layer_idx, key_states, value_states)

    @checked
    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many positions were read, by any layer."""
        return self.length

    def reorder_cache(self, beam_idx: Any) -> None:
        """`select` for beams: row i becomes what row `beam_idx[i]` was."""
        rows = as_array(beam_idx, what="reorder_cache: beam_idx")
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ShapeError(f"reorder_cache: beam_idx is a list of rows, got {shown(beam_idx)}")
        self.select(rows.tolist())

    @checked
    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row becomes `repeats` rows beside each other: several samples after one prompt."""
        check_least("batch_repeat_interleave", repeats=repeats)
        if repeats > _MOST:
            raise CacheError(f"batch_repeat_interleave: repeats is {repeats}, expected {_MOST} or fewer")
        self.select([row for row in range(self.rows) for _ in range(repeats)])


def check_new(k: Tensor, v: Tensor) -> None:
    """Raise for keys and values that no cache can keep."""
    if getattr(k, "requires_grad", False) or getattr(v, "requires_grad", False):
        raise GradientError("kv-cache: what is remembered gets no gradient; run the model under no_grad()")
    if k.ndim != 4 or v.ndim != 4 or k.shape[:3] != v.shape[:3]:
        raise CacheError(
            f"kv-cache: keys and values are (batch, heads, positions, size), got {tuple(k.shape)} and {tuple(v.shape)}"
        )


def check_alike(rows: int, kept: Array, new: Array) -> None:
    """Raise `CacheError` for a batch, heads, size or dtype other than what is remembered, (..., heads, ..., size)."""
    if rows != len(new):  # NumPy would repeat a single one
        raise CacheError(f"kv-cache: {rows} texts are remembered, got {len(new)}; start another cache")
    if (kept.shape[1], kept.shape[3], kept.dtype) != (new.shape[1], new.shape[3], new.dtype):
        raise CacheError(
            f"kv-cache: {kept.shape[1]} heads of {kept.shape[3]} {kept.dtype} are remembered, got {new.shape[1]} "
            f"of {new.shape[3]} {new.dtype}; the cache is of another model, or it changed"
        )


def cropped_length(length: int, max_length: int) -> int:
    """How many of `length` positions `crop(max_length)` keeps.

    >>> cropped_length(5, 3), cropped_length(5, -1), cropped_length(5, 9)
    (3, 4, 5)
    """
    return max(0, min(length, max_length if max_length >= 0 else length + max_length))


def check_least(what: str, **counts: int) -> None:
    """Raise `CacheError` for a count below 1."""
    for name, count in counts.items():
        if count < 1:
            raise CacheError(f"{what}: {name} is {count}, expected 1 or more")


def checked_rows(rows: Sequence[int], count: int) -> list[int]:
    """Rows as a list; raises `OutOfRangeError` for one that is none of `count`."""
    chosen = [int(row) for row in rows]
    wrong = next((row for row in chosen if not 0 <= row < count), None)
    if wrong is not None:
        raise OutOfRangeError(f"select: row {wrong} is none of the {count} rows of the cache")
    return chosen
