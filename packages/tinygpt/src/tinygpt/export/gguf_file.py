"""Module 20, capstone: GGUF, the file of llama.cpp: weights, sizes and tokenizer in one.

Names and layouts are llama.cpp's for its architectures gpt2 and llama. It rotates neighbouring features where Llama's
checkpoints rotate halves, so rows of queries and keys are put in its order. Matrices are float32 or float16; vectors,
and positions, float32.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygpt.capstone.capstone import TinyGPT
from tinygpt.export.onnx_graph import ExportError
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import FileError
from tt_core.engine.files import make_folder, replace
from tt_language import BPETokenizer, ByteTokenizer, CharTokenizer, GPTConfig, Tokenizer
from tt_language.embeddings.rope_config import RopeScaling
from tt_language.errors import first_few
from tt_language.tokenization import BYTE_ALPHABET, PATTERNS
from tt_language.tokenization.characters import byte_fields
from tt_language.transformers import family_of, hf_tensors

DTYPES = {"float32": np.float32, "float16": np.float16}
_GPT2 = {
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
    "lm_head": "output", "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}  # fmt: skip
_LLAMA = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
_BLOCK = re.compile(r"(?:transformer\.h|model\.layers)\.(\d+)\.(.+)")


def write_gguf(gpt: TinyGPT, path: Path, dtype: str = "float32") -> None:
    """Write a model with its tokenizer as a GGUF file, whole or not at all.

    Raises `ConfigError` for a model of neither GPT-2's nor Llama's shape, `ExportError` for a tokenizer or a rotary
    scaling that the format lacks, and `FileError`.
    """
    try:
        import gguf
    except ImportError:
        raise ExportError("GGUF files need the package gguf; install it with: pip install 'tinygpt[export]'") from None
    config, family = gpt.model.config, family_of(gpt.model.config)
    tensors = tensors_of(gpt, np.dtype(DTYPES[dtype]))
    temporary = path.with_name(f"{path.name}.tmp-tinytorch-{os.getpid()}")
    writer = gguf.GGUFWriter(temporary, family)
    _add_sizes(writer, gguf, config, family, dtype)
    _add_tokenizer(writer, gguf, gpt.tokenizer, config)
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    make_folder(path.parent)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        replace(temporary, path)
    except OSError as error:
        why = error.strerror or f"is the disk full? {error}"  # NumPy's error says how much it wrote, and not why
        raise FileError(f"cannot write {path}: {why}") from None
    finally:
        temporary.unlink(missing_ok=True)


# --- tensors


def tensors_of(gpt: TinyGPT, dtype: np.dtype[Any]) -> dict[str, Array]:
    """The weights by llama.cpp's names, matrices in `dtype`."""
    config, family = gpt.model.config, family_of(gpt.model.config)
    found: dict[str, Array] = {}
    for name, array in hf_tensors(gpt.model).items():
        theirs = _name_of(name, _GPT2 if family == "gpt2" else _LLAMA)
        if family == "gpt2" and array.ndim == 2 and ".h." in name:  # stored as (in, out) there
            array = array.T
        for kind, heads in (("q_proj", config.n_head), ("k_proj", config.n_kv_head or config.n_head)):
            if f".{kind}." in name:
                array = interleaved(array, heads)
        narrow = array.ndim == 2 and not theirs.startswith("position_embd")
        found[theirs] = np.ascontiguousarray(array, dtype if narrow else np.float32)
    scaling = _factors(config) if family == "llama" else None
    return found if scaling is None else {**found, "rope_freqs.weight": scaling}


def _name_of(name: str, names: dict[str, str]) -> str:
    """llama.cpp's name of a tensor of a checkpoint: `blk.0.attn_q.weight`."""
    path, _, kind = name.rpartition(".")
    inside = _BLOCK.fullmatch(path)
    return f"blk.{inside[1]}.{names[inside[2]]}.{kind}" if inside else f"{names[path]}.{kind}"


def interleaved(rows: Array, heads: int) -> Array:
    """Rows (heads * size, ...) whose halves of a head are rotated together, with each pair side by side.

    >>> interleaved(np.arange(4), heads=1)
    array([0, 2, 1, 3])
    """
    apart = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return apart.swapaxes(1, 2).reshape(rows.shape)


def _factors(config: GPTConfig) -> Array | None:
    """By what each frequency is divided, for Llama 3's scaling; None where there is nothing to say."""
    kind = _scaling(config)
    if kind != "llama3":
        return None
    size, theta = config.head_size, config.rope_theta
    scaled = RopeScaling.read(config.rope_scaling or {}, size, theta, config.block_size).frequencies(size, theta, 1)[0]
    plain = RopeScaling.read({}, size, theta, config.block_size).frequencies(size, theta, 1)[0]
    return np.asarray(plain / scaled, np.float32)


