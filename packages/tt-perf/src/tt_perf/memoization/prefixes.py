"""Part of module 17: caches of earlier texts, found by their tokens, so that a common beginning is read only once.

A cache is reused only for the model that filled it, while that model is unchanged (`tt_perf.versions`), and only up to
the first token that differs. Ids are compared one by one, so that no hash collision can confuse texts. The least
recently used caches are dropped when all caches together exceed the allowed bytes.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tt_core.layers import Layer
from tt_language.attention import MultiHeadAttention
from tt_perf.memoization.cache import KVCache, part_of
from tt_perf.versions import Version


@dataclass(eq=False)
class _Entry:
    model: weakref.ref[Layer]
    cache: KVCache


class _Found(NamedTuple):
    """A match: columns `start` to `start + known` of a row are the beginning of the prompts."""

    known: int
    entry: _Entry
    row: int
    start: int
    moves: int
    """`KVCache.moves` before the search."""


class PrefixStore:
    """Caches of at most `max_bytes`, least recently used first, with counts of what they saved. It is thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.hits = self.misses = 0
        self.positions_reused = self.positions_asked = 0
        self._entries: list[_Entry] = []
        self._versions: weakref.WeakKeyDictionary[Layer, Version] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """The bytes of all caches together."""
        return sum(entry.cache.nbytes for entry in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, model: Layer, prompts: Sequence[Sequence[int]], rows: int, length: int) -> KVCache | None:
        """A new cache that holds the longest known beginning of all `prompts`, or None if none is known.

        The last token of each prompt is never included: the model must read it, since its logits are needed.
        """
        wanted = min(common_length(prompts), min(map(len, prompts)) - 1)
        with self._lock:
            self._forget_changed(model)
            self.positions_asked += sum(map(len, prompts))
            found = self._longest(model, list(prompts[0][:wanted]))
            copied = None if found is None else _copied(found, rows, length)
            if found is None or copied is None:
                self.misses += 1
                return None
            self.hits += 1
            self.positions_reused += found.known * len(prompts)
            self._entries.remove(found.entry)
            self._entries.append(found.entry)
            return copied

    def _longest(self, model: Layer, beginning: list[int]) -> _Found | None:
        best, longest, depth = None, 0, _attention_layers(model)
        for entry in self._entries:
            moves, cache = entry.cache.moves, entry.cache
            for row, tokens in enumerate(cache.tokens if entry.model() is model else ()):
                if longest == len(beginning):
                    return best
                start = next((i for i, token in enumerate(tokens) if token >= 0), len(tokens))  # after the padding
                after = start + longest
                if tokens[after : after + 1] != beginning[longest : longest + 1]:
                    continue  # one token shows that this match is not longer
                if not cache.is_whole or cache.depth < depth:
                    continue  # another thread fills this cache now, or an error ended that
                known = common_length([tokens[start:], beginning])
                if known > longest:
                    best, longest = _Found(known, entry, row, start, moves), known
        return best

    def add(self, model: Layer, cache: KVCache) -> None:
        """Adds `cache`, which may still grow, and drops the caches of texts that are its beginning."""
        with self._lock:
            self._forget_changed(model)
            self._entries = [entry for entry in self._entries if entry.model() is not model or not _holds(cache, entry)]
            self._entries.append(_Entry(weakref.ref(model), cache))

    def newest(self, model: Layer) -> KVCache | None:
        """The cache that `model` used last."""
        with self._lock:
            self._forget_changed(model)
            return next((entry.cache for entry in reversed(self._entries) if entry.model() is model), None)

    def trim(self) -> None:
        """Drops the least recently used caches until the rest fits."""
        with self._lock:
            while self._entries and self.nbytes > self.max_bytes:
                del self._entries[0]

    def _forget_changed(self, model: Layer) -> None:
        """Drops caches of deleted models, and caches of `model` that are older than its last change."""
        version = self._versions.get(model)
        changed = version is not None and not version.holds(model)
        if version is None or changed:
            self._versions[model] = Version(model)
        owners = [(entry, entry.model()) for entry in self._entries]
        self._entries = [entry for entry, own in owners if own is not None and not (changed and own is model)]


def _holds(cache: KVCache, entry: _Entry) -> bool:
    """Whether both hold one text, and the text of `cache` begins with the text of the entry."""
    old = entry.cache
    if len(old.tokens) != 1 or len(cache.tokens) != 1 or not (old.is_whole and cache.is_whole):
        return False
    return cache.tokens[0][: len(old.tokens[0])] == old.tokens[0]


def _copied(found: _Found, rows: int, length: int) -> KVCache | None:
    """A copy of the match, or None if another thread has moved rows of that cache since the search began."""
    cache = found.entry.cache
    if found.moves % 2 or cache.moves != found.moves:
        return None
    copied = part_of(cache, found.row, found.start, found.start + found.known, rows, length)
    return copied if cache.moves == found.moves else None


def _attention_layers(model: Layer) -> int:
    """The number of layers of `model` that store keys and values."""
    return sum(isinstance(layer, MultiHeadAttention) for layer in model.modules())


def common_length(texts: Sequence[Sequence[int]]) -> int:
    """The length of the common beginning of all texts.

    >>> common_length([[1, 2, 3], [1, 2, 4, 5]]), common_length([[1, 2]])
    (2, 2)
    """
    least = min(map(len, texts))
    first = np.asarray(texts[0][:least])
    for text in texts[1:]:
        differs = (np.asarray(text[:least]) != first[:least]).nonzero()[0]
        least = int(differs[0]) if len(differs) else least
        first = first[:least]
    return least
