"""Part of module 13, transformers: the sizes and options of a GPT, as a frozen dataclass.

Values are checked for type and range when the dataclass is made, since they may come from a file.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.errors import ArgumentError, is_number, shown
from tt_language.embeddings import RopeScaling
from tt_language.errors import ConfigError

_WHOLE = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")
_MAYBE_WHOLE = ("n_kv_head", "intermediate_size", "head_dim")
_FLAGS = ("bias", "tie_weights", "parallel")
_MAYBE_FLAGS = ("attention_bias", "mlp_bias")
_CHOICES = {
    "position": ("learned", "rotary", "none"),
    "norm": ("layer", "rms"),
    "mlp": ("gelu_tanh", "gelu", "relu", "swiglu"),
}


@dataclass(frozen=True)
class GPTConfig:
    """Sizes and options of a `GPT`; the names are nanoGPT's, with more for Llama's family.

    NumPy numbers become Python's. Raises `ConfigError` for values of which no model can be made.

    >>> GPTConfig(vocab_size=65, n_embd=128, n_head=4).head_size
    32
    """

    vocab_size: int = 50257
    block_size: int = 1024
    """The context: the longest text in tokens."""
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0
    bias: bool = True
    n_kv_head: int | None = None
    """Key-value heads, shared by groups of query heads; `n_head` by default."""
    position: str = "learned"
    """learned, rotary or none"""
    norm: str = "layer"
    """layer or rms"""
    norm_eps: float = 1e-5
    mlp: str = "gelu_tanh"
    """gelu_tanh (GPT-2's, and faster), gelu (exact), relu or swiglu"""
    intermediate_size: int | None = None
    """Hidden features of the feed-forward layers; 4 times n_embd (8/3 for swiglu) by default."""
    head_dim: int | None = None
    """Features per head; n_embd / n_head by default."""
    tie_weights: bool = True
    """Whether the output shares the token table."""
    rope_theta: float = 10000.0
    rope_scaling: Mapping[str, Any] | None = None
    """Stretches rotary positions to longer texts; see `RotaryEmbedding`."""
    parallel: bool = False
    """Whether the attention and feed-forward layers of a block read the same input."""
    attention_bias: bool | None = None
    """Whether the projections of attention have biases; `bias` by default."""
    mlp_bias: bool | None = None
    """The same for the feed-forward layers."""
    eos_token_id: int | Sequence[int] | None = None
    """The id, or ids, that end a text; generation stops there."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, np.generic):  # such as the largest id of an array, plus 1
                object.__setattr__(self, name, value.item())
        for name in (*_WHOLE, *(n for n in _MAYBE_WHOLE if getattr(self, n) is not None)):
            value = getattr(self, name)
            self._need(type(value) is int and value > 0, name, "a positive integer")
        for name in ("norm_eps", "rope_theta"):
            self._need(_is_finite(getattr(self, name)) and getattr(self, name) > 0, name, "a positive number")
        for name in (*_FLAGS, *(n for n in _MAYBE_FLAGS if getattr(self, n) is not None)):
            self._need(isinstance(getattr(self, name), bool), name, "true or false")
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            self._need(isinstance(value, str) and value in known, name, f"one of {', '.join(known)}")
        self._need(_is_finite(self.dropout) and 0 <= self.dropout < 1, "dropout", "a probability below 1")
        self._check_heads()
        self._check_scaling()
        self._check_end()

    def _need(self, fine: bool, name: str, expected: str) -> None:
        if not fine:
            raise ConfigError(f"GPTConfig: {name} is {expected}, got {shown(getattr(self, name))}")

    def _check_scaling(self) -> None:
        if self.rope_scaling is None:
            return
        self._need(isinstance(self.rope_scaling, Mapping), "rope_scaling", "a mapping")
        if self.position != "rotary":
            raise ConfigError(f'GPTConfig: rope_scaling needs position="rotary", got {self.position!r}')
        try:
            RopeScaling.read(self.rope_scaling, self.head_size, self.rope_theta, self.block_size)
        except ArgumentError as error:
            raise ConfigError(f"GPTConfig: {error}") from None

    def _check_end(self) -> None:
        """One id or several; a list, as in JSON, becomes a tuple."""
        ids = self.end_ids
        fine = all(type(i) is int and 0 <= i < self.vocab_size for i in ids)
        self._need(fine, "eos_token_id", f"None, or one or more ids below {self.vocab_size}")
        if isinstance(self.eos_token_id, list):
            object.__setattr__(self, "eos_token_id", ids)

    def _check_heads(self) -> None:
        if self.head_dim is None and self.n_embd % self.n_head:
            raise ConfigError(f"GPTConfig: n_embd {self.n_embd} does not divide into n_head {self.n_head}")
        if self.n_head % (self.n_kv_head or self.n_head):
            raise ConfigError(f"GPTConfig: n_head {self.n_head} cannot share n_kv_head {self.n_kv_head} evenly")
        if self.position == "rotary" and self.head_size % 2:
            raise ConfigError(
                f"GPTConfig: rotary positions need an even number of features per head, got {self.head_size}"
            )

    @property
    def head_size(self) -> int:
        """Features of one head."""
        return self.head_dim or self.n_embd // self.n_head

    @property
    def end_ids(self) -> tuple[int, ...]:
        """`eos_token_id` as a tuple, empty for None."""
        given = self.eos_token_id
        if given is None:
            return ()
        return tuple(given) if isinstance(given, Sequence) else (given,)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    @checked
    def from_dict(cls, values: Mapping[str, Any]) -> GPTConfig:
        """The config that `to_dict` described. Raises `ConfigError` for an unknown name."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"GPTConfig: expected values by name, got {str(values)[:40]!r}")
        unknown = sorted(str(name)[:40] for name in set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ConfigError(f"GPTConfig: unknown {', '.join(unknown[:4])}")
        return cls(**values)


def _is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)
