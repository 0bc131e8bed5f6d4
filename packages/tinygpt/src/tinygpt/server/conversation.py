"""Turns a conversation into the prompt of its next answer, by the tokenizer's chat template or a plain dialogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinygpt.chat import check_messages, encode_chat, end_of_turn
from tt_language import BPETokenizer, Tokenizer

_NAMES = {"system": "", "user": "User: ", "assistant": "Assistant: "}


def conversation(
    messages: Sequence[Mapping[str, Any]], tokenizer: Tokenizer
) -> tuple[list[int], tuple[str, ...], frozenset[int]]:
    """The ids of a conversation up to where the assistant answers, and the stop strings and ids that end the answer.

    A model without a chat template was trained on plain text, so it gets a dialogue as plain text. Raises `ChatError`
    for messages or templates that are wrong, and `TokenizerError` for characters that the tokenizer does not know.

    >>> from tt_language import ByteTokenizer
    >>> ids, stops, ends = conversation([{"role": "user", "content": "Hi"}], ByteTokenizer())
    >>> ByteTokenizer().decode(ids), stops, ends
    ('User: Hi\\nAssistant:', ('\\nUser:',), frozenset())
    """
    if tokenizer.chat_template is not None:
        return encode_chat(messages, tokenizer), (), frozenset(end_of_turn(tokenizer))
    turns = [f"{_NAMES[turn['role']]}{turn['content'].strip()}" for turn in check_messages(messages)]
    text = "\n".join([*turns, "Assistant:"])
    plain = (
        {"allow_special": False} if isinstance(tokenizer, BPETokenizer) else {}
    )  # special tokens that a user types are text
    return tokenizer.encode(text, **plain), ("\nUser:",), frozenset()
