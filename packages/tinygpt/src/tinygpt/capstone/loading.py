"""Part of module 20, capstone: the model and the tokenizer that the files of a folder describe, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygpt.runs import RunFolder
from tt_core.engine.errors import FileError
from tt_language import GPT, GPTConfig, Tokenizer, load_tokenizer
from tt_language.errors import ConfigError


def advice(folder: RunFolder) -> str:
    """What to do about a run without a model."""
    if folder.last_checkpoint.exists():
        command = "finetune" if "finetuning" in folder.read_config() else "train"
        return f"continue with: tinygpt {command} --resume {folder.path}"
    return "its training writes it at the first validation; if it was stopped before that, start it again"


def saved_tokenizer(folder: RunFolder, model: GPT, padded: bool = False) -> Tokenizer:
    """The tokenizer of a run; raises `FileError` for one that its `model` was not trained with.

    With `padded`, the model may know more ids than the tokenizer, as models in Hugging Face's format often do.
    """
    tokenizer, known = load_tokenizer(folder.path), model.config.vocab_size
    if tokenizer.vocab_size > known or (tokenizer.vocab_size < known and not padded):
        raise FileError(
            f"{folder.tokenizer} has {tokenizer.vocab_size} entries, the model knows {known}; put back the run's own"
        )
    return tokenizer


def new_model(folder: RunFolder, config: Mapping[str, Any], weights: int) -> GPT:
    """A model of the shape in a run's config.json, for a file of `weights` numbers.

    Raises `FileError` for a config.json without a shape, or with one so large that it is not worth allocating.
    """
    if not isinstance(config.get("model"), dict):
        raise FileError(f"{folder.config} is damaged: it has no entry 'model'")
    try:
        shape = GPTConfig.from_dict(config["model"])
    except (ConfigError, TypeError) as error:
        raise FileError(f"{folder.config} is damaged: {error}") from None
    described = shape.n_embd * max(shape.vocab_size, shape.n_layer, shape.intermediate_size or 1)
    if shape.position == "learned":
        described = max(described, shape.n_embd * shape.block_size)
    if described > weights:
        raise FileError(f"{folder.config} describes {described:,} weights or more, the saved model has {weights:,}")
    return GPT(shape)
