"""Part of module 10, tokenization: applying byte-pair merges.

Words repeat, so most pieces of a text are looked up in a cache; `merge_pairs` encodes the rest. Learning merges is in
`bpe_training`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

from tt_language.tokenization.bpe_training import Pair


class PieceCache(dict[str, tuple[int, ...]]):
    """The ids of earlier pieces, so that most pieces of a text are one dictionary look-up.

    Tiny Shakespeare has 298,000 pieces, of which 20,000 are different. The cache is emptied when full, so it takes at
    most about 20 MB.
    """

    max_entries = 100_000
    max_length = 64  # characters; longer pieces rarely repeat

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
        return PieceCache, (self.encode,)  # copies in other processes start empty


# The pair of lowest rank comes first because it was learned first: later merges were learned on its result.
_SHORT = 128  # ids; up to here, scanning a flat list is faster than a heap
_NO_MERGE = 1 << 60


def merge_pairs(ids: list[int], rank: Mapping[Pair, int], merged: Sequence[int]) -> list[int]:
    """Merge the pair of lowest rank, leftmost first, until no pair has a rank; changes `ids`.

    `rank[pair]` is the position of a pair among the learned merges, `merged[rank]` the id that it becomes.

    >>> merge_pairs([1, 2, 1, 2, 3], {(2, 3): 1, (1, 2): 0}, [8, 9])
    [8, 8, 3]
    """
    return _merge_short(ids, rank, merged) if len(ids) <= _SHORT else _merge_long(ids, rank, merged)


def _merge_short(ids: list[int], rank: Mapping[Pair, int], merged: Sequence[int]) -> list[int]:
    """Scans a flat list at C speed: O(n²)."""
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
    """Keeps a heap of candidates over a linked list: O(n log n)."""
    n = len(ids)
    # a linked list: a merge removes an id without moving those after it
    after, before = [*range(1, n), -1], list(range(-1, n - 1))
    # each entry is one int, ordered by rank, then by place
    heap = [rank[pair] * n + i for i, pair in enumerate(pairwise(ids)) if pair in rank]
    heapify(heap)
    while heap:
        best, i = divmod(heappop(heap), n)
        j = after[i]
        if j < 0 or rank.get((ids[i], ids[j])) != best:  # one of the two was merged already
            continue
        ids[i], ids[j] = merged[best], -1
        after[i], after[j] = after[j], -1
        if after[i] >= 0:
            before[after[i]] = i
        for left in (before[i], i):  # the new id makes two new pairs, with its left and its right neighbour
            right = after[left] if left >= 0 else -1
            if right >= 0 and (found := rank.get((ids[left], ids[right]))) is not None:
                heappush(heap, found * n + left)
    return [i for i in ids if i >= 0]
