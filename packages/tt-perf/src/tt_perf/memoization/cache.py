"""Part of module 17: the KV cache of the plugin `kv-cache`. It gives the same keys and values as `DynamicCache`.

It adds spare capacity (`storage.py`), a sliding window (`window.py`), int8 in place of floats (`formats.py`), and the
token id of each column, by which the cache of a prompt is found again (`prefixes.py`) and saved (`files.py`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import is_integer, shown
from tt_core.tensor import Tensor, as_array
from tt_language import GPTConfig
from tt_perf.memoization.checks import CacheError, check_finished, check_least, check_new, checked_rows
from tt_perf.memoization.dynamic import DynamicCache, cropped_length
from tt_perf.memoization.formats import Floats, Int8
from tt_perf.memoization.storage import LayerMemory
from tt_perf.memoization.window import Plan, Slots

BEYOND = ("crop", "error", "window")
"""What happens to a text that is longer than the context; see `tt_language.hookspecs.Past`."""
_PADDING = -1


class KVCache(DynamicCache):
    """Keys and values of one generation (see `tt_language.hookspecs.Past`).

    `rows` is the number of texts, and `length` the largest number of positions to expect. Memory doubles as the text
    grows, so a long context costs nothing until it is used, and the cache can exceed both numbers. `static` allocates
    `length` positions at once and raises an error beyond them.

    `window` keeps only the last `window` positions and the first `keep`. `dtype="int8"` stores keys and values as
    integers of one byte, with a scale for each vector. `beyond` decides what `generate` does with a text that is longer
    than the context: "crop" drops its older half and reads the rest again, "error" raises; with a `window` it is
    "window". Raises `CacheError` for options out of range.

    >>> import tt_core
    >>> cache, layer = KVCache(rows=1, length=4), tt_core.Layer()
    >>> k, v = cache.extend(layer, tt_core.ones(1, 2, 3, 8), tt_core.ones(1, 2, 3, 8))
    >>> k, v = cache.extend(layer, tt_core.zeros(1, 2, 1, 8), tt_core.zeros(1, 2, 1, 8))
    >>> k.shape, cache.length, cache.nbytes
    ((1, 2, 4, 8), 4, 512)
    """

    @checked
    def __init__(
        self,
        rows: int = 1,
        length: int = 1 << 40,
        *,
        window: int | None = None,
        keep: int = 0,
        dtype: str | None = None,
        static: bool = False,
        beyond: str = "crop",
    ) -> None:
        check_options(window, keep, dtype, beyond)
        check_least("KVCache", rows=rows, length=length)
        self.rows, self.dtype, self.static = rows, dtype, static
        self.window, self.keep = window, keep
        self.beyond = beyond if window is None else "window"
        self.tokens: list[list[int]] = []
        """The ids that each row has read; -1 for padding. Empty if the model does not call `begin`."""
        self.moves = 0
        """Incremented before and after a change of what was read (see `_moving`)."""
        self._room = length
        self._layers: list[LayerMemory] = []
        self._places: dict[Hashable, int] = {}
        self._slots = None if window is None else Slots(window, keep)
        self._plan: Plan | None = None
        self._extended: list[LayerMemory] = []  # the layers that have used this plan

    @property
    def length(self) -> int:
        """The number of positions read so far, which is the position of the next token."""
        if self._slots is not None:
            return self._slots.columns_read
        return max((layer.length for layer in self._layers), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes allocated for keys and values."""
        return sum(layer.nbytes for layer in self._layers)

    def begin(self, ids: Tensor | Array, positions: Tensor | None, attn_mask: Tensor | Array | None) -> Any:
        """Records the ids that a call of the model reads, before its layers extend; returns their attention mask.

        ids (rows, new) or (new,), positions (rows, new) or (new,), attn_mask (rows, heads or 1, new, length + new).
        """
        given = np.atleast_2d(as_array(ids))  # (rows, new)
        rows, new = given.shape
        self._check_finished()
        if self.tokens and len(self.tokens) != rows:
            raise CacheError(f"kv-cache: the cache holds {len(self.tokens)} texts, got {rows}; start another cache")
        real = _real(attn_mask, rows, new)
        start = self.length
        if len(self.tokens) == rows or start == 0:
            self.tokens = self.tokens or [[] for _ in range(rows)]
            for text, row in zip(self.tokens, np.where(real, given, _PADDING).tolist()):
                text += row
        if self._slots is None:
            return attn_mask
        where = np.arange(start, start + new) if positions is None else as_array(positions)
        self._extended = []
        self._plan, mask = self._slots.read(np.broadcast_to(where, (rows, new)), real, attn_mask)
        return mask

    @checked
    def extend(self, layer: Hashable, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Stores keys and values of new positions for one layer; returns those that the new queries may see.

        k (rows, heads, new, head size) and v alike; the results are (rows, heads, length + new, head size). Raises
        `GradientError` for tensors that require gradients, which would be lost here, and `CacheError` for another
        layer, batch size or shape than the cache holds.
        """
        check_new(k, v)
        memory = self._memory_of(layer, k.shape[2])
        if self._slots is None:
            return memory.extend(k.data, v.data)
        plan = self._plan
        if plan is None or plan.slots.shape != (len(k.data), k.shape[2]) or memory in self._extended:
            raise CacheError("kv-cache: a window needs a model that calls begin() first, as tt_language.GPT does")
        self._extended.append(memory)
        return memory.extend_window(k.data, v.data, plan)

    def _check_finished(self) -> None:
        if self._plan is None:
            lengths = [layer.length for layer in self._layers]
            check_finished(lengths, min(lengths, default=0))
        elif self._slots is not None:  # full windows keep their length, so count the calls of this plan
            calls = [self._extended.count(layer) for layer in self._layers]
            check_finished(calls, self._slots.columns_read - self._plan.slots.shape[1])

    def _memory_of(self, layer: Hashable, new: int) -> LayerMemory:
        """A layer's memory; layers are identified by the order of their first calls, so that a loaded cache fits."""
        index = layer if isinstance(layer, int) else self._places.setdefault(layer, len(self._places))
        if index == len(self._layers) and self.length in ((new,) if self._layers else (0, new)):
            self._layers.append(LayerMemory(self.rows, self._room, KINDS[self.dtype], self.static))
        if not 0 <= index < len(self._layers):
            self._places.pop(layer, None)
            raise CacheError(
                f"kv-cache: the cache holds {len(self._layers)} layers of {self.length} positions, and this layer is "
                f"not one of them; the cache is of another model"
            )
        return self._layers[index]

    def column(self) -> tuple[Array, int]:
        """The slot of the new position in each row (rows,), and the number of slots in use after it."""
        if self._slots is None or self._plan is None:
            return np.full(self.rows, self.length), self.length + 1
        return self._plan.slots[:, 0], self._plan.used

    def with_room(self, layers: Sequence[Any], columns: int) -> list[LayerMemory]:
        """The memory of each attention layer, with room for `columns`, for code that writes without `extend`.

        That code must update the `length` of each memory. Raises `CacheError` for an unknown layer.
        """
        found = []
        for layer in layers:
            memory = self._memory_of(layer, 0)
            if columns > memory.room:
                memory.make_room(columns)
            found.append(memory)
        self._extended = list(found)
        return found

    @checked
    def select(self, rows: Sequence[int]) -> None:
        """Row i becomes the former row `rows[i]`, for beams that fork and texts that have ended."""
        chosen = checked_rows(rows, max((layer.rows for layer in self._layers), default=self.rows))
        with self._moving():
            for layer in self._layers:
                layer.select(chosen)
            if self._slots is not None:
                self._slots.select(chosen)
            if self.tokens:
                self.tokens = [list(self.tokens[row]) for row in chosen]
            self.rows = len(chosen)

    @checked
    def crop(self, max_length: int) -> None:
        """Keeps the first `max_length` positions; a negative number removes that many from the end.

        Raises `CacheError` if the window has dropped a position that would be needed again.
        """
        end = cropped_length(self.length, max_length)
        if not end:
            self.clear()
        elif self._slots is not None:
            self._crop_window(self._slots, end)
        else:
            with self._moving():
                for layer in self._layers:
                    layer.length = min(layer.length, end)
                self.tokens = [text[:end] for text in self.tokens]

    def _crop_window(self, slots: Slots, end: int) -> None:
        if end < self.length and not slots.complete:
            raise CacheError(
                f"kv-cache: cannot crop to {end}: the window of {self.window} has dropped earlier positions; "
                f"read the text again"
            )
        slots.crop(end)
        self._plan = None
        for layer in self._layers:
            layer.length = slots.used
        self.tokens = [text[:end] for text in self.tokens]

    def clear(self) -> None:
        """Removes all positions; the memory stays allocated."""
        with self._moving():
            for layer in self._layers:
                layer.length = 0
            if self._slots is not None:
                self._slots.clear()
            self._plan = None
            self._places.clear()
            self.tokens = []

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """A block that changes what was read; another thread sees an odd number of `moves` meanwhile."""
        self.moves += 1
        try:
            yield
        finally:
            self.moves += 1

    @property
    def depth(self) -> int:
        """The number of layers that have stored keys and values."""
        return len(self._layers)

    @property
    def is_whole(self) -> bool:
        """Whether the cache holds every position that was read, in order, with its token."""
        known = bool(self.tokens) and all(len(text) == self.length for text in self.tokens)
        return known and self._slots is None and all(layer.length == self.length for layer in self._layers)


class Rows(Protocol):
    """A cache of several rows, from which `part_of` copies."""

    dtype: str | None
    static: bool
    beyond: str
    tokens: list[list[int]]
    _layers: list[LayerMemory]


def part_of(cache: Rows, row: int, start: int, end: int, rows: int, length: int) -> KVCache:
    """A new cache that begins with a copy of columns `start` to `end` of one row, for `rows` texts of `length`."""
    new = KVCache(rows, length, dtype=cache.dtype, static=cache.static, beyond=cache.beyond)
    room = max(length if cache.static else 0, end - start)
    for layer in cache._layers:
        made = LayerMemory(rows, length, KINDS[cache.dtype], cache.static)
        for kind, old in ((made.keys, layer.keys), (made.values, layer.values)):
            kind.parts, kind.like = old.take([row], start, end, room), old.like
        made.capacity, made.rows, made.length = 1, 1, end - start
        new._layers.append(made)
    new.tokens = [cache.tokens[row][start:end]]
    return new


def arrays_of(cache: KVCache) -> dict[str, Array]:
    """The filled arrays by name: `layer.0.keys`, `layer.0.values`; in int8 also `layer.0.keys_scale` and so on."""
    found = {}
    for i, layer in enumerate(cache._layers):
        for name, kind in (("keys", layer.keys), ("values", layer.values)):
            for ending, part in zip(kind.names, kind.parts):
                found[f"layer.{i}.{name}{ending}"] = part[: layer.rows, :, : layer.length]
    return found


def dtype_of(cache: KVCache) -> np.dtype[Any]:
    """The dtype of the model's keys."""
    return cache._layers[0].keys.like.dtype


def restored(arrays: dict[str, Array], tokens: list[list[int]], dtype: str | None, like: np.dtype[Any]) -> KVCache:
    """The cache that `arrays_of` turned into these arrays; `like` is the dtype of the model's keys."""
    cache = KVCache(len(tokens), dtype=dtype)
    cache.tokens = tokens
    for i in range(len(arrays) // (2 * len(KINDS[dtype].names))):
        layer = LayerMemory(cache.rows, 1 << 40, KINDS[dtype])
        for name, kind in (("keys", layer.keys), ("values", layer.values)):
            kind.parts = [arrays[f"layer.{i}.{name}{ending}"].copy() for ending in kind.names]
            kind.like = np.empty((0, *kind.parts[0].shape[1:]), like)
        layer.rows, layer.length = cache.rows, layer.keys.parts[0].shape[2]
        cache._layers.append(layer)
    return cache


KINDS: dict[str | None, type[Floats]] = {None: Floats, "int8": Int8}
"""The storage formats of keys and values, by the option `dtype`."""


class StaticCache(KVCache):
    """A `KVCache` that is allocated once for `max_cache_len` positions, and raises an error beyond them.

    `config` is the model's configuration. By default, the cache is as long as the context. Raises `CacheError` for a
    longer one.

    >>> from tt_language import GPTConfig
    >>> StaticCache(GPTConfig(vocab_size=9, block_size=16, n_layer=1, n_head=1, n_embd=4)).max_cache_len
    16
    """

    @checked
    def __init__(
        self, config: GPTConfig, max_cache_len: int | None = None, max_batch_size: int = 1, dtype: str | None = None
    ) -> None:
        context = config.block_size
        length = context if max_cache_len is None else max_cache_len
        if not 1 <= length <= context:
            raise CacheError(f"StaticCache: max_cache_len is {length}, expected 1 to the model's context, {context}")
        super().__init__(max_batch_size, length, dtype=dtype, static=True)
        self.max_cache_len = length


def check_options(window: object, keep: object, dtype: object, beyond: object) -> None:
    """Raises `CacheError` for options out of range."""
    if window is not None and not is_integer(window, 1):
        raise CacheError(f"kv-cache: window is {shown(window)}, expected a number of positions, 1 or more")
    if not is_integer(keep, 0):
        raise CacheError(f"kv-cache: keep is {shown(keep)}, expected a number of positions, 0 or more")
    if not (dtype is None or isinstance(dtype, str)) or dtype not in KINDS:
        raise CacheError(f"kv-cache: dtype is {shown(dtype)}, expected int8, or None for the model's dtype")
    if not isinstance(beyond, str) or beyond not in BEYOND:
        raise CacheError(f"kv-cache: beyond is {shown(beyond)}, expected one of {', '.join(BEYOND)}")


def _real(attn_mask: Any, rows: int, new: int) -> Array:
    """(rows, new), False for padding: new columns that the mask hides from every query."""
    if attn_mask is None:
        return np.ones((rows, new), bool)
    mask = as_array(attn_mask)  # (rows, heads or 1, new, length + new)
    if mask.dtype != np.bool_ or mask.ndim != 4:
        return np.ones((rows, new), bool)
    return np.broadcast_to(mask[..., -new:].any((1, 2)), (rows, new))
