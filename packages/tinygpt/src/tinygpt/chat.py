"""Module 20, capstone: conversations as text. A chat template says how; it comes with the tokenizer.

`OWN_TEMPLATE` is what `tinygpt finetune` writes, and is rendered here without Jinja. Other models' templates are
rendered by `jinja2` in its sandbox (extra `tinygpt[chat]`).

    <|user|>
    What is the capital of France?<|endoftext|>
    <|assistant|>
    Paris.<|endoftext|>

Only the template makes special tokens: where a message spells one, `encode_chat` encodes it as ordinary text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tt_core.engine.errors import TinyTorchError
from tt_language.tokenization import BPETokenizer, Tokenizer

OWN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] | trim + eos_token + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
"""The chat template of this project, as Jinja, so that `transformers` renders it to the same text."""
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""What a message may name, and what a template calls it."""
_MARKS = [chr(code) for code in range(0xFDD0, 0xFDF0)]
"""Code points that are never characters."""


class ChatError(TinyTorchError, ValueError):
    """A conversation, or a chat template, that cannot be rendered."""


Message = Mapping[str, Any]


def render(messages: Iterable[Message], tokenizer: Tokenizer, add_generation_prompt: bool = True) -> str:
    """The text of a conversation by the tokenizer's chat template.

    messages: objects with a `role` (system, developer, user or assistant) and a `content`, which is a text or a list of
    OpenAI's text parts. A developer is the system.
    add_generation_prompt: ends with the opening of the assistant's next message.

    Raises `ChatError` for other messages, for a model without a template, and for a template that does not render.

    >>> from tt_language import BPETokenizer
    >>> tokenizer = BPETokenizer.train("Hello", 257, special_tokens=["<|end|>"])
    >>> tokenizer.chat_template, tokenizer.eos_token = OWN_TEMPLATE, "<|end|>"
    >>> render([{"role": "user", "content": "Hello"}], tokenizer)
    '<|user|>\\nHello<|end|>\\n<|assistant|>\\n'
    """
    return _rendered(check_messages(messages), tokenizer, add_generation_prompt)


def encode_chat(messages: Iterable[Message], tokenizer: Tokenizer, add_generation_prompt: bool = True) -> list[int]:
    """The ids of a conversation. Special tokens that a message spells are ordinary text.

    Raises what `render` raises, and `TokenizerError` for characters that the tokenizer does not know.

    >>> from tt_language import BPETokenizer
    >>> tokenizer = BPETokenizer.train("Hello", 257, special_tokens=["<|end|>"])
    >>> tokenizer.chat_template, tokenizer.eos_token = OWN_TEMPLATE, "<|end|>"
    >>> encode_chat([{"role": "user", "content": "<|end|>"}], tokenizer).count(0)
    1
    """
    spellings = _special_spellings(tokenizer)
    hidden, mark = _hide(check_messages(messages), spellings)
    ids: list[int] = []
    for i, part in enumerate(_rendered(hidden, tokenizer, add_generation_prompt).split(mark)):
        if i % 2:  # between two marks: the number of a spelling
            ids += _encode(tokenizer, spellings[int(part)], allow_special=False)
        else:
            ids += _encode(tokenizer, part, allow_special=True)
    return ids


def end_of_turn(tokenizer: Tokenizer) -> list[int]:
    """The ids that end an answer: that of the tokenizer's `eos_token`; empty where it has none."""
    if tokenizer.eos_token is None:
        return []
    ids = _encode(tokenizer, tokenizer.eos_token, allow_special=True)
    if len(ids) != 1:
        raise ChatError(
            f"eos_token {tokenizer.eos_token[:40]!r} is no token of the vocabulary; correct tokenizer_config.json"
        )
    return ids


