"""Module 20, capstone: facts about a run: its options, its recorded figures, and the memory of its model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from tinygpt.capstone.callbacks import flops_per_token, weight_shapes
from tinygpt.capstone.capstone import TinyGPT
from tinygpt.memory import size
from tinygpt.runs import RunFolder
from tt_core import tensor
from tt_core.engine.errors import TinyTorchError
from tt_language import GPT
from tt_perf import summary
from tt_perf.quantization.report import nbytes


def about(folder: RunFolder, layers: bool = False) -> Iterator[str]:
    """Lines that describe a run, with `layers` also each layer of its model; raises `FileError` for a damaged one."""
    config = folder.read_config()
    parts = {"model": config} if "model_type" in config else config  # in Hugging Face's format, all is of the model
    yield f"run: {folder.path}"
    tuned = "finetuning" in parts
    for part in ("model", *(("finetuning", "data") if tuned else ("training", "corpus")), "versions"):
        yield f"{part}: {_told(parts.get(part, {}), f'{folder.config} is damaged: {part} is no object')}"
    if tuned:
        yield f"base: {parts.get('base', 'unknown')}"
    yield f"last figures: {_figures(folder)}"
    if folder.model.exists():
        model = TinyGPT.load(folder.path).model
        yield f"size: {sizes(model)}"
        if layers:
            yield str(summary(model, tensor([[0] * model.config.block_size])))


def _figures(folder: RunFolder) -> str:
    """The last line of metrics.jsonl by name, with as many digits as training shows."""
    known = {name: value for name, value in folder.last_figures().items() if value is not None}
    return ", ".join(f"{name}={_number(value)}" for name, value in known.items()) or "none"


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.5g}" if abs(value) < 1e4 else f"{value:,.0f}"


def sizes(model: GPT) -> str:
    """Parameters and bytes of a model, and what a token costs.

    >>> from tt_language import GPTConfig
    >>> sizes(GPT(GPTConfig(vocab_size=100, block_size=64, n_layer=2, n_head=2, n_embd=32, bias=False)))
    '29,984 parameters in 120 kB; a token: 0.1 MFLOP written, 0.2 MFLOP trained, 512 bytes of cache'
    """
    config = model.config
    cache = (
        2 * config.n_layer * (config.n_kv_head or config.n_head) * config.head_size * 4
    )  # a key and a value in each layer
    trained = flops_per_token(model)
    count = sum(map(math.prod, weight_shapes(model)))
    return (
        f"{count:,} parameters in {size(nbytes(model))}; a token: {trained / 3e6:,.1f} MFLOP written, "
        f"{trained / 1e6:,.1f} MFLOP trained, {cache:,} bytes of cache"
    )


def _told(entries: Any, damaged: str) -> str:
    if not isinstance(entries, dict):
        raise TinyTorchError(damaged)
    return ", ".join(f"{name}={value}" for name, value in entries.items() if value is not None) or "unknown"
