"""Part of module 10, tokenization: special and other added tokens, found before a text is split and merged.

Each is one id wherever it occurs. The options are those of the `tokenizers` library. The rest of a text is encoded in
`bpe`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import regex  # type: ignore[import-untyped, unused-ignore]

from tt_language.errors import TokenizerError, short
from tt_language.tokenization.checks import check_text

NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD")
_WORD = regex.compile(r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]")
_SPACES = regex.compile(r"\p{White_Space}*")
_SPACES_BEFORE = regex.compile(r"(?r)\p{White_Space}*")


@dataclass(frozen=True)
class AddedToken:
    """A text that becomes one id, as in the `tokenizers` library.

    single_word: matches only without a letter, digit or underscore on either side.
    lstrip, rstrip: white space before or after it becomes part of it, and is lost in decoding.
    normalized: is searched in the normalized text, after the tokens with `normalized=False`, which are searched in the
    original text.

    >>> AddedToken("<mask>", lstrip=True).normalized
    True
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True


def normalizer_of(name: str | None) -> Callable[[str], str]:
    """The function that converts a text to a Unicode form; the identity for None."""
    if name is None:
        return str
    if name not in NORMALIZERS:
        raise TokenizerError(f"normalizer is {short(name)}, expected None or one of {', '.join(NORMALIZERS)}")
    return _Form(name)


@dataclass(frozen=True)
class _Form:
    name: str

    def __call__(self, text: str) -> str:
        return unicodedata.normalize(self.name, text)  # type: ignore[arg-type, unused-ignore]


class AddedTokenFinder:
    """Cuts a text into the ids of added tokens and the texts between them, which are normalized.

    Tokens with `normalized=False` are searched first. Of several at one place, the longest matches.

    >>> tokens = {AddedToken("ab"): 7, AddedToken("bc", normalized=False): 8}
    >>> AddedTokenFinder(tokens, None)("abc")
    ['a', 8]
    """

    def __init__(self, tokens: Mapping[AddedToken, int], normalizer: str | None) -> None:
        self.normalize = normalizer_of(normalizer)
        self._first = _Search({token.content: (token, i) for token, i in tokens.items() if not token.normalized})
        self._then = _Search(
            {self.normalize(token.content): (token, i) for token, i in tokens.items() if token.normalized}
        )

    def __call__(self, text: str) -> list[str | int]:
        """The parts in order, without empty texts."""
        parts: list[str | int] = []
        for part in self._first.cut(text):
            parts += [part] if isinstance(part, int) else self._then.cut(self.normalize(part))
        return parts


class _Search:
    """Searches some tokens in a text."""

    def __init__(self, tokens: Mapping[str, tuple[AddedToken, int]]) -> None:
        self.tokens = tokens
        longest_first = sorted(tokens, key=len, reverse=True)
        self.pattern = regex.compile("|".join(map(regex.escape, longest_first))) if tokens else None

    def cut(self, text: str) -> list[str | int]:
        if self.pattern is None:
            return [text] if text else []
        parts: list[str | int] = []
        end = 0
        for match in self.pattern.finditer(text):
            token, i = self.tokens[match.group()]
            start, stop = match.span()
            if token.single_word and not _stands_alone(text, start, stop):
                continue
            if token.lstrip:  # but not what belongs to the token before
                start = max(end, _SPACES_BEFORE.match(text, 0, start).start())
            if token.rstrip:
                stop = _SPACES.match(text, stop).end()
            parts += [text[end:start], i] if end < start else [i]
            end = stop
        return [*parts, text[end:]] if end < len(text) else parts


def _stands_alone(text: str, start: int, stop: int) -> bool:
    before, after = text[start - 1 : start] if start else "", text[stop : stop + 1]
    return not (_WORD.match(before) or _WORD.match(after))


def added_list(tokens: object, normalized: bool) -> list[AddedToken]:
    """Tokens with their options; raises `TokenizerError` for anything else."""
    if isinstance(tokens, str) or not isinstance(tokens, Iterable):
        what = "the text " if isinstance(tokens, str) else ""
        raise TokenizerError(f"special tokens come in a list, got {what}{short(tokens)}")
    return [
        token if isinstance(token, AddedToken) else AddedToken(token, normalized=normalized)
        for token in map(_check_special_token, tokens)
    ]


def _check_special_token(token: Any) -> str | AddedToken:
    content = token.content if isinstance(token, AddedToken) else token
    if not isinstance(content, str) or not content:
        raise TokenizerError(f"a special token must be a text of one character or more, got {short(content)}")
    check_text(content)
    return token
