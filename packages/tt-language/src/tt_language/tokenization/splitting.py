"""Part of module 10, tokenization: cutting text into pieces by regular expressions, before merges are applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import regex  # type: ignore[import-untyped, unused-ignore]

from tt_language.errors import TokenizerError, short

SECONDS = 10.0
"""The time limit for cutting a text, and one second more per 100,000 characters; GPT-2's pattern needs 1/100 of it."""


def splitter(pattern: str | Sequence[str] | None) -> Callable[[str], list[str]]:
    """A function that cuts text into pieces, which joined are the text again for every pattern.

    Each of several patterns cuts the pieces of the one before. `^` and `$` match at line ends, as in the `tokenizers`
    library. Raises `TokenizerError` for an invalid pattern.
    """
    if pattern is None:
        return _no_split
    if isinstance(pattern, (list, tuple)):
        return Splitters(tuple([splitter(each) for each in pattern]))
    try:
        compiled = regex.compile(pattern, regex.MULTILINE)
    except (regex.error, TypeError, RecursionError, OverflowError) as error:
        raise TokenizerError(f"pattern {short(pattern)} is not a regular expression: {error}") from None
    return Splitter(compiled)


def _no_split(text: str) -> list[str]:
    return [text] if text else []


@dataclass(frozen=True)
class Splitters:
    """Cuts text by several patterns in turn."""

    steps: tuple[Callable[[str], list[str]], ...]

    def __call__(self, text: str) -> list[str]:
        pieces = _no_split(text)
        for split in self.steps:
            pieces = [part for piece in pieces for part in split(piece)]
        return pieces


# Splitting first keeps merges inside words: otherwise "dog." and "dog!" would become tokens of their own (Radford et
# al. 2019, section 2.2).
@dataclass(frozen=True)
class Splitter:
    """Cuts text at the matches of a pattern."""

    pattern: regex.Pattern[str]

    def __call__(self, text: str) -> list[str]:
        timeout = SECONDS + len(text) / 1e5
        try:
            return self._cut(text, timeout)
        except TimeoutError:
            raise TokenizerError(
                f"pattern {short(self.pattern.pattern)} did not cut a text of {len(text)} characters in"
                f" {timeout:.0f} s: it backtracks; write it without nested repeats"
            ) from None

    def _cut(self, text: str, timeout: float) -> list[str]:
        if not self.pattern.groups:  # with groups, findall returns those
            pieces = cast("list[str]", self.pattern.findall(text, timeout=timeout))
            # a pattern may leave out characters, which decoding must still give back
            if sum(map(len, pieces)) == len(text):
                return pieces
        return self._cut_with_gaps(text, timeout)

    def _cut_with_gaps(self, text: str, timeout: float) -> list[str]:
        """The matches and the texts between them."""
        pieces, end = [], 0
        for match in self.pattern.finditer(text, timeout=timeout):
            pieces += [text[end : match.start()], match.group()]
            end = match.end()
        pieces.append(text[end:])
        return [piece for piece in pieces if piece]
