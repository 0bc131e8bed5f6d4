"""Module 20, capstone: named sets of training options."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygpt.capstone.settings import KINDS, check_settings, option
from tt_core.engine.errors import FileError, TinyTorchError, did_you_mean
from tt_language import (
    GPTConfig,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run but the text. Names are nanoGPT's where it has them."""

    tokenizer: str = option("bpe", "char, byte or bpe")
    vocab_size: int = option(1536, "entries that bpe learns; char and byte find theirs")
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 192
    block_size: int = option(128, "tokens that the model sees at once")
    dropout: float = 0.05
    bias: bool = option(False, "in linear layers and norms")
    position: str = option("learned", "learned, rotary or none")
    norm: str = option("layer", "layer or rms")
    mlp: str = option("gelu_tanh", "gelu, gelu_tanh, relu or swiglu")
    steps: int = 1200
    batch_size: int = 8
    accumulate: int = option(1, "batches a step, whose gradients are averaged: more than fits in memory at once")
    optimizer: str = option("adamw", "adamw, or muon for the matrices of the layers with adamw for all else")
    learning_rate: float = option(1e-3, "10 times as high with muon, if only --optimizer is given")
    min_lr: float = option(1e-4, "the learning rate at the last step")
    warmup_steps: int = 100
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    grad_clip: float = option(1.0, "largest norm of all gradients; 0 leaves them as they are")
    eval_interval: int = option(200, "steps from one validation and save to the next")
    eval_windows: int = option(160, "pieces of the held-out text that a validation reads")
    val_fraction: float = option(0.1, "how much of the text is held out, at its end")
    seed: int = 1337

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.block_size * self.accumulate

    def __post_init__(self) -> None:
        """Raise `TinyTorchError` for what cannot be trained; the model's own options are checked by `GPTConfig`."""
        check_settings(self, self._checks())

    def _checks(self) -> Iterator[tuple[str, bool, str]]:
        for name in ("n_layer", "steps", "batch_size", "accumulate", "eval_interval", "eval_windows"):
            yield name, getattr(self, name) >= 1, "1 or more"
        for name in ("learning_rate", "min_lr", "warmup_steps", "weight_decay", "grad_clip", "seed"):
            yield name, 0 <= getattr(self, name) < math.inf, "0 or more"
        for name in ("beta1", "beta2"):
            yield name, 0 <= getattr(self, name) < 1, "at least 0 and below 1"
        yield "val_fraction", 0 < self.val_fraction < 1, "between 0 and 1"
        yield "tokenizer", self.tokenizer in TOKENIZERS, ", ".join(TOKENIZERS)
        yield "optimizer", self.optimizer in OPTIMIZERS, ", ".join(OPTIMIZERS)


TOKENIZERS = ("char", "byte", "bpe")
OPTIMIZERS = ("adamw", "muon")

PRESETS: dict[str, TrainConfig] = {
    "docs": TrainConfig(
        position="rotary",
        norm="rms",
        mlp="swiglu",
        steps=900,
        optimizer="muon",
        learning_rate=1e-2,
        min_lr=0.0,
        warmup_steps=50,
        weight_decay=0.4,
        eval_interval=150,
    ),  # fmt: skip - 2.5 minutes on two cores; Llama's shape
    "nanogpt-cpu": TrainConfig(
        tokenizer="char",
        dropout=0.0,
        n_layer=4,
        n_head=4,
        n_embd=128,
        block_size=64,
        batch_size=12,
        steps=2000,
        eval_interval=250,
    ),  # fmt: skip - nanoGPT's published CPU configuration
    "shakespeare": TrainConfig(
        tokenizer="char",
        dropout=0.1,
        n_layer=6,
        n_head=6,
        n_embd=192,
        block_size=256,
        position="rotary",
        norm="rms",
        mlp="swiglu",
        batch_size=8,
        steps=2800,
        optimizer="muon",
        learning_rate=1e-2,
        min_lr=0.0,
        eval_interval=400,
    ),  # fmt: skip - 15 minutes on two cores; Llama's shape
    "tiny": TrainConfig(
        tokenizer="bpe",
        vocab_size=512,
        dropout=0.0,
        n_layer=2,
        n_head=2,
        n_embd=64,
        block_size=64,
        steps=300,
        eval_interval=100,
    ),  # fmt: skip - for a first look, some seconds
}


