"""Part of module 17: a KV cache for a server. Its rows have different lengths, and can be added and removed.

`KVCache` pads a batch, so that all rows grow by the same columns. Here, each row begins at column 0 and has its own
length. A call of the model reads some of the rows, with a different number of new tokens in each:

    row 0   k k k k k k n .        k: the key of an earlier token
    row 1   k k n n n . . .        n: the key of a new token
    row 2   k k k n . . . .        .: not part of this row, hidden by the mask

When a row is removed, the last row takes its place. So rows stay contiguous, and attention reads them without a copy.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.layers import Layer
from tt_core.tensor import Tensor
from tt_core.tensor.creation import from_numpy, tensor
from tt_learn.training import evaluating
from tt_perf.memoization.cache import KINDS, KVCache, check_options, part_of
from tt_perf.memoization.checks import CacheError, check_alike, check_least, check_new, checked_rows
from tt_perf.memoization.storage import LayerMemory

_FIRST = 256
"""Positions allocated at first."""


class RowCache:
    """Keys and values of up to `rows` texts of up to `length` positions (see `tt_language.hookspecs.Past`).

    `add` makes a new row, `read` lets a model read tokens into some rows, and `remove` removes a row. `dtype` is as in
    `KVCache`. Memory grows with the rows and their lengths, and is freed when the last row is removed. Raises
    `CacheError` for options out of range.

    >>> from tt_language import GPT, GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=10, block_size=8, n_layer=1, n_head=2, n_embd=8))
    >>> cache = RowCache(rows=2, length=8)
    >>> rows = [cache.add(), cache.add()]
    >>> cache.read(model, rows, [[1, 2, 3], [4]]).shape
    (2, 1, 10)
    >>> cache.read(model, rows, [[5], [6]]).shape
    (2, 1, 10)
    >>> cache.tokens
    [[1, 2, 3, 5], [4, 6]]
    """

    beyond = "crop"
    static = False

    @checked
    def __init__(self, rows: int, length: int, *, dtype: str | None = None) -> None:
        check_options(None, 0, dtype, self.beyond)
        check_least("RowCache", rows=rows, length=length)
        self.most, self.room, self.dtype = rows, length, dtype
        self.tokens: list[list[int]] = []
        """The ids that each row holds."""
        self._layers: list[LayerMemory] = []
        self._places: dict[Hashable, int] = {}
        self._plan = _Plan([], [], [])

    @property
    def length(self) -> int:
        """The number of positions before the new ones of the call, in the longest row."""
        return self._plan.end - self._plan.new

    @property
    def nbytes(self) -> int:
        """Bytes allocated for keys and values."""
        return sum(layer.nbytes for layer in self._layers)

    # --- rows

    @checked
    def add(self, beginning: KVCache | None = None) -> int:
        """Adds a row after the last one and returns its number; it begins with a copy of `beginning`, if given.

        Raises `CacheError` if all rows are taken, and for a `beginning` that lacks tokens or positions.
        """
        if len(self.tokens) == self.most:
            raise CacheError(f"RowCache: all {self.most} rows are taken; remove one first")
        if beginning is None:
            self.tokens.append([])
            return len(self.tokens) - 1
        if not beginning.is_whole or beginning.rows != 1 or beginning.dtype != self.dtype:
            raise CacheError("RowCache: beginning is a cache of one text, with all tokens, this dtype and no window")
        row = len(self.tokens)
        for index, old in enumerate(beginning._layers):
            memory = self._memory(index)
            self._make_room(memory, old.keys.like, old.values.like, row + 1, beginning.length)
            for new, kept in ((memory.keys, old.keys), (memory.values, old.values)):
                for part, source in zip(new.parts, kept.parts):
                    part[row, :, : beginning.length] = source[0, :, : beginning.length]
        self.tokens.append(list(beginning.tokens[0]))
        return row

    @checked
    def remove(self, row: int) -> None:
        """Removes a row; the last row takes its number."""
        checked_rows([row], len(self.tokens))
        last = len(self.tokens) - 1
        end = len(self.tokens[last])
        for layer in self._layers if row != last and end else ():
            for kind in (layer.keys, layer.values):
                for part in kind.parts:
                    part[row, :, :end] = part[last, :, :end]
        self.tokens[row] = self.tokens[last]
        self.tokens.pop()
        if not self.tokens:
            self._layers.clear()

    @checked
    def clear(self, row: int) -> None:
        """Empties a row, so that it can read another text."""
        checked_rows([row], len(self.tokens))
        self.tokens[row] = []

    @checked
    def copy(self, row: int) -> KVCache:
        """A copy of a row as a `KVCache`."""
        checked_rows([row], len(self.tokens))
        end = len(self.tokens[row])
        return part_of(self, row, 0, end, 1, max(1, end))

    # --- reading

    @checked
    def read(self, model: Layer, rows: Sequence[int], new: Sequence[Sequence[int]], logits_to_keep: int = 1) -> Array:
        """Lets `model` read new tokens at the end of each of `rows`; returns logits (rows, logits_to_keep, vocabulary).

        Shorter texts are padded on the left, so that the last logits of each row follow its last token. If the model
        raises, the rows stay as they were. Raises `CacheError` for texts that are empty or do not fit, and
        `OutOfRangeError` for a row that does not exist.
        """
        chosen = checked_rows(rows, len(self.tokens))
        if len(new) != len(chosen) or not chosen or not all(new):
            raise CacheError(f"RowCache: each of {len(chosen)} rows reads 1 token or more, got {len(new)} texts")
        plan = _Plan(chosen, [len(self.tokens[row]) for row in chosen], [len(text) for text in new])
        if plan.end > self.room:
            raise CacheError(f"RowCache: the text needs {plan.end} positions, the cache has {self.room}")
        self._plan = plan
        ids = np.array([[*[0] * (plan.new - len(text)), *text] for text in new])  # (rows, new)
        options: dict[str, Any] = {"past": self, "logits_to_keep": logits_to_keep}
        with evaluating(model):
            logits: Array = model(tensor(ids), positions=tensor(plan.positions()), **options).data
        for row, text in zip(chosen, new):
            self.tokens[row] += text
        return logits

    def begin(self, ids: Tensor | Array, positions: Tensor | None, attn_mask: Tensor | Array | None) -> Any:
        """The mask of a call, (rows, 1, new, end): a query sees the keys of its row up to its own position."""
        if attn_mask is not None or tuple(ids.shape) != (len(self._plan.rows), self._plan.new):
            raise CacheError("RowCache: call read(), which calls the model; it takes no attn_mask")
        return self._plan.mask()

    @checked
    def extend(self, layer: Hashable, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Stores keys and values of the new tokens; returns those of the rows of this call, up to the longest row.

        k and v (rows, heads, new, head size); the results are (rows, heads, end, head size). Raises `GradientError` for
        tensors that require gradients, and `CacheError` for shapes of another model.
        """
        check_new(k, v)
        plan = self._plan
        memory = self._memory(self._places.setdefault(layer, len(self._places)))
        self._make_room(memory, k.data, v.data, max(plan.rows, default=0) + 1, plan.end)
        row, at = plan.real  # (new tokens,) each: padding is not stored
        place = (np.asarray(plan.rows)[row], slice(None), plan.columns[row, at])
        memory.keys.write(place, k.data[row, :, at])
        memory.values.write(place, v.data[row, :, at])
        found = [kind.decode([part[plan.where, :, : plan.end] for part in kind.parts])
                 for kind in (memory.keys, memory.values)]  # fmt: skip
        return from_numpy(found[0]), from_numpy(found[1])

    def _memory(self, index: int) -> LayerMemory:
        if index == len(self._layers):
            self._layers.append(LayerMemory(0, self.room, KINDS[self.dtype]))
        return self._layers[index]

    def _make_room(self, memory: LayerMemory, k: Array, v: Array, rows: int, end: int) -> None:
        """Allocates memory for `rows` rows of `end` positions, and keeps the contents of earlier rows."""
        filled = max(map(len, self.tokens), default=0)
        capacity, room = (memory.keys.parts[0].shape[0], memory.keys.parts[0].shape[2]) if memory.keys.parts else (0, 0)
        if memory.keys.parts:
            check_alike(len(k), memory.keys.like, k)
            check_alike(len(v), memory.values.like, v)
        if rows <= capacity and end <= room:
            return
        rows = capacity if rows <= capacity else min(self.most, max(2 * capacity, rows))
        wanted = room if end <= room else min(self.room, max(2 * room, end, _FIRST))
        for kind, new in ((memory.keys, k), (memory.values, v)):
            kind.reserve(rows, wanted, new, capacity, min(filled, room))