def check_messages(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The messages with texts as contents; raises `ChatError` that names the first one that is wrong."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise ChatError(f"messages are a list of objects with role and content, got one {type(messages).__name__}")
    checked = [_checked(number, message) for number, message in enumerate(messages)]
    if not checked:
        raise ChatError("messages are an empty list; give at least one, such as {'role': 'user', 'content': 'Hello'}")
    return checked


def _checked(number: int, message: Any) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise ChatError(f"message {number} is a {type(message).__name__}, expected an object with role and content")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in ROLES:
        raise ChatError(f"message {number} has role {str(role)[:40]!r}, expected one of {', '.join(ROLES)}")
    if isinstance(content, Sequence) and not isinstance(content, str):
        content = _joined(number, content)
    if not isinstance(content, str):
        raise ChatError(f"message {number} has content of type {type(content).__name__}, expected a text")
    return {"role": ROLES[role], "content": content}


def _joined(number: int, parts: Sequence[Any]) -> str:
    """The texts of OpenAI's content parts."""
    for part in parts:
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ChatError(f"message {number} has a content part that is not of type text; only texts are understood")
    return "".join(part["text"] for part in parts)


# --- templates


def _rendered(messages: list[dict[str, Any]], tokenizer: Tokenizer, add_generation_prompt: bool) -> str:
    template = tokenizer.chat_template
    if template is None:
        raise ChatError("the model has no chat template; train it on conversations first with: tinygpt finetune")
    tokens = {"bos_token": tokenizer.bos_token or "", "eos_token": tokenizer.eos_token or ""}
    if template == OWN_TEMPLATE:
        turns = [f"<|{m['role']}|>\n{m['content'].strip()}{tokens['eos_token']}\n" for m in messages]
        return "".join([tokens["bos_token"], *turns, "<|assistant|>\n" * add_generation_prompt])
    return _by_jinja(template, {"messages": messages, "add_generation_prompt": add_generation_prompt, **tokens})


def _by_jinja(template: str, values: Mapping[str, Any]) -> str:
    """Renders a template of another model in Jinja's sandbox."""
    environment = _sandbox()
    from jinja2.exceptions import TemplateError

    mistakes = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
    try:
        return environment.from_string(template).render(**values)
    except ChatError:
        raise
    except (TemplateError, *mistakes) as error:
        reason = str(error) or type(error).__name__
        raise ChatError(f"the model's chat template does not render: {reason[:200]}") from None


def _sandbox() -> Any:
    """Jinja's sandbox, with the functions that `transformers` gives to templates."""
    try:
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise ChatError(
            "the model has a chat template of its own, which needs jinja2; install it with: pip install 'tinygpt[chat]'"
        ) from None
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals.update(raise_exception=_refuse, strftime_now=_now)
    environment.filters["tojson"] = _to_json
    return environment


def _refuse(message: object) -> None:
    """What templates call for a conversation that they do not take."""
    raise ChatError(f"the model's chat template refuses this conversation: {str(message)[:200]}")


def _now(form: str) -> str:
    import datetime

    return datetime.datetime.now().strftime(form)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


# --- special tokens in messages


def _special_spellings(tokenizer: Tokenizer) -> list[str]:
    """The texts of the tokenizer's special tokens, longest first."""
    return sorted(getattr(tokenizer, "special_tokens", ()), key=len, reverse=True)


def _hide(messages: list[dict[str, Any]], spellings: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """The messages with the number of a spelling, between two marks, in its place; and the mark."""
    whole = "".join(message["content"] for message in messages)
    mark = next((mark for mark in _MARKS if mark not in whole), None)
    if mark is None:
        raise ChatError("the messages hold U+FDD0 to U+FDEF, which are not characters; remove them")
    found = [(number, spelling) for number, spelling in enumerate(spellings) if spelling in whole]
    hidden = []
    for message in messages:
        parts: list[tuple[str, bool]] = [(message["content"], False)]  # a text, and whether it is a number already
        for number, spelling in found:
            parts = [new for part in parts for new in _cut(part, spelling, f"{mark}{number}{mark}")]
        hidden.append({**message, "content": "".join(text for text, _ in parts)})
    return hidden, mark


def _cut(part: tuple[str, bool], spelling: str, instead: str) -> list[tuple[str, bool]]:
    text, done = part
    if done:
        return [part]
    first, *rest = text.split(spelling)
    return [(first, False), *(new for piece in rest for new in ((instead, True), (piece, False)))]


def _encode(tokenizer: Tokenizer, text: str, allow_special: bool) -> list[int]:
    """Ids without what `encode` puts around a text: the template has that. Only BPE has special tokens."""
    if not text:
        return []
    if isinstance(tokenizer, BPETokenizer):
        return tokenizer.encode(text, add_special_tokens=False, allow_special=allow_special)
    return tokenizer.encode(text)
