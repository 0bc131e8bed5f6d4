"""Part of module 13, transformers: from texts to logits, with a window that moves along a long text.

A text longer than the context moves through it in jumps: when the window is full, its older half is dropped and the
model reads the rest again. So a window holds between half the context and all of it, and a KV cache stays usable.
Plugins that answer the hook `tt_past` bring the cache; without one, the model reads its whole window for each token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.plugins import manager
from tt_core.tensor.creation import tensor


def window_start(length: int, block_size: int) -> int:
    """How many tokens of a text of `length` the window has left behind: 0, or a multiple of half the context.

    >>> [window_start(n, 8) for n in (8, 9, 12, 13)]
    [0, 4, 4, 8]
    """
    half = max(1, block_size // 2)
    return -(-max(0, length - block_size) // half) * half


class Reader:
    """Feeds texts, which grow by one token at a time, to a model, and returns the logits after each.

    model: called as `GPT` is; its config has a `block_size`.
    prompts: ids of the texts so far. `rows` of them are read at a time: one for each prompt, or one for each beam.
    max_new_tokens: how many tokens will be added at most.
    allowed: (vocab,), False for tokens that get the logit -inf.
    """

    def __init__(
        self, model: Any, prompts: list[list[int]], rows: int, max_new_tokens: int, allowed: Array | None = None
    ) -> None:
        self.model, self.prompts, self.allowed = model, prompts, allowed
        self.block_size = model.config.block_size
        length = min(max(map(len, prompts)) + max_new_tokens, self.block_size)
        self.past = manager.ask("tt_past", model=model, rows=rows, length=length, prompts=prompts)
        self.starts: list[int] = []

    def logits(self, texts: Sequence[Sequence[int]]) -> Array:
        """(rows, vocab) for the token after each text."""
        starts = [window_start(len(text), self.block_size) for text in texts]
        windows = [list(text[start:]) for text, start in zip(texts, starts)]
        fresh = self._must_read_all(starts, windows)
        if fresh and self.past is not None:
            self.past.clear()
        self.starts = starts
        wide = max(map(len, windows))
        pads = np.array([wide - len(window) for window in windows])  # rows are padded on the left
        ids = np.array([[0] * pad + window for window, pad in zip(windows, pads)])  # (rows, wide)
        positions = np.maximum(np.arange(wide) - pads[:, None], 0)  # (rows, wide)
        if not fresh:
            ids, positions = ids[:, -1:], positions[:, -1:]
        options: dict[str, Any] = {"past": self.past, "logits_to_keep": 1}
        if pads.any():
            visible = np.arange(wide) >= pads[:, None]  # (rows, wide), False for padding
            options |= {"positions": tensor(positions), "attn_mask": tensor(visible[:, None, None])}
        logits = self.model(tensor(ids), **options).data[:, -1]  # (rows, vocab)
        return logits if self.allowed is None else np.where(self.allowed, logits, logits.dtype.type(-np.inf))

    def _must_read_all(self, starts: list[int], windows: Sequence[Sequence[int]]) -> bool:
        """Whether the cache does not hold all but the last token of each window, padded as now."""
        if self.past is None or starts != self.starts or self.past.length != max(map(len, windows)) - 1:
            return True
        return any(self._rotates_otherwise(len(window)) for window in windows)

    def _rotates_otherwise(self, length: int) -> bool:
        """Whether the keys in the cache were rotated by other frequencies (see `RotaryEmbedding.changes_at`)."""
        rotary = getattr(self.model, "rotary", None)
        return rotary is not None and bool(rotary.changes_at(length))

    def select(self, rows: Sequence[int]) -> None:
        """Follow the texts: row i becomes what row `rows[i]` was."""
        self.starts = [self.starts[row] for row in rows]
        if self.past is not None:
            self.past.select(rows)