class _Plan:
    """The rows that a call reads, the position at which each begins, and the number of its new tokens.

    The new tokens are the last columns of a row. So causal attention, in which the last query sees the last key, hides
    nothing that the mask shows.
    """

    def __init__(self, rows: list[int], starts: list[int], counts: list[int]) -> None:
        self.rows = rows
        self.new = max(counts, default=0)
        self.end = max((start + count for start, count in zip(starts, counts)), default=0)
        dense = rows == list(range(len(rows)))
        self.where: Any = slice(0, len(rows)) if dense else rows
        ends = np.array(starts) + np.array(counts)
        self.columns = ends.reshape(-1, 1) + np.arange(-self.new, 0)
        """(rows, new), the position of each token; for padding, a position before the new tokens of its row."""
        self.real = np.nonzero(np.arange(-self.new, 0) >= -np.array(counts).reshape(-1, 1))
        """The row and the column of each token that is not padding."""

    def positions(self) -> Array:
        """(rows, new), the position of each token; 0 for padding that lies before the text."""
        return np.maximum(self.columns, 0)

    def mask(self) -> Tensor | None:
        """(rows, 1, new, end), or None if causal attention hides the same keys."""
        if (self.columns[:, -1] == self.end - 1).all():
            return None
        return from_numpy((np.arange(self.end) <= self.columns[:, :, None])[:, None])
