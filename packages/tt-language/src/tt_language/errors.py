"""The errors of Act IV that a user can act on, each one line, and how untrusted values are shown in them."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

from tt_core.engine.errors import ArgumentError, TinyTorchError, is_integer
from tt_learn.training.checkpoints import CheckpointError as CheckpointError


class TokenizerError(TinyTorchError, ValueError):
    """Text, ids or a tokenizer file that a tokenizer cannot use."""


class ConfigError(ArgumentError):
    """Options that do not describe a model or a generation."""


def check_sizes(owner: str, least: int = 1, **sizes: object) -> None:
    """Raise `ArgumentError` that names a size which is not an integer of at least `least`.

    >>> check_sizes("MultiHeadAttention", embed_dim=8, num_heads="2")
    Traceback (most recent call last):
    ...
    tt_core.engine.errors.ArgumentError: MultiHeadAttention: num_heads is '2', expected an integer, 1 or more
    """
    for name, value in sizes.items():
        if not is_integer(value, least):
            raise ArgumentError(f"{owner}: {name} is {short(value)}, expected an integer, {least} or more")


def check_probability(owner: str, name: str, value: object) -> None:
    """Raise `ArgumentError` unless `value` is a number from 0 to 1."""
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ArgumentError(f"{owner}: {name} is a probability, got {short(value)}")


def check_positive(owner: str, name: str, value: object) -> None:
    """Raise `ArgumentError` unless `value` is a number above 0."""
    if not isinstance(value, (int, float)) or not value > 0:
        raise ArgumentError(f"{owner}: {name} is {short(value)}, expected a number above 0")


# --- values in one line

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 60


def short(value: object) -> str:
    """A value for an error message: one line, neither long nor deep.

    >>> short("a" * 100)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaaaaaaaaaaa'"
    """
    return _brief.repr(value)


def first_few(items: Iterable[str], limit: int = 5) -> str:
    """The first few of many items, for an error message.

    >>> first_few("abcdefg", 3)
    "'a', 'b', 'c' and 4 more"
    """
    names = [short(item) for item in items]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def printable(text: str) -> str:
    """Text with control characters spelled out, for a picture.

    >>> printable("a\\n")
    'a\\\\n'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
