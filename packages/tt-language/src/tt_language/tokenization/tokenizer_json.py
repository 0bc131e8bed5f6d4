"""Part of module 10, tokenization: Hugging Face's tokenizer.json and GPT-2's two files.

Reads the byte-level BPE family (GPT-2, Llama 3, Qwen, DeepSeek, and what `tokenizers` trains that way) and the
character tokenizers of this package. Not WordPiece, Unigram, SentencePiece-style BPE, nor normalizers other than
Unicode forms. Each of these, and every unknown setting, is an error that names it, since ignoring one would give wrong
ids. Files are untrusted: every field is checked before use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tt_language.errors import TokenizerError, short
from tt_language.tokenization.added_tokens import AddedToken
from tt_language.tokenization.files import BYTE_ORDER_MARK, PathLike, read_json, read_text
from tt_language.tokenization.pipeline_json import (
    byte_level_step,
    normalizer_from_json,
    pattern_from_json,
    pattern_to_json,
    refuse_others,
    steps_of,
    template_from_json,
    template_to_json,
    type_of,
)
from tt_language.tokenization.vocabulary import check_vocab

# --- byte-level BPE


@dataclass(frozen=True)
class BPEFields:
    """The arguments of `BPETokenizer`, which a tokenizer.json describes."""

    vocab: Mapping[str, int]
    merges: list[tuple[str, str]]
    pattern: str | list[str] | None = None
    special_tokens: list[AddedToken] = field(default_factory=list)
    added_tokens: list[AddedToken] = field(default_factory=list)
    ignore_merges: bool = False
    prefix_tokens: list[str] = field(default_factory=list)
    suffix_tokens: list[str] = field(default_factory=list)
    normalizer: str | None = None
    add_prefix_space: bool = False


def bpe_to_json(fields: BPEFields) -> dict[str, Any]:
    """The tokenizer.json object of a byte-level BPE tokenizer, with which `tokenizers` gives the same ids."""
    vocab = fields.vocab
    added = [_added_token(token, vocab[token.content], True) for token in fields.special_tokens]
    added += [_added_token(token, vocab[token.content], False) for token in fields.added_tokens]
    return _tokenizer_json(
        added_tokens=sorted(added, key=lambda entry: entry["id"]),
        normalizer=None if fields.normalizer is None else {"type": fields.normalizer},
        pre_tokenizer=pattern_to_json(fields.pattern, fields.add_prefix_space),
        post_processor=template_to_json(fields.prefix_tokens, fields.suffix_tokens, vocab),
        decoder=byte_level_step(use_regex=True),
        model={
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": fields.ignore_merges,
            "vocab": vocab,
            "merges": [f"{a} {b}" for a, b in fields.merges],
        },
    )


def bpe_from_json(data: Mapping[str, Any]) -> BPEFields:
    """The arguments of `BPETokenizer`; raises `TokenizerError` for an unsupported setting."""
    refuse_others(data, _PARTS, "")
    model = _model_of(data, "BPE")
    _check_settings(data, model)
    pattern, add_prefix_space = pattern_from_json(data.get("pre_tokenizer"))
    vocab = _vocab_of(model)
    special, added = _added_tokens_of(data, vocab)
    prefix, suffix = template_from_json(data.get("post_processor"), vocab)
    return BPEFields(
        vocab, _merges_of(model), pattern, special, added, model.get("ignore_merges") is True, prefix, suffix,
        normalizer_from_json(data.get("normalizer")), add_prefix_space,
    )  # fmt: skip


def _check_settings(data: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Raise `TokenizerError` for settings that change the ids and are not supported."""
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(option):
            raise TokenizerError(
                f"model.{option} is {short(model[option])}; only byte-level BPE without it is supported"
            )
    refuse_others(model, _MODEL_PARTS, "model.")
    for option in ("truncation", "padding"):
        if data.get(option) is not None:
            raise TokenizerError(f"{option} is {short(data[option])}, which changes the ids; only null is read")
    if not isinstance(model.get("ignore_merges"), (bool, type(None))):
        raise TokenizerError(f"model.ignore_merges is {short(model['ignore_merges'])}, expected true or false")
    decoders = steps_of(data.get("decoder"), "decoders", "decoder")
    if any(type_of(step) != "ByteLevel" for step in decoders):
        raise TokenizerError(f"decoder {' + '.join(map(type_of, decoders))} is not byte-level BPE's (ByteLevel)")


_PARTS = ("version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
          "decoder", "model")  # fmt: skip
# An unk_token replaces characters that the vocabulary lacks; byte-level BPE has every byte. fuse_unk joins several.
_MODEL_PARTS = ("type", "vocab", "merges", "unk_token", "fuse_unk", "cache_capacity", "ignore_merges", "dropout",
                "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")  # fmt: skip


# --- vocabulary, merges, added tokens


def _vocab_of(model: Mapping[str, Any]) -> dict[str, int]:
    vocab = model.get("vocab")
    if not isinstance(vocab, dict):
        raise TokenizerError("model.vocab must be an object from token to id")
    for token, i in vocab.items():
        if type(i) is not int:
            raise TokenizerError(f"model.vocab gives token {short(token)} the id {short(i)}, expected an integer")
    return dict(vocab)


