"""Part of module 13, transformers: `GPTConfig` from a config.json in Hugging Face's format.

Every name in the file is known: read, without effect on results, or a setting of related models that must have its
neutral value. A setting that changes results and is not supported is an error; an unknown name is a warning.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tt_language.errors import ConfigError, short
from tt_language.transformers.config import GPTConfig
from tt_language.transformers.shards import read_json_object


def read_config(path: str | os.PathLike[str]) -> GPTConfig:
    """The `GPTConfig` that a config.json describes, with the end ids of a generation_config.json in its folder.

    Raises `ConfigError` for a model that `GPT` cannot be, and for an unsupported setting that changes results. Warns of
    unknown names.
    """
    path = Path(path)
    fields = _Fields(path, read_json_object(path))
    family = fields.values.get("model_type")
    if not isinstance(family, str) or family not in _FAMILIES:
        raise ConfigError(f"{path}: model_type is {str(family)[:40]!r}, expected {', '.join(_FAMILIES)}")
    read, names = _FAMILIES[family]
    try:
        _check_names(fields, names)
        config = read(fields)
        ends = _end_ids(fields)
    except ConfigError as error:
        raise ConfigError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    ends = [i for i in ends if i < config.vocab_size]  # GPT-2's default, 50256, stands in files of smaller models
    return dataclasses.replace(config, eos_token_id=tuple(ends) if ends else None)


def _end_ids(fields: _Fields) -> list[int]:
    """`eos_token_id` of generation_config.json, which takes precedence as in `transformers`, or of config.json."""
    beside = fields.path.with_name("generation_config.json")
    given = read_json_object(beside).get("eos_token_id") if beside.is_file() else None
    given = fields.values.get("eos_token_id") if given is None else given
    ids = [] if given is None else given if isinstance(given, list) else [given]
    if not all(type(i) is int and i >= 0 for i in ids):
        raise ConfigError(f"eos_token_id is {short(given)}, expected an id or a list of ids")
    return ids


def _check_names(fields: _Fields, read: frozenset[str]) -> None:
    """Refuse settings of other models that change results; warn of unknown names."""
    for name, neutral in _OTHER_MODELS.items():
        if name in fields.values and name not in read:
            fields.need(name, neutral[0], *neutral)
    unknown = sorted(short(name) for name in set(fields.values) - read - _NO_EFFECT - set(_OTHER_MODELS))
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        warnings.warn(
            f"{fields.path}: does not use {', '.join(unknown[:5])}{more}; check that they change no result",
            stacklevel=4,
        )


# --- fields


@dataclass(frozen=True)
class _Fields:
    """The entries of a config.json, each read with the expected type."""

    path: Path
    values: Mapping[str, Any]

    def whole(self, *names: str) -> int:
        """The positive integer under the first of `names` that the file has."""
        for name in names:
            if name in self.values:
                fine = type(self.values[name]) is int and 0 < self.values[name] < 1 << 40
                return int(self._checked(name, fine, "positive integer"))
        raise ConfigError(f"{self.path}: has no {names[0]}")

    def maybe_whole(self, name: str, default: int | None = None) -> int | None:
        """The same; None where it is null, `default` where it is missing."""
        if self.values.get(name, default) is None:
            return None
        return self.whole(name) if name in self.values else default

    def mapping(self, name: str) -> Mapping[str, Any]:
        """An object; an empty one where it is missing or null."""
        value = self.values.get(name)
        return self._checked(name, isinstance(value, dict), "object", value) if value is not None else {}

    def number(self, name: str, default: float) -> float:
        """A positive number."""
        value = self.values.get(name, default)
        return float(self._checked(name, type(value) in (int, float) and 0 < value < 1e30, "positive number", value))

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(name, default)
        return bool(self._checked(name, isinstance(value, bool), "true or false", value))

    def need(self, name: str, default: Any, *known: Any) -> None:
        """Raise unless the entry is one of the `known` values."""
        value = self.values.get(name, default)
        if not any(value is k or (type(value) is type(k) and value == k) for k in known):
            supported = ", ".join(map(str, known))
            raise ConfigError(f"{name} is {short(value)}, which is not supported (only {supported})")

    def _checked(self, name: str, fine: bool, expected: str, value: Any = None) -> Any:
        value = self.values[name] if value is None else value
        if not fine:
            raise ConfigError(f"{name} is {str(value)[:40]!r}, expected a {expected}".replace("a true", "true"))
        return value


# --- families

_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}


def _gpt2_config(fields: _Fields) -> GPTConfig:
    activation = fields.values.get("activation_function", "gelu_new")
    fields.need("activation_function", "gelu_new", *_ACTIVATIONS)
    fields.need("scale_attn_weights", True, True)
    fields.need("scale_attn_by_inverse_layer_idx", False, False)
    fields.need("add_cross_attention", False, False)
    return GPTConfig(
        vocab_size=fields.whole("vocab_size"),
        block_size=fields.whole("n_positions", "max_position_embeddings", "n_ctx"),
        n_layer=fields.whole("n_layer", "num_hidden_layers"),
        n_head=fields.whole("n_head", "num_attention_heads"),
        n_embd=fields.whole("n_embd", "hidden_size"),
        mlp=_ACTIVATIONS[activation],
        intermediate_size=fields.maybe_whole("n_inner"),
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        tie_weights=fields.flag("tie_word_embeddings", True),
    )


def _llama_config(fields: _Fields, window: int | None = None, shared: int | None = None) -> GPTConfig:
    """`window` and `shared` (key-value heads) are the family's defaults."""
    context = fields.whole("max_position_embeddings")
    fields.need("hidden_act", "silu", "silu", "swish")
    theta, scaling = _rope(fields, context)
    if scaling is not None and scaling["rope_type"] == "dynamic":  # extends to texts beyond the context
        factor: Any = scaling.get("factor")
        context = int(context * factor) if type(factor) in (int, float) and 1 <= factor < 1 << 20 else context
    return GPTConfig(
        vocab_size=fields.whole("vocab_size"),
        block_size=context if window is None else min(context, window),  # within its window, attention is plain
        n_layer=fields.whole("num_hidden_layers"),
        n_head=fields.whole("num_attention_heads"),
        n_kv_head=fields.maybe_whole("num_key_value_heads", shared),
        n_embd=fields.whole("hidden_size"),
        head_dim=fields.maybe_whole("head_dim"),
        bias=False,
        attention_bias=fields.flag("attention_bias", False),
        mlp_bias=fields.flag("mlp_bias", False),
        position="rotary",
        norm="rms",
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        mlp="swiglu",
        intermediate_size=fields.whole("intermediate_size"),
        tie_weights=fields.flag("tie_word_embeddings", False),
        rope_theta=theta,
        rope_scaling=scaling,
    )


