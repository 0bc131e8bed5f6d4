"""Part of module 13, transformers: the weights of `GPT` from checkpoints in Hugging Face's format.

config.json describes the model and safetensors files hold the weights. The two are compared before anything is
allocated: a missing, misshapen or unused tensor is an error. Tokenizers are read in module 10; nothing is downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.layers import Layer
from tt_language.errors import CheckpointError, ConfigError, first_few
from tt_language.transformers.config import GPTConfig
from tt_language.transformers.hf_config import read_config
from tt_language.transformers.shards import Checkpoint


class Pretrained:
    """The checkpoint in `folder`: its `config`, and its weights, which are read when they are copied.

    Raises `CheckpointError` or `ConfigError` that says what does not fit.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        folder = Path(folder)
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: no such folder")
        self.config = read_config(folder / "config.json")
        self.checkpoint = Checkpoint(folder)
        self.sources = _checked(self.config, self.checkpoint)

    def load_into(self, model: Layer) -> None:
        """Give the parameters of `model`, a `GPT` of this config, the values of the files.

        Tensors in float32 are not copied: the parameters become views of the mapped files.
        """
        state = dict(model.named_parameters())
        for source in self.sources:
            parts = [self.checkpoint.read(name) for name in source.tensors]
            parts = [x.T if source.transposed else x for x in parts]
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
            state[source.name].data = whole.astype(state[source.name].dtype, copy=False)
        if self.config.tie_weights and _HEAD in self.checkpoint.entries:
            self._check_tied(state[_TABLE].data)

    def _check_tied(self, table: Array) -> None:
        """Raise where config.json says that the head is the token table, but the files hold another head."""
        if not np.array_equal(self.checkpoint.read(_HEAD), table, equal_nan=True):
            raise CheckpointError(
                f"{self.checkpoint.folder}: {_HEAD} differs from the token table, although config.json ties them; "
                "set its tie_word_embeddings to false"
            )


# --- which tensor goes where

_HEAD, _TABLE = "lm_head.weight", "wte.weight"


@dataclass(frozen=True)
class Source:
    """A parameter of `GPT`: its name and shape, and the tensors of which it is the concatenation."""

    name: str
    shape: tuple[int, ...]
    tensors: tuple[str, ...]
    transposed: bool = False
    """GPT-2 stores its projections as (in, out)."""
    rows: tuple[int, ...] = ()
    """The rows of each tensor, where there are several."""


def _gpt2_sources(c: GPTConfig, prefix: str) -> Iterator[Source]:
    width, hidden = c.n_embd, c.intermediate_size or 4 * c.n_embd
    yield Source(_TABLE, (c.vocab_size, width), (f"{prefix}wte.weight",))
    yield Source("wpe.weight", (c.block_size, width), (f"{prefix}wpe.weight",))
    yield from _pair("norm", (width,), f"{prefix}ln_f")
    if not c.tie_weights:
        yield Source(_HEAD, (c.vocab_size, width), (_HEAD,))
    for i in range(c.n_layer):
        ours, theirs = f"blocks.{i}", f"{prefix}h.{i}"
        yield from _pair(f"{ours}.norm1", (width,), f"{theirs}.ln_1")
        yield from _pair(f"{ours}.attention.in_proj", (3 * width, width), f"{theirs}.attn.c_attn")
        yield from _pair(f"{ours}.attention.out_proj", (width, width), f"{theirs}.attn.c_proj")
        yield from _pair(f"{ours}.norm2", (width,), f"{theirs}.ln_2")
        yield from _pair(f"{ours}.mlp.up", (hidden, width), f"{theirs}.mlp.c_fc")
        yield from _pair(f"{ours}.mlp.down", (width, hidden), f"{theirs}.mlp.c_proj")


def _pair(ours: str, shape: tuple[int, ...], theirs: str) -> Iterator[Source]:
    yield Source(f"{ours}.weight", shape, (f"{theirs}.weight",), transposed=len(shape) == 2)
    yield Source(f"{ours}.bias", shape[:1], (f"{theirs}.bias",))


