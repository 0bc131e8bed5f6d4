"""Part of module 10, tokenization: texts, ids and vocabularies of callers, checked and brought to one form."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Sequence

from tt_language.errors import TokenizerError, first_few, short


def id_list(ids: Iterable[int]) -> list[int]:
    """Ids from a list, array or tensor as Python ints."""
    try:
        values = ids.tolist() if hasattr(ids, "tolist") else ids
        return list(map(operator.index, values))
    except TypeError:
        raise TokenizerError(f"ids must be a flat sequence of integers, got {short(ids)}") from None


def check_text(text: object) -> str:
    """The text itself; raises `TokenizerError` for anything but text, and for text that UTF-8 cannot encode."""
    if not isinstance(text, str):
        raise TokenizerError(f"expected a text (str), got {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise TokenizerError(
            f"text has a lone surrogate U+{code:04X} at index {error.start}, which is not a character"
            '; clean it with text.encode("utf-8", "replace").decode()'
        ) from None
    return text


def character_list(given: str | Sequence[str]) -> list[str]:
    """The characters of a text in the order of code points, or those of a list in its order.

    Raises `TokenizerError` for an empty or repeating vocabulary, and for entries that are not one character.
    """
    if not isinstance(given, Iterable):
        raise TokenizerError(f"a vocabulary is a text or a list of characters, got {short(given)}")
    characters = sorted(set(given)) if isinstance(given, str) else list(given)
    for c in characters:
        if len(check_text(c)) != 1:
            raise TokenizerError(f"a vocabulary of characters holds {short(c)}, which is not one character")
    if not characters:
        raise TokenizerError("a vocabulary needs at least one character, got none")
    if repeated := [c for c, n in Counter(characters).items() if n > 1]:
        raise TokenizerError(f"the vocabulary repeats {first_few(repeated)}")
    return characters
