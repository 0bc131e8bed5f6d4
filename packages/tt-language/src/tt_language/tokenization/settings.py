"""Part of module 10, tokenization: tokenizer_config.json, which says how a tokenizer is used, not what its ids are.

Of its entries, three are read: the chat template, and the tokens that begin and end a text. They become attributes of
the tokenizer and are written back by `save_settings`. Templates are text here; `tinygpt.chat` renders them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tt_language.errors import TokenizerError, short
from tt_language.tokenization.base import Tokenizer
from tt_language.tokenization.files import PathLike, read_json, read_text, write_json

CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
"""The file into which newer versions of `transformers` write the template. It takes precedence, as there."""


def load_settings(tokenizer: Tokenizer, folder: PathLike) -> None:
    """Set `chat_template`, `bos_token` and `eos_token` of a tokenizer to what the files of a folder say.

    Folders without these files leave the tokenizer unchanged. Raises `TokenizerError` for damaged files.
    """
    config, template = Path(folder) / CONFIG, Path(folder) / TEMPLATE
    values = read_json(config) if config.is_file() else {}
    try:
        tokenizer.bos_token = _token_of(values, "bos_token")
        tokenizer.eos_token = _token_of(values, "eos_token")
        tokenizer.chat_template = _template_of(values.get("chat_template"))
    except TokenizerError as error:
        raise TokenizerError(f"{config}: {error}") from None
    if template.is_file():
        tokenizer.chat_template = read_text(template)


def save_settings(tokenizer: Tokenizer, folder: PathLike, **others: object) -> None:
    """Write the tokenizer_config.json that `load_settings` reads; `others` are further entries of it."""
    names = ("bos_token", "eos_token", "chat_template")
    ours = {name: getattr(tokenizer, name) for name in names if getattr(tokenizer, name) is not None}
    write_json(Path(folder) / CONFIG, {**others, **ours})


def _token_of(values: Mapping[str, Any], name: str) -> str | None:
    """A token, which files give as a text or as an object with its options."""
    given = values.get(name)
    token = given.get("content") if isinstance(given, dict) else given
    if token is not None and (not isinstance(token, str) or not token):
        raise TokenizerError(f"{name} is {short(given)}, expected a text")
    return token


def _template_of(given: Any) -> str | None:
    """The template itself, or the default one of a list of named templates."""
    if isinstance(given, list):
        named = {entry.get("name"): entry.get("template") for entry in given if isinstance(entry, dict)}
        given = named.get("default")
    if given is not None and not isinstance(given, str):
        raise TokenizerError(f"chat_template is {short(given)}, expected a text")
    return given
