"""Module 20, capstone: batches of held-out text through a model, and the loss on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from tinygpt.capstone.examples import IGNORED, Batch
from tt_core import Layer, from_numpy
from tt_language import next_token_loss
from tt_learn import evaluating


def scored(model: Layer, batches: Iterable[Batch]) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """For each batch (x, y): its mean loss, the logits (batch, time, vocab), and y. Nothing is recorded."""
    with evaluating(model):
        for x, y in batches:
            logits = model(from_numpy(x))
            yield next_token_loss(logits, from_numpy(y)).item(), logits.data, y


def summed_loss(model: Layer, batches: Iterable[Batch]) -> tuple[float, int]:
    """The sum of the losses of all tokens that count, and how many these are; `IGNORED` ones do not."""
    total, count = 0.0, 0
    for loss, _, y in scored(model, batches):
        tokens = int((y != IGNORED).sum())
        total += loss * tokens
        count += tokens
    return total, count
