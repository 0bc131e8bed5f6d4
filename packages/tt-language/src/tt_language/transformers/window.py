"""Part of module 13, transformers: from texts to logits, with a window that moves along a long text.

A text longer than the context moves through it in jumps: when the window is full, its older half is dropped and the
model reads the rest again. So a window holds between half the context and all of it, and a KV cache stays usable.
Plugins that answer the hook `tt_past` bring the cache; without one, the model reads its whole window for each token.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from tt_core.engine import mutation
from tt_core.engine.dispatch import Array
from tt_core.engine.plugins import manager
from tt_core.tensor.creation import tensor
from tt_language.errors import ConfigError


def window_start(length: int, block_size: int) -> int:
    """The number of tokens of a text of `length` before the window: 0, or a multiple of half the context.

    >>> [window_start(n, 8) for n in (8, 9, 12, 13)]
    [0, 4, 4, 8]
    """
    half = max(1, block_size // 2)
    return -(-max(0, length - block_size) // half) * half


class Reader:
    """Feeds texts, which grow by one token at a time, to a model, and returns the logits after each.

    model: called as `GPT` is; its config has a `block_size`.
    prompts: ids of the texts so far, of which the last `block_size` are read, or all if the cache allows it. They are
    numbered from `first` in a warning about cropped ones.
    rows: how many texts are read at a time: one for each prompt, or one for each beam.
    max_new_tokens: how many tokens will be added at most.
    allowed: (vocab,), False for tokens that get the logit -inf.
    """

    def __init__(
        self,
        model: Any,
        prompts: list[list[int]],
        rows: int,
        max_new_tokens: int,
        allowed: Array | None = None,
        first: int = 0,
    ) -> None:
        self.model, self.block_size, self.allowed = model, model.config.block_size, allowed
        length = min(max(map(len, prompts)) + max_new_tokens, self.block_size)
        self.past = manager.ask("tt_past", model=model, rows=rows, length=length, prompts=prompts)
        self.beyond = getattr(self.past, "beyond", "crop")
        self.prompts = self._cropped(prompts, first) if self.beyond == "crop" else prompts
        self.unread = True
        self.moment = mutation.now()
        self.shared = 0 if self.past is None else self.past.length  # columns before the padding
        self.starts: list[int] = []

    def _cropped(self, prompts: list[list[int]], first: int) -> list[list[int]]:
        for i, text in enumerate(prompts, first):
            if len(text) > self.block_size:
                warnings.warn(
                    f"generate: prompt {i} has {len(text)} tokens, the context {self.block_size}; "
                    f"its first {len(text) - self.block_size} are not read",
                    stacklevel=4,
                )
        return [text[-self.block_size :] for text in prompts]

    def logits(self, texts: Sequence[Sequence[int]]) -> Array:
        """(rows, vocab) for the token after each text."""
        if self.past is None or not self.unread:
            return self._read(texts)
        self.unread = False
        different = dict.fromkeys(tuple(text) for text in texts)  # a prompt that occurs several times is read once
        places = {text: i for i, text in enumerate(different)}
        if self.shared:
            self.past.select([0] * len(places))
        self.starts = [0] * len(places)
        logits, rows = self._read(list(places)), [places[tuple(text)] for text in texts]
        if len(places) == len(texts):
            return logits
        self.select(rows)
        return logits[rows]

    def _read(self, texts: Sequence[Sequence[int]]) -> Array:
        starts = [self._start(len(text)) for text in texts]
        windows = [list(text[start:]) for text, start in zip(texts, starts)]
        known = 0 if self.past is None else self.past.length
        if known and (self._is_changed() or starts != self.starts or self._must_read_again(known, windows)):
            self.past.clear()
            known = self.shared = 0
        self.starts = starts
        # shorter rows are padded on the left, after the shared columns; columns in the cache keep their padding
        wide, shared = max(*map(len, windows), known + 1), self.shared
        pads = [wide - len(window) for window in windows]
        columns = np.arange(known, wide)
        ids = np.array([(w[:shared] + [0] * pad + w[shared:])[known:] for w, pad in zip(windows, pads)])  # (rows, new)
        options: dict[str, Any] = {"past": self.past, "logits_to_keep": 1}
        if any(pads):
            shift, every = np.array(pads)[:, None], np.arange(wide)
            positions = np.where(columns < shared, columns, np.maximum(columns - shift, 0))  # (rows, new)
            visible = (every < shared) | (every >= shared + shift)  # (rows, wide), False for padding
            options |= {"positions": tensor(positions), "attn_mask": tensor(visible[:, None, None])}
        logits = self.model(tensor(ids), **options).data[:, -1]  # (rows, vocab)
        return logits if self.allowed is None else np.where(self.allowed, logits, logits.dtype.type(-np.inf))

    def _start(self, length: int) -> int:
        """Where the window of a text of `length` begins."""
        if self.beyond == "error" and length > self.block_size:
            raise ConfigError(f"generate: the text has {length} tokens, the context {self.block_size}; it ends here")
        return 0 if self.beyond == "window" else window_start(length, self.block_size)

    def _is_changed(self) -> bool:
        """Whether the model was changed in place since it was last asked, as training in another thread does."""
        moment, self.moment = self.moment, mutation.now()
        if moment == self.moment:
            return False
        entries = (*self.model.parameters(), *self.model.buffers())
        return any(mutation.changed_since(entry.data, moment) for entry in entries)

    def _must_read_again(self, known: int, windows: Sequence[Sequence[int]]) -> bool:
        """Whether the context has no room for one more column, or the keys were rotated by other frequencies."""
        if known >= self.block_size and self.beyond != "window":
            return True
        rotary = getattr(self.model, "rotary", None)
        return rotary is not None and any(rotary.changes_at(len(window)) for window in windows)

    def select(self, rows: Sequence[int]) -> None:
        """Follow the texts: row i becomes what row `rows[i]` was."""
        self.starts = [self.starts[row] for row in rows]
        if self.past is not None:
            self.past.select(rows)
