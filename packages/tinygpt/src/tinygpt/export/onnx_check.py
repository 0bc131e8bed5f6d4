"""Module 20, capstone: whether onnxruntime computes from a file what the model computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tinygpt.export.onnx_graph import ExportError
from tt_core import tensor
from tt_core.engine.dispatch import Array
from tt_language import GPT
from tt_learn.training import evaluating


def largest_difference(path: Path, model: GPT) -> float | None:
    """The largest difference of logits: batches of 1 and 3, lengths of 1, 7 and the context, with and without past.

    None where onnxruntime is not installed. Raises `ExportError` for a file that it does not load.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class
        raise ExportError(f"{path}: onnxruntime does not load it: {str(error)[:200]}") from None
    context, vocab = model.config.block_size, model.config.vocab_size
    random, largest = np.random.default_rng(0), 0.0
    for batch in (1, 3):
        for length in sorted({1, min(7, context), context}):
            ids = random.integers(vocab, size=(batch, length))
            with evaluating(model):
                expected = np.array(model(tensor(ids)).numpy())
            for cut in sorted({0, length // 2}):
                found = logits_in_two(session, model, ids, cut)
                largest = max(largest, float(np.abs(found - expected).max()))
    return largest


def logits_in_two(session: Any, model: GPT, ids: Array, cut: int) -> Array:
    """Logits of ids (batch, T), of which the first `cut` are read before the others."""
    past, found = empty_past(model, len(ids)), []
    for part in (ids[:, :cut], ids[:, cut:]):
        if part.shape[1]:
            logits, *present = session.run(None, {"input_ids": part.astype(np.int64), **past})
            past = dict(zip(past, present))
            found.append(logits)
    return np.concatenate(found, 1)


def empty_past(model: GPT, batch: int) -> dict[str, Array]:
    """Keys and values of length 0, by the names of the graph's inputs, in the order of its outputs."""
    past = {}
    for index, block in enumerate(model.blocks):
        layer: Any = block
        shape = (batch, layer.attention.num_kv_heads, 0, layer.attention.head_dim)
        for name in ("key", "value"):
            past[f"past_key_values.{index}.{name}"] = np.zeros(shape, np.float32)
    return past