def _mistral_config(fields: _Fields) -> GPTConfig:
    fields.need("attention_bias", False, False)
    fields.need("mlp_bias", False, False)
    return _llama_config(fields, window=fields.maybe_whole("sliding_window", 4096), shared=8)


def _rope(fields: _Fields, context: int) -> tuple[float, dict[str, Any] | None]:
    """Base and scaling of rotary positions.

    Newer files hold both in `rope_parameters`; `rope_scaling` of older ones takes precedence, as in `transformers`.
    """
    newer, older = fields.mapping("rope_parameters"), fields.mapping("rope_scaling")
    given = older or newer
    if older and newer and _kind(newer) not in ("default", _kind(older)):
        raise ConfigError(f"rope_scaling is {_kind(older)}, but rope_parameters are {_kind(newer)}; keep one of them")
    theta = 10000.0
    for source in ({} if given is newer else newer, fields.values, given):  # the last one found decides
        theta = _Fields(fields.path, source).number("rope_theta", theta)
    if given.get("partial_rotary_factor") not in (None, 1, 1.0):
        raise ConfigError(f"partial_rotary_factor is {short(given['partial_rotary_factor'])}, which is not supported")
    kind, left_out = _kind(given), ("rope_theta", "rope_type", "type", "partial_rotary_factor")
    numbers = {name: value for name, value in given.items() if name not in left_out and value is not None}
    if kind == "default" and not numbers:
        return theta, None
    if kind in ("llama3", "yarn", "longrope"):
        original = fields.maybe_whole("original_max_position_embeddings")
        numbers |= {} if original is None else {"original_max_position_embeddings": original}
    if kind == "dynamic" and numbers.setdefault("original_max_position_embeddings", context) != context:
        raise ConfigError("rope_type dynamic counts from max_position_embeddings; leave out the original one")
    return theta, {"rope_type": kind, **numbers}


