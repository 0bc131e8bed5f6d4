"""Part of module 13, transformers: a `GPT` as a checkpoint in Hugging Face's format, which `from_pretrained` reads.

The family follows from the shape: learned positions with LayerNorm are GPT-2's, rotary positions with RMSNorm and
SwiGLU are Llama's. Biases that GPT-2 has and the model lacks are written as zeros, which changes no logit.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.files import make_folder, write_json
from tt_language.errors import ConfigError, first_few
from tt_language.transformers.config import GPTConfig
from tt_language.transformers.pretrained import Source, family_of, sources_of
from tt_learn.training.checkpoints import save_tensors

if TYPE_CHECKING:
    from tt_language.transformers.gpt import GPT

_ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu"}


def save_pretrained(model: GPT, folder: str | os.PathLike[str]) -> Path:
    """Write config.json, generation_config.json and model.safetensors into a folder; returns the folder.

    Raises `ConfigError` for a model of neither family's shape, or that is quantized or adapted, and `FileError`.
    """
    config, tensors = hf_config(model.config), hf_tensors(model)
    path = make_folder(folder)
    save_tensors(path / "model.safetensors", tensors, {"format": "pt"})
    write_json(path / "config.json", config)
    ends = list(model.config.end_ids)
    generation = {"eos_token_id": (ends if len(ends) > 1 else ends[0]) if ends else None}
    write_json(path / "generation_config.json", {k: v for k, v in generation.items() if v is not None})
    return path


def hf_config(c: GPTConfig) -> dict[str, Any]:
    """The contents of config.json; raises `ConfigError` for a model of neither family's shape.

    >>> hf_config(GPTConfig(vocab_size=10, n_embd=8, n_head=2, mlp="gelu"))["activation_function"]
    'gelu'
    """
    ends = c.end_ids
    shared = {
        "vocab_size": c.vocab_size,
        "tie_word_embeddings": c.tie_weights,
        "bos_token_id": None,
        "eos_token_id": None if not ends else ends[0] if len(ends) == 1 else list(ends),
        "dtype": "float32",
    }
    if family_of(c) == "gpt2":
        return {
            "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **shared,
            "n_positions": c.block_size, "n_embd": c.n_embd, "n_layer": c.n_layer, "n_head": c.n_head,
            "n_inner": c.intermediate_size, "activation_function": _ACTIVATIONS[c.mlp],
            "layer_norm_epsilon": c.norm_eps, "resid_pdrop": c.dropout, "embd_pdrop": c.dropout,
            "attn_pdrop": c.dropout,
        }  # fmt: skip
    rope = {"rope_theta": c.rope_theta, "rope_type": "default", **(c.rope_scaling or {})}
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], **shared,
        "max_position_embeddings": c.block_size, "hidden_size": c.n_embd, "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head, "num_key_value_heads": c.n_kv_head or c.n_head, "head_dim": c.head_size,
        "intermediate_size": c.intermediate_size or 8 * c.n_embd // 3, "hidden_act": "silu",
        "rms_norm_eps": c.norm_eps, "attention_bias": _biased(c, c.attention_bias), "mlp_bias": _biased(c, c.mlp_bias),
        "rope_theta": c.rope_theta, "rope_parameters": rope,
    }  # fmt: skip


def _biased(c: GPTConfig, given: bool | None) -> bool:
    return c.bias if given is None else given


def hf_tensors(model: GPT) -> dict[str, Array]:
    """The weights by the names of the family; a tied head is left out.

    Raises `ConfigError` for a model of neither family's shape, and for layers that a checkpoint has no names for.
    """
    family_of(model.config)
    state = {name: entry.data for name, entry in model.state_dict().items()}
    tensors: dict[str, Array] = {}
    used: set[str] = set()
    for source in sources_of(model.config):
        used.add(source.name)
        tensors |= _parts(source, state.get(source.name))
    left = sorted(set(state) - used - ({"lm_head.weight"} if model.config.tie_weights else set()))
    if left:
        raise ConfigError(
            f"save_pretrained: the model holds {first_few(left, 2)}, which the format lacks; save it before it is "
            "quantized or pruned, and merge adapters"
        )
    return tensors


def _parts(source: Source, whole: Array | None) -> dict[str, Array]:
    """The tensors of which one parameter is the concatenation; zeros for a bias that the model lacks."""
    if whole is None and not source.name.endswith(".bias"):
        raise ConfigError(f"save_pretrained: the model lacks {source.name}; save it before it is quantized or pruned")
    values = np.zeros(source.shape, np.float32) if whole is None else whole
    if values.shape != source.shape:
        raise ConfigError(f"save_pretrained: {source.name} is {values.shape}, its config says {source.shape}")
    ends: Any = np.cumsum(source.rows)[:-1] if source.rows else []
    pieces = np.split(values, ends) if len(source.tensors) > 1 else [values]
    pieces = [piece.T if source.transposed else piece for piece in pieces]
    return {name: np.ascontiguousarray(piece) for name, piece in zip(source.tensors, pieces)}
