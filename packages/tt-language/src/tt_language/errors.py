"""The errors of Act IV that a user can act on, each one line, and how they show values that strangers chose."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

from tt_core.engine.errors import ArgumentError, ShapeError, TinyTorchError, is_integer
from tt_learn.training.checkpoints import CheckpointError as CheckpointError


class TokenizerError(TinyTorchError, ValueError):
    """Text, ids or a tokenizer file that a tokenizer cannot use."""


class ConfigError(TinyTorchError, ValueError):
    """Sizes or options of which no model or generation can be made."""


def check_sizes(owner: str, least: int = 1, **sizes: object) -> None:
    """Raise `ShapeError` that names a size which is no whole number from `least` on.

    >>> check_sizes("MultiHeadAttention", embed_dim=8, num_heads="2")
    Traceback (most recent call last):
    ...
    tt_core.engine.errors.ShapeError: MultiHeadAttention: num_heads is '2', expected a whole number, 1 or more
    """
    for name, value in sizes.items():
        if not is_integer(value, least):
            raise ShapeError(f"{owner}: {name} is {short(value)}, expected a whole number, {least} or more")


def check_probability(owner: str, name: str, value: object) -> None:
    """Raise `ArgumentError` for a `value` that is no number from 0 to 1."""
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ArgumentError(f"{owner}: {name} is a probability, got {short(value)}")


def check_positive(owner: str, name: str, value: object) -> None:
    """Raise `ShapeError` for a `value` that is no number above 0."""
    if not isinstance(value, (int, float)) or not value > 0:
        raise ShapeError(f"{owner}: {name} is {short(value)}, expected a number above 0")


# --- what was given, in one line

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 60


def short(value: object) -> str:
    """A value as an error may show it: one line, neither long nor deep.

    >>> short("a" * 100)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaaaaaaaaaaa'"
    """
    return _brief.repr(value)


def first_few(items: Iterable[str], limit: int = 5) -> str:
    """The first few of many things, for an error line.

    >>> first_few("abcdefg", 3)
    "'a', 'b', 'c' and 4 more"
    """
    names = [short(item) for item in items]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
