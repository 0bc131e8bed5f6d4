"""Part of module 10, tokenization: the published patterns by which texts are cut into pieces, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PATTERNS = {
    # openai/gpt-2, src/encoder.py: contractions, then runs of letters, digits or others, each after at most one space
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # meta-llama/llama3: contractions in any case, at most three digits, line breaks kept together
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
}
"""Published patterns by name."""


def pattern_of(pattern: str | Sequence[str] | None) -> str | list[str] | None:
    """The pattern of a name; other patterns are returned unchanged, and a list of one pattern as that pattern."""
    if isinstance(pattern, (list, tuple)):
        patterns = [_named(each) for each in pattern]
        return patterns if len(patterns) > 1 else patterns[0] if patterns else None
    return _named(pattern)


def _named(pattern: Any) -> Any:
    return PATTERNS.get(pattern, pattern) if isinstance(pattern, str) else pattern
