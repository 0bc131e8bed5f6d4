"""Part of module 10, tokenization: learning byte-pair merges.

Byte-pair encoding (Sennrich, Haddow, Birch 2016, arXiv:1508.07909) repeatedly merges the most frequent pair of
neighbours into a new token. Recounting every pair for each merge would cost text x merges. Instead, the text is
reduced to its different words and their counts, and a merge visits only the words that contain its pair. Words are
lists of ids; splitting text and bytes are in other files.

Ties are broken as in the `tokenizers` library: the highest count first, then the lowest pair of ids.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise

Pair = tuple[int, int]


def learn_merges(
    words: Mapping[tuple[int, ...], int], tokens: list[str], vocab_size: int, min_frequency: int = 0
) -> list[Pair]:
    """Learn merges until there are `vocab_size` tokens or no pair is left; returns the pairs in order.

    `words` maps each word, as a tuple of ids, to its count. `tokens[id]` is the spelling of each id; new ones are
    appended. A merge that spells an existing token (a special token) takes its id. Pairs that occur fewer than
    `min_frequency` times are not merged.

    >>> tokens = ["a", "b", "c"]
    >>> learn_merges({(0, 1, 2): 5, (0, 1): 2, (1, 2): 1}, tokens, vocab_size=5)
    [(0, 1), (3, 2)]
    >>> tokens
    ['a', 'b', 'c', 'ab', 'abc']
    """
    table = _PairTable(words)
    ids = {token: i for i, token in enumerate(tokens)}
    merges: list[Pair] = []
    while len(tokens) < vocab_size and (best := table.pop(min_frequency)) is not None:
        pair, where = best
        spelling = tokens[pair[0]] + tokens[pair[1]]
        new = ids.setdefault(spelling, len(tokens))
        if new == len(tokens):
            tokens.append(spelling)
        table.merge(pair, new, where)
        merges.append(pair)
    return merges


class _PairTable:
    """The words, the count of each pair, and a heap of pairs with the words that may contain them.

    Counts in the heap become outdated when merges replace neighbouring pairs. An entry is corrected when it reaches the
    top, which is sound because the count of an old pair only falls.
    """

    def __init__(self, words: Mapping[tuple[int, ...], int]) -> None:
        self.words = [list(word) for word in words]
        self.weights = list(words.values())
        self.counts: dict[Pair, int] = defaultdict(int)
        self.heap: list[tuple[int, Pair, int, set[int]]] = []
        self._pushed = 0  # a serial number, so that the heap never compares two sets
        # which words hold a pair: a merge visits these alone, a few of the hundred thousand words of a large text
        where: dict[Pair, set[int]] = defaultdict(set)
        for w, (word, weight) in enumerate(zip(self.words, self.weights)):
            for pair in pairwise(word):
                self.counts[pair] += weight
                where[pair].add(w)
        self._push(where)

    def _push(self, where: Mapping[Pair, set[int]]) -> None:
        for pair, words in where.items():
            if self.counts[pair] > 0:
                self._pushed += 1
                # heapq pops the smallest entry: counts are negated, and of equal counts the lowest pair comes first
                heapq.heappush(self.heap, (-self.counts[pair], pair, self._pushed, words))

    def pop(self, min_frequency: int) -> tuple[Pair, set[int]] | None:
        """The most frequent pair and the words to merge it in; None if it is not frequent enough."""
        while self.heap:
            count, pair, serial, where = heapq.heappop(self.heap)
            actual = self.counts[pair]
            if -count == actual:
                return (pair, where) if actual >= max(min_frequency, 1) else None
            heapq.heappush(self.heap, (-actual, pair, serial, where))
        return None

    def merge(self, pair: Pair, new: int, where: set[int]) -> None:
        """Replace `pair` by `new` in the words `where`, and update the counts of neighbouring pairs."""
        made: dict[Pair, set[int]] = defaultdict(set)
        counts = self.counts
        for w in where:
            weight = self.weights[w]
            self.words[w], changes = merge_word(self.words[w], pair, new)
            for changed, sign in changes:
                counts[changed] += sign * weight
                if sign > 0:
                    made[changed].add(w)
        self._push(made)


def merge_word(word: list[int], pair: Pair, new: int) -> tuple[list[int], list[tuple[Pair, int]]]:
    """Replace each `pair` in `word`, left to right; returns the new word and how neighbouring pairs changed.

    The count of `pair` itself is not updated: its heap entry is gone, so the count is never read again.

    >>> merge_word([5, 1, 2, 7], (1, 2), 9)
    ([5, 9, 7], [((5, 1), -1), ((5, 9), 1), ((2, 7), -1), ((9, 7), 1)])
    """
    a, b = pair
    merged: list[int] = []
    changes: list[tuple[Pair, int]] = []
    start = 0
    for i in _find_pairs(word, a, b):
        merged += word[start:i]
        start = i + 2
        if merged:
            changes += (((merged[-1], a), -1), ((merged[-1], new), 1))
        if start < len(word):
            changes += (((b, word[start]), -1), ((new, word[start]), 1))
        merged.append(new)
    merged += word[start:]
    return merged, changes


def _find_pairs(word: list[int], a: int, b: int) -> Iterator[int]:
    """The positions of (a, b) in `word`, left to right, without overlaps."""
    i, last = 0, len(word) - 1
    try:
        while True:
            i = word.index(a, i, last)  # skips at C speed, which a word of a million ids needs
            if word[i + 1] == b:
                yield i
                i += 1
            i += 1
    except ValueError:
        return
