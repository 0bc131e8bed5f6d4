"""Module 20, capstone: a token that ends an answer, for models whose tokenizer has none.

GPT-2 and Llama have one. A run that was trained on one long text has none: its tokenizer then gets a further token, and
the model a row for it in its tables.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tinygpt.capstone.capstone import TinyGPT
from tinygpt.chat import end_of_turn
from tt_core import from_numpy, init
from tt_core.engine.errors import TinyTorchError
from tt_language import GPT, BPETokenizer, ByteTokenizer, Tokenizer
from tt_language.tokenization.characters import byte_fields

END = "<|endoftext|>"


def with_end(gpt: TinyGPT, extend: bool) -> TinyGPT:
    """The model with a token that ends an answer, at which generation stops.

    `extend`: whether the vocabulary may grow, which an adapter cannot hold. Raises `TinyTorchError` where it would have
    to, and for a tokenizer of characters, which has no room for a token that is no character.
    """
    if gpt.tokenizer.eos_token is None:
        gpt = _given_end(gpt, extend)
    gpt.stop_at(end_of_turn(gpt.tokenizer))
    return gpt


def _given_end(gpt: TinyGPT, extend: bool) -> TinyGPT:
    known = _known_end(gpt)
    if known is not None:
        gpt.tokenizer.eos_token = known
        return gpt
    tokenizer = _extended(gpt.tokenizer)
    if tokenizer.vocab_size > gpt.model.config.vocab_size:
        if not extend:
            raise TinyTorchError(
                "the model has no token that ends an answer, and an adapter cannot add one; fine-tune without --lora"
            )
        gpt = TinyGPT(_with_row(gpt.model, tokenizer.vocab_size), tokenizer)
    else:
        gpt.tokenizer = tokenizer
    gpt.tokenizer.eos_token = END
    return gpt


def _known_end(gpt: TinyGPT) -> str | None:
    """The special token that the model's config, or custom, says to end a text."""
    special: dict[str, int] = getattr(gpt.tokenizer, "special_tokens", {})
    by_id = {i: token for token, i in special.items()}
    named = [by_id[i] for i in gpt.model.config.end_ids if i in by_id]
    return named[0] if named else END if END in special else None


def _extended(tokenizer: Tokenizer) -> BPETokenizer:
    """The same ids for all texts, and one more for the end."""
    if isinstance(tokenizer, ByteTokenizer):
        fields = byte_fields()
        return BPETokenizer(fields.vocab, fields.merges, fields.pattern, special_tokens=[END])
    if not isinstance(tokenizer, BPETokenizer):
        raise TinyTorchError(
            "a tokenizer of characters has no token that ends an answer; fine-tune on plain text, or a model that was "
            "trained with --tokenizer bpe or byte"
        )
    made = tokenizer.with_special_tokens([END])
    made.chat_template, made.bos_token = tokenizer.chat_template, tokenizer.bos_token
    return made


def _with_row(model: GPT, vocab_size: int) -> GPT:
    """The model with further rows in its tables: the mean of all others, which is no unlikely start for any token."""
    with init.skipped():
        larger = GPT(dataclasses.replace(model.config, vocab_size=vocab_size))
    state = dict(model.named_parameters())
    for name, parameter in larger.named_parameters():
        values = state[name].data
        if values.shape != parameter.shape:
            rows = np.broadcast_to(values.mean(0), (vocab_size - len(values), values.shape[1]))
            values = np.concatenate([values, rows])
        parameter.data = from_numpy(np.ascontiguousarray(values)).data
    return larger.eval()