def _llama_sources(c: GPTConfig, prefix: str) -> Iterator[Source]:
    width, hidden = c.n_embd, c.intermediate_size or 8 * c.n_embd // 3
    attention_bias, mlp_bias = (c.bias if x is None else x for x in (c.attention_bias, c.mlp_bias))
    inner, shared = c.n_head * c.head_size, (c.n_kv_head or c.n_head) * c.head_size
    packed = inner + 2 * shared
    yield Source(_TABLE, (c.vocab_size, width), (f"{prefix}embed_tokens.weight",))
    yield Source("norm.weight", (width,), (f"{prefix}norm.weight",))
    if not c.tie_weights:
        yield Source(_HEAD, (c.vocab_size, width), (_HEAD,))
    for i in range(c.n_layer):
        ours, theirs = f"blocks.{i}", f"{prefix}layers.{i}"
        yield Source(f"{ours}.norm1.weight", (width,), (f"{theirs}.input_layernorm.weight",))
        yield Source(f"{ours}.norm2.weight", (width,), (f"{theirs}.post_attention_layernorm.weight",))
        linears = (
            ("attention.in_proj", (packed, width), ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
            ("attention.out_proj", (width, inner), ("self_attn.o_proj",)),
            ("mlp.gate", (hidden, width), ("mlp.gate_proj",)),
            ("mlp.up", (hidden, width), ("mlp.up_proj",)),
            ("mlp.down", (width, hidden), ("mlp.down_proj",)),
        )
        for name, shape, parts in linears:
            rows = (inner, shared, shared) if len(parts) > 1 else ()
            yield Source(f"{ours}.{name}.weight", shape, tuple(f"{theirs}.{part}.weight" for part in parts), rows=rows)
            if attention_bias if name.startswith("attention") else mlp_bias:
                biases = tuple(f"{theirs}.{part}.bias" for part in parts)
                yield Source(f"{ours}.{name}.bias", shape[:1], biases, rows=rows)


def _checked(config: GPTConfig, checkpoint: Checkpoint) -> list[Source]:
    """The sources of all parameters; raises unless each exists in its shape and no tensor is left over."""
    sources: list[Source] = []
    problems: list[str] = []
    used: set[str] = set()
    for source in _sources(config, checkpoint):
        sources.append(source)
        used.update(source.tensors)
        problems += _problems(source, checkpoint)
        if len(problems) > 3:
            break
    else:
        left = [name for name in checkpoint.entries if name not in used and not _computed(name, config)]
        problems += [f"{first_few(left)} in the files but not in the model"] * bool(left)
    if problems:
        more = " and more" if len(problems) > 3 else ""
        raise CheckpointError(f"{checkpoint.folder}: does not fit its config.json: {'; '.join(problems[:3])}{more}")
    return sources


def _sources(config: GPTConfig, checkpoint: Checkpoint) -> Iterator[Source]:
    """The names in the files have a prefix, unless the model was saved without its head."""
    prefix = _PREFIXES[family_of(config)]
    bare = not any(name.startswith(prefix) for name in checkpoint.entries)
    return sources_of(config, "" if bare else prefix)


_PREFIXES = {"gpt2": "transformer.", "llama": "model."}


def sources_of(config: GPTConfig, prefix: str | None = None) -> Iterator[Source]:
    """Where each parameter of a `GPT` comes from, by the names of its family."""
    family = family_of(config)
    return (_gpt2_sources if family == "gpt2" else _llama_sources)(
        config, _PREFIXES[family] if prefix is None else prefix
    )


def family_of(config: GPTConfig) -> str:
    """ "gpt2" or "llama", by the shape; raises `ConfigError` for a model that is neither.

    >>> family_of(GPTConfig())
    'gpt2'
    >>> family_of(GPTConfig(norm="rms"))
    Traceback (most recent call last):
    tt_language.errors.ConfigError: the model has neither GPT-2's shape (its norm is rms) nor Llama's (its position is \
learned, its mlp is gelu_tanh)
    """
    differences = {family: _differences(config, shape) for family, shape in _SHAPES.items()}
    for family, found in differences.items():
        if not found:
            return family
    gpt2, llama = (
        ", ".join(f"its {name} is {getattr(config, name)}" for name in found) for found in differences.values()
    )
    raise ConfigError(f"the model has neither GPT-2's shape ({gpt2}) nor Llama's ({llama})")


_SHAPES: dict[str, dict[str, tuple[Any, ...]]] = {
    "gpt2": {"position": ("learned",), "norm": ("layer",), "mlp": ("gelu_tanh", "gelu", "relu"), "parallel": (False,)},
    "llama": {"position": ("rotary",), "norm": ("rms",), "mlp": ("swiglu",), "parallel": (False,)},
}


def _differences(c: GPTConfig, shape: dict[str, tuple[Any, ...]]) -> list[str]:
    """The options whose values a family does not have. Llama's has key-value heads and head sizes of any number."""
    found = [name for name, values in shape.items() if getattr(c, name) not in values]
    if shape is _SHAPES["gpt2"]:
        found += ["n_kv_head"] * (c.n_kv_head not in (None, c.n_head))
        found += ["head_dim"] * (c.head_size * c.n_head != c.n_embd)
    return found


def _problems(source: Source, checkpoint: Checkpoint) -> list[str]:
    missing = [name for name in source.tensors if name not in checkpoint.entries]
    if missing:
        return [f"{missing[0]} is missing"]
    shapes = [checkpoint.entries[name].shape for name in source.tensors]
    found = _stacked([shape[::-1] if source.transposed else shape for shape in shapes])
    if found != source.shape:
        expected = source.shape[::-1] if source.transposed else source.shape
        given = " + ".join(map(str, shapes))
        return [f"{source.tensors[0]} is {given}, expected {expected}"]
    return []


def _stacked(shapes: list[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape of the concatenation; None for shapes that do not fit."""
    if any(len(shape) == 0 or shape[1:] != shapes[0][1:] for shape in shapes):
        return None
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _computed(name: str, config: GPTConfig) -> bool:
    """Whether a tensor holds nothing learned: a mask, frequencies, or a head that is tied to the token table."""
    return name.endswith((".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")) or (
        config.tie_weights and name == _HEAD
    )
