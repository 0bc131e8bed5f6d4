"""Module 20, capstone: named sets of training options."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tt_core.errors import TinyTorchError, did_you_mean


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run but the text. Names are nanoGPT's where it has them."""

    tokenizer: str = "bpe"
    """char, byte or bpe"""
    vocab_size: int = 1024
    """Entries that a BPE tokenizer learns; others find theirs."""
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 192
    block_size: int = 128
    dropout: float = 0.0
    bias: bool = False
    mlp: str = "gelu"
    """gelu, gelu_tanh, relu or swiglu"""
    steps: int = 1200
    batch_size: int = 8
    learning_rate: float = 1e-3
    min_lr: float = 1e-4
    warmup_steps: int = 100
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    grad_clip: float = 1.0
    eval_interval: int = 200
    eval_windows: int = 160
    val_fraction: float = 0.1
    seed: int = 1337


PRESETS: dict[str, TrainConfig] = {
    "docs": TrainConfig(),
    "nanogpt-cpu": TrainConfig(
        tokenizer="char",
        n_layer=4,
        n_head=4,
        n_embd=128,
        block_size=64,
        batch_size=12,
        steps=2000,
        eval_interval=250,
    ),  # fmt: skip - nanoGPT's published CPU configuration
    "tiny": TrainConfig(
        tokenizer="bpe",
        vocab_size=512,
        n_layer=2,
        n_head=2,
        n_embd=64,
        block_size=64,
        steps=300,
        eval_interval=100,
    ),  # fmt: skip - for a first look, some seconds
}


def preset(name: str, **changes: object) -> TrainConfig:
    """A preset with some options changed; those that are None stay.

    >>> preset("nanogpt-cpu", steps=10, seed=None).steps
    10
    """
    if name not in PRESETS:
        raise TinyTorchError(f"no preset is called {name}; {did_you_mean(name, PRESETS)}")
    return dataclasses.replace(PRESETS[name], **{k: v for k, v in changes.items() if v is not None})  # type: ignore[arg-type]
