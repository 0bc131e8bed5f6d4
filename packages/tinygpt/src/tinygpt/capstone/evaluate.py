"""Module 20, capstone: how well a model predicts a text: loss, perplexity and bits per byte.

Loss and perplexity are per token, so they compare models of one tokenizer. Bits per byte do not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygpt.capstone.capstone import TinyGPT
from tinygpt.capstone.examples import IGNORED, Batch, example_of, is_jsonl, padded, read_records
from tinygpt.capstone.reading import CorpusError, read_corpus
from tinygpt.capstone.scoring import scored
from tt_core.engine.errors import TinyTorchError
from tt_language import Tokenizer


@dataclass(frozen=True)
class Score:
    """How well a text was predicted."""

    loss: float
    """Mean of -log(probability) of a token, in nats."""
    tokens: int
    bytes: int

    @property
    def perplexity(self) -> float:
        """exp(loss): the effective number of equally likely next tokens."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_byte(self) -> float:
        """Bits that the model needs to store a byte of the text."""
        return self.loss * self.tokens / math.log(2) / self.bytes if self.bytes else math.nan

    def to_dict(self) -> dict[str, float | int | None]:
        """The figures by name, for JSON, which has neither infinity nor nan."""
        named = {"loss": self.loss, "perplexity": self.perplexity, "bits_per_byte": self.bits_per_byte}
        shown = {name: value if math.isfinite(value) else None for name, value in named.items()}
        return {**shown, "tokens": self.tokens, "bytes": self.bytes}


def evaluate(gpt: TinyGPT, data: Path, stride: int | None = None, batch_size: int = 8) -> Score:
    """The score of a model on a text, or on the answers of a JSONL file.

    stride: how far each window is from the one before. Below the context, windows overlap, and each token is scored
    once, with more tokens before it. Raises what reading the file raises, and `TinyTorchError` for another stride.
    """
    context = gpt.model.config.block_size
    if stride is not None and not 1 <= stride <= context:
        raise TinyTorchError(f"stride is {stride}, expected 1 to {context}, the model's context")
    batches = _answers(gpt, data, batch_size) if is_jsonl(data) else _windows(gpt, data, stride or context, batch_size)
    total, tokens, size = 0.0, 0, 0
    for loss, _, y in scored(gpt.model, batches):
        counted = y[y != IGNORED]
        total += loss * counted.size
        tokens += counted.size
        size += _bytes(gpt.tokenizer, counted)
    return Score(total / tokens, tokens, size)


def _bytes(tokenizer: Tokenizer, ids: np.ndarray) -> int:
    """Bytes of the text of ids; special tokens are no text."""
    return len(tokenizer.decode_bytes(ids.tolist(), skip_special_tokens=True))


def _windows(gpt: TinyGPT, path: Path, stride: int, batch_size: int) -> Iterator[Batch]:
    """All of a text: each token but the first is scored once."""
    corpus, context = read_corpus(path), gpt.model.config.block_size
    ids = np.array(gpt.tokenizer.encode(corpus.text), np.int64)
    if len(ids) < 2:
        raise CorpusError(f"{path} is one token; there is nothing to predict")
    rows: list[Batch] = []
    scored = 1  # the first token has nothing before it
    while scored < len(ids):
        end = min(len(ids), scored + (stride if rows else context))
        start = max(0, end - 1 - context)
        x, y = ids[start : end - 1], ids[start + 1 : end].copy()
        y[: scored - start - 1] = IGNORED
        rows.append((x, y))
        scored = end
    for at in range(0, len(rows), batch_size):
        yield _stacked(rows[at : at + batch_size])


def _stacked(rows: list[Batch]) -> Batch:
    """Rows of one length, or shorter, as a batch."""
    width = max(len(x) for x, _ in rows)
    x, y = np.zeros((len(rows), width), np.int64), np.full((len(rows), width), IGNORED)
    for row, (given, targets) in enumerate(rows):
        x[row, : len(given)], y[row, : len(targets)] = given, targets
    return x, y


def _answers(gpt: TinyGPT, path: Path, batch_size: int) -> Iterator[Batch]:
    examples = [example_of(record, gpt.tokenizer) for record in read_records(path, least=1)]
    cut = [example.cut(gpt.model.config.block_size + 1) for example in examples]
    for at in range(0, len(cut), batch_size):
        yield padded(cut[at : at + batch_size])
