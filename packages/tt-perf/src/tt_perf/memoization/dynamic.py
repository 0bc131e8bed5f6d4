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
from typing import TYPE_CHECKING

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ShapeError, shown
from tt_core.tensor import Tensor, as_array
from tt_core.tensor.creation import from_numpy
from tt_perf.memoization.checks import MOST_REPEATS, CacheError, check_alike, check_least, check_new, checked_rows

if TYPE_CHECKING:
    from tt_core.engine.hints import TensorLike


class DynamicCache:
    """Keys and values of each layer, joined along positions (see `tt_language.hookspecs.Past`).

    It goes into a model as `model(ids, past=cache)`; method names are those of Hugging Face's caches. Each layer's
    entry is named by the layer or its number. Keys and values are (batch, key-value heads, positions, head size).

    >>> import tt_core
    >>> cache = DynamicCache()
    >>> k, v = cache.update(tt_core.ones(1, 2, 3, 8), tt_core.ones(1, 2, 3, 8), layer_idx=0)
    >>> k, v = cache.update(tt_core.zeros(1, 2, 1, 8), tt_core.zeros(1, 2, 1, 8), layer_idx=0)
    >>> k.shape, cache.get_seq_length(), cache.nbytes
    ((1, 2, 4, 8), 4, 512)
    """

    beyond = "crop"

    def __init__(self) -> None:
        # by layer: (rows, key-value heads, positions, head size)
        self._keys: dict[Hashable, Array] = {}
        self._values: dict[Hashable, Array] = {}
        self.rows = 0

    @property
    def length(self) -> int:
        """The number of positions read so far, which is the position of the next token."""
        return max((keys.shape[2] for keys in self._keys.values()), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes allocated for keys and values."""
        return sum(array.nbytes for kept in (self._keys, self._values) for array in kept.values())

    @checked
    def extend(self, layer: Hashable, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Stores keys and values of new positions for one layer; returns all of that layer's, oldest first.

        Raises `GradientError` for keys or values that require gradients, since these would be lost, and `CacheError`
        for shapes other than those of the stored ones.
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
        """Row i becomes the former row `rows[i]`; raises `OutOfRangeError` for a row that does not exist."""
        # beams: the best continuations may all come from one row, whose past they then share
        chosen = checked_rows(rows, self.rows)
        for kept in (self._keys, self._values):
            for layer in kept:
                kept[layer] = kept[layer][chosen]
        self.rows = len(chosen)

    @checked
    def crop(self, max_length: int) -> None:
        """Keep the first `max_length` positions; a negative number removes that many from the end."""
        end = cropped_length(self.length, max_length)  # positions that stay
        if not end:  # the next texts may be others, of any number
            self.clear()
        for kept in (self._keys, self._values):
            for layer in kept:
                kept[layer] = kept[layer][:, :, :end].copy()

    def clear(self) -> None:
        """Removes all positions."""
        self._keys.clear()
        self._values.clear()

    # --- the names that Hugging Face's caches have

    @checked
    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, cache_kwargs: object = None
    ) -> tuple[Tensor, Tensor]:
        """`extend` with the layer or its number as the last argument; `cache_kwargs` is ignored."""
        return self.extend(layer_idx, key_states, value_states)

    @checked
    def get_seq_length(self, layer_idx: int = 0) -> int:
        """The number of positions read so far."""
        return self.length

    def reorder_cache(self, beam_idx: TensorLike) -> None:
        """`select` for beams: row i becomes the former row `beam_idx[i]`."""
        rows = as_array(beam_idx, what="reorder_cache: beam_idx")
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ShapeError(f"reorder_cache: beam_idx is a list of rows, got {shown(beam_idx)}")
        self.select(rows.tolist())

    @checked
    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row becomes `repeats` adjacent rows, for several samples of one prompt."""
        check_least("batch_repeat_interleave", repeats=repeats)
        if repeats > MOST_REPEATS:
            raise CacheError(f"batch_repeat_interleave: repeats is {repeats}, expected {MOST_REPEATS} or fewer")
        self.select([row for row in range(self.rows) for _ in range(repeats)])


def cropped_length(length: int, max_length: int) -> int:
    """How many of `length` positions `crop(max_length)` keeps.

    >>> cropped_length(5, 3), cropped_length(5, -1), cropped_length(5, 9)
    (3, 4, 5)
    """
    return max(0, min(length, max_length if max_length >= 0 else length + max_length))
