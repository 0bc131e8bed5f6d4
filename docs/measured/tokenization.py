"""Numbers and pictures of lesson 10, tokenization."""

from __future__ import annotations

import functools
from collections import Counter

from measured import number, picture
from tinygpt.capstone.reading import read_corpus
from tt_language import BPETokenizer, CharTokenizer, compression_report
from tt_language.tokenization import count_pieces
from tt_learn.svg import line_chart

SIZES = (256, 512, 1024, 2048, 4096)


@functools.cache
def text() -> str:
    """The documentation of Python's language, which every installation has."""
    return read_corpus(None).text


@functools.cache
def learned(size: int) -> BPETokenizer:
    """A vocabulary of this size, learned from nine tenths of the text."""
    return BPETokenizer.train(text()[: len(text()) * 9 // 10], size)


@functools.cache
def characters_per_token(size: int) -> float:
    """Characters of the held-out tenth of the text, divided by its tokens."""
    held_out = text()[len(text()) * 9 // 10 :]
    return len(held_out) / len(learned(size).encode(held_out))


@number(1.3, 2.6, ".1f")
def characters_per_token_512() -> float:
    """Characters per token with 512 entries."""
    return characters_per_token(512)


@number(2.2, 4.5, ".1f")
def characters_per_token_4096() -> float:
    """Characters per token with 4,096 entries."""
    return characters_per_token(4096)


@number(16, 16, ".0f")
def embedding_growth() -> float:
    """How many times as large the table of 4,096 entries is as that of 256."""
    held_out = text()[:2000]
    rows = [compression_report(learned(size), held_out, n_embd=192).embedding_parameters for size in (4096, 256)]
    return rows[0] / rows[1]


@number(4, 25, ".0f")
def attention_savings() -> float:
    """How many times fewer scores attention computes for the same text with 4,096 entries as with single bytes."""
    return (characters_per_token(4096) / characters_per_token(256)) ** 2


@number(60, 300, ".0f")
def different_characters() -> float:
    """How many different characters the text has."""
    return CharTokenizer(text()).vocab_size


@functools.cache
def pieces() -> Counter[str]:
    """The pieces of the text with their counts."""
    return count_pieces(text(), "gpt2")


@number(50_000, 500_000, ",.0f")
def all_pieces() -> float:
    """How many pieces the text is cut into."""
    return sum(pieces().values())


@number(2_000, 40_000, ",.0f")
def different_pieces() -> float:
    """How many of them differ."""
    return len(pieces())


@picture
def characters_by_vocabulary() -> str:
    """Characters per token by the size of the vocabulary, on text that was not used to learn it."""
    points = [(float(size), characters_per_token(size)) for size in SIZES]
    return line_chart({"held-out text": points}, "Length of a token", "entries of the vocabulary", "characters")
