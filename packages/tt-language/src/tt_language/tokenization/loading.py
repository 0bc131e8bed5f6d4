"""Part of module 10, tokenization: reading a tokenizer of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tt_core.engine.arguments import checked
from tt_language.errors import TokenizerError
from tt_language.tokenization.base import Tokenizer
from tt_language.tokenization.bpe import BPETokenizer
from tt_language.tokenization.characters import ByteTokenizer, CharTokenizer, byte_fields
from tt_language.tokenization.files import PathLike
from tt_language.tokenization.settings import load_settings
from tt_language.tokenization.tokenizer_json import bpe_from_json, characters_from_json, load_as, model_type


@checked
def load_tokenizer(path: PathLike) -> Tokenizer:
    """Read a tokenizer of any kind from a tokenizer.json file, or from the folder of a model that contains one.

    A folder without tokenizer.json may contain GPT-2's vocab.json and merges.txt, or encoder.json and vocab.bpe. Its
    tokenizer_config.json gives the tokenizer's `chat_template`, `bos_token` and `eos_token`.
    Raises `TokenizerError` for a file of an unknown kind, `FileError` for a missing one.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "tokenizer.json"
    >>> CharTokenizer("abc").save(path)
    >>> load_tokenizer(path)
    CharTokenizer(vocab_size=3)
    """
    folder = Path(path)
    if not folder.is_dir():
        return load_as(path, _tokenizer_from_json)
    tokenizer = _tokenizer_of(folder)
    load_settings(tokenizer, folder)
    return tokenizer


def _tokenizer_of(folder: Path) -> Tokenizer:
    if not (folder / "tokenizer.json").exists():
        if (folder / "added_tokens.json").exists():
            raise TokenizerError(f"{folder}: added_tokens.json is not read; convert the tokenizer to a tokenizer.json")
        for vocab, merges in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
            if (folder / vocab).exists() and (folder / merges).exists():
                return BPETokenizer.from_gpt2(folder / vocab, folder / merges)
    return load_as(folder, _tokenizer_from_json)


def _tokenizer_from_json(data: Mapping[str, Any]) -> Tokenizer:
    kind = model_type(data)
    if kind == "WordLevel":
        return CharTokenizer(characters_from_json(data))
    if kind != "BPE":
        raise TokenizerError(f"holds a {kind} model; known are BPE (byte-level) and WordLevel (characters)")
    fields = bpe_from_json(data)
    return ByteTokenizer() if fields == byte_fields() else BPETokenizer(**vars(fields))