def _scaling(config: GPTConfig) -> str:
    kind = str((config.rope_scaling or {}).get("rope_type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise ExportError(f"rotary scaling {kind} is not written to GGUF; use --format hf")
    return kind


# --- what the file says besides


def _add_sizes(writer: Any, gguf: Any, c: GPTConfig, family: str, dtype: str) -> None:
    writer.add_name("tinygpt")
    writer.add_context_length(c.block_size)
    writer.add_embedding_length(c.n_embd)
    writer.add_block_count(c.n_layer)
    writer.add_head_count(c.n_head)
    writer.add_vocab_size(c.vocab_size)
    types = gguf.LlamaFileType
    writer.add_file_type(types.ALL_F32 if dtype == "float32" else types.MOSTLY_F16)
    if family == "gpt2":
        if c.mlp != "gelu_tanh":
            raise ExportError(f"llama.cpp's GPT-2 has mlp=gelu_tanh, the model {c.mlp}; use --format hf or onnx")
        writer.add_feed_forward_length(c.intermediate_size or 4 * c.n_embd)
        writer.add_layer_norm_eps(c.norm_eps)
    else:
        _add_llama_sizes(writer, gguf, c)


def _add_llama_sizes(writer: Any, gguf: Any, c: GPTConfig) -> None:
    writer.add_feed_forward_length(c.intermediate_size or 8 * c.n_embd // 3)
    writer.add_head_count_kv(c.n_kv_head or c.n_head)
    writer.add_layer_norm_rms_eps(c.norm_eps)
    writer.add_rope_dimension_count(c.head_size)
    writer.add_key_length(c.head_size)
    writer.add_value_length(c.head_size)
    writer.add_rope_freq_base(c.rope_theta)
    if _scaling(c) == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float((c.rope_scaling or {})["factor"]))


_NO_MERGE = "\u2400 \u2400"
"""A merge that no text contains: llama.cpp refuses a vocabulary without merges, such as one of bytes."""


def _add_tokenizer(writer: Any, gguf: Any, tokenizer: Tokenizer, config: GPTConfig) -> None:
    """The tokenizer as a byte-level BPE, the form that llama.cpp reads; ids without a token are unused ones."""
    vocab, merges, splitting = _as_bpe(tokenizer)
    by_id = {i: token for token, i in vocab.items()}
    ids = range(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list([by_id.get(i, f"[PAD{i}]") for i in ids])
    writer.add_token_types(_token_types(gguf.TokenType, tokenizer, by_id, ids))
    writer.add_token_merges(merges or [_NO_MERGE])
    _add_ends(writer, tokenizer, vocab, config)


def _token_types(kinds: Any, tokenizer: Tokenizer, known: Collection[int], ids: Iterable[int]) -> list[Any]:
    """The type of each id: a special token, an added one, a plain one, or unused."""
    special, added = (set(getattr(tokenizer, name, {}).values()) for name in ("special_tokens", "added_tokens"))
    plain = {i: kinds.NORMAL if i in known else kinds.UNUSED for i in ids}
    return [kinds.CONTROL if i in special else kinds.USER_DEFINED if i in added else plain[i] for i in ids]


def _add_ends(writer: Any, tokenizer: Tokenizer, vocab: Mapping[str, int], config: GPTConfig) -> None:
    """The tokens that begin and end a text, and the chat template."""
    before = list(getattr(tokenizer, "prefix_tokens", ()))
    writer.add_add_bos_token(bool(before))
    begin = before[0] if before else tokenizer.bos_token or ""
    if begin in vocab:
        writer.add_bos_token_id(vocab[begin])
    end = vocab.get(tokenizer.eos_token or "", next(iter(config.end_ids), None))
    if end is not None:
        writer.add_eos_token_id(end)
    if tokenizer.chat_template is not None:
        writer.add_chat_template(tokenizer.chat_template)


def _as_bpe(tokenizer: Tokenizer) -> tuple[Mapping[str, int], list[str], str]:
    """Vocabulary, merges and llama.cpp's name of the pattern that splits texts.

    Raises `ExportError` for a tokenizer that gives other ids in llama.cpp, which would make nonsense of the model.
    """
    if isinstance(tokenizer, ByteTokenizer):
        return byte_fields().vocab, [], "gpt-2"
    if isinstance(tokenizer, CharTokenizer):
        beyond = [c for c in tokenizer.characters if not c.isascii()]
        if beyond:
            raise _unknown(f"has {first_few(beyond, 3)}, and only characters of ASCII are")
        return {BYTE_ALPHABET[ord(c)]: i for i, c in enumerate(tokenizer.characters)}, [], "gpt-2"
    if not isinstance(tokenizer, BPETokenizer):
        raise _unknown(f"is a {type(tokenizer).__name__}, and only BPE, bytes and characters are")
    _check_bpe(tokenizer)
    return tokenizer.vocab, [f"{a} {b}" for a, b in tokenizer.merges], _PATTERNS[str(tokenizer.pattern)][0]


_PATTERNS = {PATTERNS["gpt2"]: ("gpt-2", False), PATTERNS["llama3"]: ("llama-bpe", True)}
"""llama.cpp's name of a pattern, and whether it takes a piece that is a token whole, with that pattern."""


def _check_bpe(tokenizer: BPETokenizer) -> None:
    """Raise `ExportError` for what llama.cpp would leave out."""
    if not isinstance(tokenizer.pattern, str) or tokenizer.pattern not in _PATTERNS:
        raise _unknown("splits texts by a pattern of its own, and only GPT-2's and Llama 3's are")
    options = {
        "ignore_merges": tokenizer.ignore_merges != _PATTERNS[tokenizer.pattern][1],
        "normalizer": tokenizer.normalizer is not None,
        "add_prefix_space": tokenizer.add_prefix_space,
        "prefix_tokens": len(tokenizer.prefix_tokens) > 1,
        "suffix_tokens": bool(tokenizer.suffix_tokens),
    }
    for name, different in options.items():
        if different:
            raise _unknown(f"has {name}={getattr(tokenizer, name)!r}, which is not")


def _unknown(fact: str) -> ExportError:
    return ExportError(f"the tokenizer {fact} known to llama.cpp; use --format hf or onnx")
