"""Module 20, capstone: merges a LoRA adapter into its model, and writes a folder in Hugging Face's format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tinygpt.capstone.capstone import TinyGPT
from tinygpt.runs import RunFolder
from tt_core import tensor
from tt_core.engine.errors import TinyTorchError
from tt_learn.training import evaluating
from tt_perf.lora.model import family_or_other

Say = Callable[[str], None]


def merge(adapter: Path, out: Path | None, say: Say = print) -> Path:
    """Merge the adapter in a folder and write the whole model to `out`; says what rounding changed.

    A model that has neither GPT-2's nor Llama's shape is written as `TinyGPT.save` does. Raises `TinyTorchError` for a
    folder without an adapter, and if `out` holds a model already.
    """
    source = RunFolder.open(adapter, with_model=True)
    gpt = TinyGPT.read(source)
    if gpt.adapter is None:
        raise TinyTorchError(f"{source.path} is a whole model; there is no adapter to merge")
    out = source.path.with_name(f"{source.path.name}-merged") if out is None else out
    RunFolder.check_new(out, resumable=False)
    before = _logits(gpt)
    rounding = gpt.merge()
    if family_or_other(gpt.model) == "other":  # Hugging Face's format has no name for such a model
        gpt.save(out)
    else:
        gpt.save_pretrained(out)
    layer, largest = max(rounding.items(), key=lambda item: item[1])
    different = float(np.abs(_logits(gpt) - before).max())
    say(f"merged {len(rounding)} layers; rounding moved no weight by more than {largest:.1e} ({layer})")
    say(f"logits of a test text differ by {different:.1e} at most")
    return out


def _logits(gpt: TinyGPT) -> np.ndarray:
    """Logits of a text in which every id is as likely."""
    config = gpt.model.config
    ids = np.random.default_rng(0).integers(config.vocab_size, size=(1, min(32, config.block_size)))
    with evaluating(gpt.model):
        return np.array(gpt.model(tensor(ids)).numpy())
