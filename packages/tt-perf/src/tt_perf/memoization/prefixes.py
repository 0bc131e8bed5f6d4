"""Part of module 17: prompts that begin alike are read once. Caches of earlier texts, found by their tokens.

A cache is used again only for the model that filled it, while that model is unchanged (`tt_perf.versions`), and only
up to the first token that differs: ids are compared one by one, so no collision of hashes can mix texts up. The least
recently used caches go when together they have more than the allowed bytes.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tt_core.layers import Layer
from tt_perf.memoization.cache import KVCache, part_of
from tt_perf.versions import Version


@dataclass(eq=False)
class _Entry:
    model: weakref.ref[Layer]
    version: Version
    cache: KVCache


class PrefixStore:
    """Caches of at most `max_bytes`, oldest use first, with counts of what they saved."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.hits = self.misses = 0
        self.positions_reused = self.positions_asked = 0
        self._entries: list[_Entry] = []

    @property
    def nbytes(self) -> int:
        """Bytes of all caches."""
        return sum(entry.cache.nbytes for entry in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, model: Layer, prompts: Sequence[Sequence[int]], rows: int, length: int) -> KVCache | None:
        """A new cache that holds the longest known beginning of all `prompts`, None where none is known.

        At least the last token of each prompt is left to read, since its logits are wanted.
        """
        self._forget_changed(model)
        common = common_length([list(prompt) for prompt in prompts])
        wanted = min(common, min(map(len, prompts)) - 1)
        self.positions_asked += sum(map(len, prompts))
        best: tuple[int, _Entry, int, int] | None = None
        for entry in self._entries:
            for row, tokens in enumerate(entry.cache.tokens if entry.cache.is_whole else ()):
                start = len(tokens) - len(_without_padding(tokens))
                known = common_length([tokens[start:], list(prompts[0][:wanted])])
                if entry.model() is model and known > (best[0] if best else 0):
                    best = known, entry, row, start
        if best is None:
            self.misses += 1
            return None
        known, entry, row, start = best
        self.hits += 1
        self.positions_reused += known * len(prompts)
        self._entries.remove(entry)
        self._entries.append(entry)
        return part_of(entry.cache, row, start, start + known, rows, length)

    def add(self, model: Layer, cache: KVCache) -> None:
        """Let `cache`, which may still grow, be found later."""
        self._entries.append(_Entry(weakref.ref(model), Version(model), cache))

    def newest(self, model: Layer) -> KVCache | None:
        """The cache that `model` used last."""
        self._forget_changed(model)
        return next((entry.cache for entry in reversed(self._entries) if entry.model() is model), None)

    def trim(self) -> None:
        """Let the least recently used caches go until the rest fits."""
        while self._entries and self.nbytes > self.max_bytes:
            del self._entries[0]

    def _forget_changed(self, model: Layer) -> None:
        """Drop caches of models that are gone, and those of `model` from before it changed."""
        kept = []
        for entry in self._entries:
            owner = entry.model()
            if owner is not None and (owner is not model or entry.version.holds(model)):
                kept.append(entry)
        self._entries = kept


def common_length(texts: Sequence[Sequence[int]]) -> int:
    """How many tokens all texts begin with.

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


def _without_padding(tokens: list[int]) -> list[int]:
    """The tokens behind the padding in front; padding further in matches no prompt."""
    start = next((i for i, token in enumerate(tokens) if token >= 0), len(tokens))
    return tokens[start:]
