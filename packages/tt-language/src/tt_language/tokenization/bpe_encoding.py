"""Applying byte-pair merges: how `BPETokenizer` (module 10, tokenization, Act IV) turns text to ids at speed.

Three steps: cut text into pieces by a pattern, look each piece up among those seen before, merge the bytes
of the rest. Not here: learning the merges (`bpe_training.py`), special tokens and files (`tokenization.py`,
`tokenizer_json.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import cast

import regex  # type: ignore[import-untyped, unused-ignore]

from tt_language.errors import TokenizerError, first_few, short
from tt_language.tokenization.tokenizer_json import byte_alphabet

Pair = tuple[int, int]
BYTE_ALPHABET = byte_alphabet()
_BYTE_OF = {character: byte for byte, character in enumerate(BYTE_ALPHABET)}
SECONDS = 10.0  # to cut a text, and one more per 100,000 characters: GPT-2's pattern needs 1/100 of it


NEVER_IN_UTF8 = frozenset([0xC0, 0xC1, *range(0xF5, 0x100)])
"""Bytes that no text holds; a vocabulary may leave them out."""


def splitter(pattern: str | Sequence[str] | None) -> Callable[[str], list[str]]:
    """A function that cuts text into pieces; joined they are the text again, whatever the pattern.

    Each of several patterns cuts the pieces of the one before. `^` and `$` stand for ends of lines, as in the files of
    the `tokenizers` library.
    """
    if pattern is None:
        return _no_split
    if isinstance(pattern, (list, tuple)):
        return Splitters(tuple([splitter(each) for each in pattern]))
    try:
        compiled = regex.compile(pattern, regex.MULTILINE)
    except (regex.error, TypeError, RecursionError, OverflowError) as error:
        raise TokenizerError(f"pattern {short(pattern)} is no regular expression: {error}") from None
    return Splitter(compiled)


def _no_split(text: str) -> list[str]:
    return [text] if text else []


@dataclass(frozen=True)
class Splitters:
    """Cuts text by several patterns, one after the other."""

    steps: tuple[Callable[[str], list[str]], ...]

    def __call__(self, text: str) -> list[str]:
        pieces = _no_split(text)
        for split in self.steps:
            pieces = [part for piece in pieces for part in split(piece)]
        return pieces


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
        if not self.pattern.groups:  # with groups findall would return those instead of the whole match
            pieces = cast("list[str]", self.pattern.findall(text, timeout=timeout))
            if sum(map(len, pieces)) == len(text):
                return pieces
        return self._cut_with_gaps(text, timeout)

    def _cut_with_gaps(self, text: str, timeout: float) -> list[str]:
        """The matches, and what lies between them, as pieces of their own."""
        pieces, end = [], 0
        for match in self.pattern.finditer(text, timeout=timeout):
            pieces += [text[end : match.start()], match.group()]
            end = match.end()
        pieces.append(text[end:])
        return [piece for piece in pieces if piece]


class PieceCache(dict[str, tuple[int, ...]]):
    """The ids of pieces seen before: words repeat, so most of a text is one dictionary look-up a piece.

    Tiny Shakespeare has 298,000 pieces and 20,000 different ones.
    Emptied when full, so memory stays near 20 MB.
    """

    max_entries = 100_000
    max_length = 64  # characters; longer pieces hardly ever repeat

    def __init__(self, encode: Callable[[str], tuple[int, ...]]) -> None:
        super().__init__()
        self.encode = encode

    def __missing__(self, piece: str) -> tuple[int, ...]:
        ids = self.encode(piece)
        if len(piece) <= self.max_length:
            if len(self) >= self.max_entries:
                self.clear()
            self[piece] = ids
        return ids

    def __reduce__(self) -> tuple[type[PieceCache], tuple[Callable[[str], tuple[int, ...]]]]:
        return PieceCache, (self.encode,)  # a copy in another process starts empty


_SHORT = 128  # ids; up to here a scan of a flat list beats a heap
_NO_MERGE = 1 << 60


def merge_pairs(ids: list[int], rank: Mapping[Pair, int], merged: Sequence[int]) -> list[int]:
    """Merge the pair of lowest rank, leftmost first, until none is left; `ids` is used up.

    `rank[pair]` is how early a pair was learnt, `merged[rank]` the id that it becomes.

    >>> merge_pairs([1, 2, 1, 2, 3], {(2, 3): 1, (1, 2): 0}, [8, 9])
    [8, 8, 3]
    """
    return _merge_short(ids, rank, merged) if len(ids) <= _SHORT else _merge_long(ids, rank, merged)


def _merge_short(ids: list[int], rank: Mapping[Pair, int], merged: Sequence[int]) -> list[int]:
    """By scans of a flat list, at C speed: O(n²)."""
    ranks = [rank.get(pair, _NO_MERGE) for pair in pairwise(ids)]
    while ranks and (best := min(ranks)) != _NO_MERGE:
        i = ranks.index(best)
        ids[i : i + 2] = [merged[best]]
        del ranks[i]
        if i > 0:
            ranks[i - 1] = rank.get((ids[i - 1], ids[i]), _NO_MERGE)
        if i < len(ranks):
            ranks[i] = rank.get((ids[i], ids[i + 1]), _NO_MERGE)
    return ids


def _merge_long(ids: list[int], rank: Mapping[Pair, int], merged: Sequence[int]) -> list[int]:
    """By a heap of candidates over a linked list: O(n log n)."""
    n = len(ids)
    after, before = [*range(1, n), -1], list(range(-1, n - 1))
    # One int an entry, in the order of rank, then place.
    heap = [rank[pair] * n + i for i, pair in enumerate(pairwise(ids)) if pair in rank]
    heapify(heap)
    while heap:
        best, i = divmod(heappop(heap), n)
        j = after[i]
        if j < 0 or rank.get((ids[i], ids[j])) != best:  # one of the two is merged already
            continue
        ids[i], ids[j] = merged[best], -1
        after[i], after[j] = after[j], -1
        if after[i] >= 0:
            before[after[i]] = i
        for left in (before[i], i):
            right = after[left] if left >= 0 else -1
            if right >= 0 and (found := rank.get((ids[left], ids[right]))) is not None:
                heappush(heap, found * n + left)
    return [i for i in ids if i >= 0]


# --- a vocabulary and its merges, checked -------------------------------------------------------------------


def spelt_bytes(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], whole: set[str]) -> dict[int, bytes]:
    """The bytes of each id.

    Whole tokens (special and added ones) are spelt in plain text, others in the byte alphabet.
    """
    unused = {
        BYTE_ALPHABET[byte] for byte in NEVER_IN_UTF8
    } & whole  # such as DeepSeek's added tokens: the letter itself
    ordinary = {*BYTE_ALPHABET, *(a + b for a, b in merges)} - unused
    token_bytes = {}
    for token, i in vocab.items():
        plain = token.encode("utf-8") if token in whole else None
        if plain is None or token in ordinary:
            spelt = _bytes_of(token)
            if plain is not None and plain != spelt:
                raise TokenizerError(
                    f"special token {short(token)} is also how the bytes {short(spelt)} are spelt; rename it"
                )
            plain = spelt
        token_bytes[i] = plain
    return token_bytes


def _bytes_of(token: str) -> bytes:
    try:
        return bytes([_BYTE_OF[character] for character in token])
    except KeyError as error:
        raise TokenizerError(
            f"token {short(token)} holds {error.args[0]!r}, which is not in the byte"
            " alphabet: this is no byte-level BPE"
        ) from None


def byte_id_list(vocab: Mapping[str, int]) -> list[int]:
    """The id of each byte, -1 for one that no text holds; raises `TokenizerError` when another has none."""
    missing = [f"0x{byte:02x}" for byte, c in enumerate(BYTE_ALPHABET) if c not in vocab and byte not in NEVER_IN_UTF8]
    if missing:
        raise TokenizerError(
            f"the vocabulary has no token for {len(missing)} bytes ({first_few(missing)}),"
            " so it cannot spell every text"
        )
    return [vocab.get(character, -1) for character in BYTE_ALPHABET]


def number_merges(
    vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], whole: set[str]
) -> tuple[dict[Pair, int], list[int]]:
    """The rank of each pair of ids, and the id that the merge of each rank makes.

    A merge that makes a whole token has no rank: where those are cut out of the text it could not happen, and where
    they are text like any other it must not.
    """
    ranks: dict[Pair, int] = {}
    merged = []
    for rank, (a, b) in enumerate(merges):
        for token in (a, b, a + b):
            if token not in vocab:
                raise TokenizerError(
                    f"merge {rank} ({short(a)}, {short(b)}) needs token {short(token)}, which is not in the vocabulary"
                )
        if a + b not in whole:
            ranks[vocab[a], vocab[b]] = rank
        merged.append(vocab[a + b])
    return ranks, merged
