"""Module 20, capstone: a conversation in a terminal, or over a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from tinygpt.capstone.capstone import TinyGPT
from tinygpt.chat import encode_chat

Message = dict[str, str]
HELP = "/reset begins a new conversation, /exit ends the program"


def talk(gpt: TinyGPT, system: str | None, options: Mapping[str, Any]) -> None:
    """Answer lines of the standard input until it ends; `options` are those of `TinyGPT.chat`.

    Raises `ChatError` before the first line where the model has no chat template.
    """
    opening: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    encode_chat([*opening, {"role": "user", "content": "a"}], gpt.tokenizer)
    messages = list(opening)
    for line in _lines():
        if line in ("/exit", "/quit"):
            return
        if line == "/reset":
            messages = list(opening)
        elif line == "/help":
            click.echo(HELP)
        elif line:
            messages = shortened(gpt, [*messages, {"role": "user", "content": line}], options["max_new_tokens"])
            messages.append({"role": "assistant", "content": _answered(gpt, messages, options)})


def _lines() -> Iterator[str]:
    """The lines of the input; in a terminal, a sign asks for each."""
    if sys.stdin is None:
        return
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # bytes that are not UTF-8 must not end a conversation
    asking = sys.stdin.isatty()
    if asking:
        click.echo(HELP)
    while True:
        if asking:
            click.echo("> ", nl=False)
        line = sys.stdin.readline()
        if not line:
            if asking:
                click.echo()
            return
        yield line.strip()


def _answered(gpt: TinyGPT, messages: list[Message], options: Mapping[str, Any]) -> str:
    """Print an answer as it comes, and return it. Ctrl-C in a terminal ends the answer alone."""
    text = ""
    try:
        for piece in gpt.chat(messages, **options):
            text += piece
            click.echo(piece, nl=False)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    click.echo()
    return text


def shortened(gpt: TinyGPT, messages: list[Message], max_new_tokens: int) -> list[Message]:
    """The messages without the oldest ones, where there is no room for them and for an answer in the context.

    What the system says and the last message stay.
    """
    size = gpt.model.config.block_size
    room = size - min(max_new_tokens, size // 4)
    first = 1 if messages[0]["role"] == "system" else 0
    while len(messages) > first + 2 and len(encode_chat(messages, gpt.tokenizer)) > room:
        messages = [*messages[:first], *messages[first + 2 :]]
    return messages
