"""The errors of Act IV that a user can act on, each one line, and how they show values that strangers chose."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

from tt_core.errors import TinyTorchError
from tt_learn.checkpoints import CheckpointError as CheckpointError


class TokenizerError(TinyTorchError, ValueError):
    """Text, ids or a tokenizer file that a tokenizer cannot use."""


class ConfigError(TinyTorchError, ValueError):
    """Sizes or options of which no model or generation can be made."""


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