_TOKENS_PER_PARAMETER = 2
"""How far `--depth` trains. Chinchilla's 20 (Hoffmann et al. 2022, arXiv:2203.15556) are for text without end."""

_MUON_RATE = 10
"""Muon's learning rate as a multiple of AdamW's (`muon_for` scales its steps to the size of AdamW's)."""


def with_depth(config: TrainConfig, depth: int) -> TrainConfig:
    """`config` with the size, learning rate and steps that follow from one number, the layers.

    Width is 64 a layer, in heads of 64; the learning rate falls as 1 / sqrt(width) (nanochat's rule) and is 10 times
    as high with Muon; its last value keeps its share of the highest; the steps read two tokens for each weight in the
    layers. Raises `TinyTorchError` for a depth below 1.

    >>> config = with_depth(PRESETS["docs"], 6)
    >>> config.n_embd, config.n_head, config.steps, round(config.learning_rate, 5)
    (384, 6, 20736, 0.00816)
    """
    if depth < 1:
        raise TinyTorchError(f"depth is {depth}, expected 1 layer or more")
    width = 64 * depth
    tokens = _TOKENS_PER_PARAMETER * 12 * depth * width**2
    rate = (_MUON_RATE if config.optimizer == "muon" else 1) * 1e-3 * math.sqrt(256 / width)
    return dataclasses.replace(
        config,
        n_layer=depth,
        n_head=depth,
        n_embd=width,
        learning_rate=rate,
        min_lr=rate * config.min_lr / config.learning_rate,
        steps=max(1, round(tokens / config.tokens_per_step)),
    )


def _with_optimizer(config: TrainConfig, optimizer: str) -> TrainConfig:
    """`config` with another optimizer, and with the learning rate that suits it."""
    if optimizer == config.optimizer or optimizer not in OPTIMIZERS:
        return dataclasses.replace(config, optimizer=optimizer)
    factor = _MUON_RATE if optimizer == "muon" else 1 / _MUON_RATE
    return dataclasses.replace(config, optimizer=optimizer, learning_rate=config.learning_rate * factor)


def preset(name: str, depth: int | None = None, **changes: object) -> TrainConfig:
    """A preset with some options changed; those that are None stay. `depth` sets what follows from it before that.

    Another optimizer brings its own learning rate: Muon's is 10 times AdamW's.

    >>> preset("nanogpt-cpu", steps=10, seed=None).steps
    10
    >>> [preset("docs", optimizer=name).learning_rate for name in OPTIMIZERS]
    [0.001, 0.01]
    """
    if name not in PRESETS:
        raise TinyTorchError(f"no preset is called {name}; {did_you_mean(name, PRESETS)}")
    given: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
    config = _with_optimizer(PRESETS[name], given.get("optimizer", PRESETS[name].optimizer))
    if depth is not None:
        decisive = {key: given[key] for key in ("batch_size", "block_size", "accumulate") if key in given}
        config = with_depth(dataclasses.replace(config, **decisive), depth)
    return dataclasses.replace(config, **given)


def read_options(path: Path) -> dict[str, Any]:
    """The options of a training in a TOML file: `preset`, `depth`, `corpus`, and fields of `TrainConfig`.

    Raises `FileError` for a file that cannot be read or is no TOML, `TinyTorchError` for an option that does not exist.
    """
    try:
        options = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:  # no TOML, or not UTF-8
        raise FileError(f"{path} is no TOML: {error}") from None
    kinds = {"preset": "str", "depth": "int", "corpus": "str"}
    kinds |= {field.name: str(field.type) for field in dataclasses.fields(TrainConfig)}
    for name, value in options.items():
        if name not in kinds:
            raise TinyTorchError(f"{path}: no option is called {name}; {did_you_mean(name, kinds)}")
        if type(value) not in KINDS[kinds[name]]:
            raise TinyTorchError(f"{path}: {name} is {value!r}, expected {kinds[name]}")
    return options


def gpt_config(config: TrainConfig, vocab_size: int) -> GPTConfig:
    """The model's part of the training options."""
    return GPTConfig(
        vocab_size=vocab_size,
        block_size=config.block_size,
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        dropout=config.dropout,
        bias=config.bias,
        position=config.position,
        norm=config.norm,
        mlp=config.mlp,
    )