def _kind(rope: Mapping[str, Any]) -> Any:
    return rope.get("rope_type", rope.get("type", "default"))


# --- the names of config.json

_SHARED_NAMES = ("model_type", "vocab_size", "tie_word_embeddings", "eos_token_id")
_GPT2_NAMES = frozenset(
    (
        *_SHARED_NAMES, "n_positions", "n_ctx", "n_layer", "n_head", "n_embd", "n_inner", "layer_norm_epsilon",
        "activation_function", "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "add_cross_attention",
        "max_position_embeddings", "num_hidden_layers", "num_attention_heads", "hidden_size",
    )
)  # fmt: skip
_LLAMA_NAMES = frozenset(
    (
        *_SHARED_NAMES, "max_position_embeddings", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "attention_bias",
        "mlp_bias", "rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings",
    )
)  # fmt: skip
_FAMILIES: dict[str, tuple[Callable[[_Fields], GPTConfig], frozenset[str]]] = {
    "gpt2": (_gpt2_config, _GPT2_NAMES),
    "llama": (_llama_config, _LLAMA_NAMES),
    "mistral": (_mistral_config, _LLAMA_NAMES | {"sliding_window"}),
}
_OTHER_MODELS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        (
            "add_cross_attention", "is_encoder_decoder", "use_sliding_window", "rope_interleaved", "alibi",
            "parallel_attn", "use_parallel_residual", "qk_layernorm", "use_qk_norm", "qk_norm", "use_qkv_bias",
            "scale_embedding", "scale_attn_by_inverse_layer_idx", "attention_bias", "mlp_bias", "multi_query", "nope",
        ),
        (False, None),
    ),
    **dict.fromkeys(
        (
            "quantization_config", "sliding_window", "layer_types", "no_rope_layers", "clip_qkv",
            "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "num_experts",
            "num_local_experts", "rope_scaling", "rope_parameters", "pruned_heads", "adapters",
        ),
        (None, {}, []),
    ),
    **dict.fromkeys(
        (
            "partial_rotary_factor", "embedding_multiplier", "residual_multiplier", "attention_multiplier",
            "logits_scaling", "logit_scale",
        ),
        (1.0, 1, None),
    ),
    "chunk_size_feed_forward": (0,),
}  # fmt: skip
"""Settings of related models that change results, with their neutral values."""
_NO_EFFECT = frozenset(
    (
        # origin and storage
        "_name_or_path", "_commit_hash", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version",
        "tokenizer_class", "transformers.js_config", "is_llama_config", "finetuning_task", "use_cache", "torchscript",
        "use_bfloat16", "tf_legacy_loss", "gradient_checkpointing", "pretraining_tp", "_attn_implementation",
        "_flash_attn_2_enabled", "reorder_and_upcast_attn", "return_dict", "output_hidden_states", "output_attentions",
        # training: a loaded model is in evaluation mode, without dropout
        "initializer_range", "attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop", "hidden_dropout",
        # heads for other tasks
        "id2label", "label2id", "num_labels", "problem_type", "task_specific_params", "summary_activation",
        "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj", "is_decoder",
        "tie_encoder_decoder", "cross_attention_hidden_size", "decoder_start_token_id",
        # tokens that generation does not add
        "bos_token_id", "pad_token_id", "sep_token_id", "unk_token_id", "prefix",
        # defaults of generation, which are arguments of generate()
        "do_sample", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "num_beams",
        "num_beam_groups", "diversity_penalty", "early_stopping", "max_length", "min_length", "max_new_tokens",
        "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences",
        "output_scores", "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id",
        "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",
    )
)  # fmt: skip
