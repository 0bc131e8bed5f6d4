"""Module 20, capstone: the text that TinyGPT learns from, as token ids and windows of them.

`reading.py` reads the text. By default it is the English of Python's own documentation: 1.4 megabytes, a little
different in each Python version, with nothing to download.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tinygpt.capstone.reading import Corpus, CorpusError
from tt_language import Tokenizer

GOLDEN_SECTION = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Tokens:
    """A corpus as token ids: the first part to train on, the last to validate on."""

    train: np.ndarray
    val: np.ndarray
    val_bytes: int
    """UTF-8 bytes of the text behind `val`."""

    def batch(self, step: int, batch_size: int, block_size: int, first: float) -> tuple[np.ndarray, np.ndarray]:
        """The windows of one step of training, and the same shifted by one: two arrays (batch, block).

        The first window of all starts at `first` (0 to 1) of the `len(train) - block_size` places where a window can
        start, rounded down. Each further one starts `GOLDEN_SECTION` of them further, modulo 1. Any part of this
        sequence covers the text evenly (Weyl 1916), whereas independent random starts read some of it often and some
        never.
        """
        order = step * batch_size + np.arange(batch_size)
        starts = (first + order * GOLDEN_SECTION) % 1 * (len(self.train) - block_size)
        return _windows(self.train, starts.astype(int), block_size)

    def bits_per_byte(self, loss: float) -> float:
        """The mean loss over `val` as bits per byte of its text, comparable across tokenizers; 0 for no text."""
        return loss / math.log(2) * len(self.val) / max(self.val_bytes, 1)

    def validation(
        self, batch_size: int, block_size: int, most: int | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Windows side by side over the validation part, always the same ones, in batches as `batch` gives them.

        Of more than `most`, so many are chosen, evenly spread from the first to the last.
        """
        starts = np.arange(0, len(self.val) - block_size, block_size)
        if most is not None and len(starts) > most:
            starts = starts[np.linspace(0, len(starts) - 1, most).astype(int)]
        return [_windows(self.val, starts[i : i + batch_size], block_size) for i in range(0, len(starts), batch_size)]


def _windows(ids: np.ndarray, starts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The `length` ids from each start, and the same shifted by one: two arrays (starts, length)."""
    at = starts[:, None] + np.arange(length)
    return ids[at], ids[at + 1]


def split_tokens(corpus: Corpus, tokenizer: Tokenizer, block_size: int, val_fraction: float = 0.1) -> Tokens:
    """Encode a corpus and keep its last `val_fraction` for validation.

    Raises `CorpusError` when either part is shorter than one window of `block_size` + 1 tokens.
    """
    # the end of the text is held out, not windows of it at random, which would overlap with those that are trained on
    ids = np.asarray(tokenizer.encode(corpus.text), dtype=np.int64)
    at = int(len(ids) * (1 - val_fraction))
    tokens = Tokens(ids[:at], ids[at:], len(tokenizer.decode(ids[at:].tolist()).encode()))
    shortest = min(len(tokens.train), len(tokens.val))
    if shortest <= block_size:
        needed = (block_size + 1) / min(val_fraction, 1 - val_fraction) + 1
        raise CorpusError(
            f"corpus {corpus.source} has {len(ids)} tokens; a context of {block_size} needs at least {needed:.0f}, "
            f"so that training and validation hold one window each; use more text or a smaller --block-size"
        )
    return tokens