def _merges_of(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Merges are "a b" in files of `tokenizers` before version 0.20, and ["a", "b"] since."""
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise TokenizerError("model.merges must be a list")
    return [parse_merge(merge, f"merge {n}") for n, merge in enumerate(merges)]


def parse_merge(merge: object, where: str) -> tuple[str, str]:
    """The two halves of one merge, "a b" or ["a", "b"]."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not (isinstance(parts, list) and len(parts) == 2 and all(isinstance(p, str) and p for p in parts)):
        raise TokenizerError(f"{where} is {short(merge)}, expected two tokens")
    return parts[0], parts[1]


def _added_tokens_of(data: Mapping[str, Any], vocab: dict[str, int]) -> tuple[list[AddedToken], list[AddedToken]]:
    """The special and the other added tokens; adds their ids to `vocab`."""
    entries = [] if data.get("added_tokens") is None else data["added_tokens"]
    if not isinstance(entries, list):
        raise TokenizerError("added_tokens must be a list")
    special: list[AddedToken] = []
    added: list[AddedToken] = []
    for entry in entries:
        token, i = _added_token_of(entry)
        if vocab.setdefault(token.content, i) != i:
            raise TokenizerError(
                f"added token {short(token.content)} has id {short(i)}, but model.vocab gives it {vocab[token.content]}"
            )
        (special if entry.get("special") is True else added).append(token)
    return special, added


_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def _added_token_of(entry: object) -> tuple[AddedToken, int]:
    if not isinstance(entry, dict) or type(entry.get("id")) is not int or not isinstance(entry.get("content"), str):
        raise TokenizerError(f"added token {short(entry)} has no integer id and text content")
    flags = {flag: entry.get(flag, False) for flag in _FLAGS}
    for flag, value in flags.items():
        if not isinstance(value, bool):
            raise TokenizerError(f"added token {short(entry['content'])} has {flag} {short(value)}, expected a boolean")
    return AddedToken(entry["content"], **flags), entry["id"]


def _added_token(token: AddedToken, i: int, special: bool) -> dict[str, Any]:
    return {"id": i, "content": token.content, **{flag: getattr(token, flag) for flag in _FLAGS}, "special": special}


# --- GPT-2's own two files


def read_gpt2(encoder_json: PathLike, vocab_bpe: PathLike) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of GPT-2's encoder.json and vocab.bpe (or vocab.json and merges.txt)."""
    lines = read_text(vocab_bpe).removeprefix(BYTE_ORDER_MARK).split("\n")
    merges = [
        parse_merge(line.rstrip("\r"), f"{vocab_bpe} line {n}")
        for n, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#version")
    ]
    return _vocab_of({"vocab": read_json(encoder_json)}), merges


# --- characters

_EVERY_CHARACTER = {
    "type": "Split",
    "pattern": {"Regex": "[\\s\\S]"},
    "behavior": "Isolated",
    "invert": False,
}


def characters_to_json(characters: Sequence[str]) -> dict[str, Any]:
    """The tokenizer.json object of a character tokenizer: WordLevel, each word one character."""
    return _tokenizer_json(
        added_tokens=[],
        pre_tokenizer=_EVERY_CHARACTER,
        post_processor=None,
        decoder={"type": "Fuse"},
        # WordLevel requires an unk_token; one longer than a character makes unknown text an error there too
        model={"type": "WordLevel", "vocab": {c: i for i, c in enumerate(characters)}, "unk_token": "<unk>"},
    )


def characters_from_json(data: Mapping[str, Any]) -> list[str]:
    """The characters, in order of their ids, of a tokenizer.json that `characters_to_json` made."""
    vocab = _vocab_of(_model_of(data, "WordLevel"))
    others = ("truncation", "padding", "normalizer", "added_tokens", "post_processor")
    if data.get("pre_tokenizer") != _EVERY_CHARACTER or any(data.get(name) for name in others):
        raise TokenizerError("a WordLevel tokenizer that does not split text into characters is not supported")
    check_vocab(vocab)
    if max(vocab.values(), default=0) >= len(vocab):
        raise TokenizerError(f"the {len(vocab)} characters have ids with gaps")
    return sorted(vocab, key=vocab.__getitem__)


# --- shared


def model_type(data: Mapping[str, Any]) -> str:
    """The kind of model in a tokenizer.json object; raises `TokenizerError` without one."""
    name = type_of(data.get("model"))
    if name == "nothing":
        raise TokenizerError("has no model with a type: not a tokenizer.json")
    return name


def _model_of(data: Mapping[str, Any], expected: str) -> Mapping[str, Any]:
    if (name := model_type(data)) != expected:
        raise TokenizerError(f"holds a {name} model, expected {expected}")
    return data["model"]


def _tokenizer_json(**parts: Any) -> dict[str, Any]:
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, **parts}


_T = TypeVar("_T")


def load_as(path: PathLike, make: Callable[[Mapping[str, Any]], _T]) -> _T:
    """`make(content)` of a tokenizer.json file, or of the one in a folder; errors name the file."""
    if os.path.isdir(path):
        path = Path(path) / "tokenizer.json"
    data = read_json(path)
    try:
        return make(data)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from None
