"""The exercises of module 10, tokenization."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import regex  # type: ignore[import-untyped, unused-ignore]

from tt_core import Tensor
from tt_core.course.exercises import Exercise
from tt_core.course.trial import Trial
from tt_language.errors import TokenizerError
from tt_language.tokenization import bpe, bpe_encoding, bpe_training, splitting
from tt_language.tokenization.characters import ByteTokenizer, CharTokenizer
from tt_language.tokenization.vocabulary import BYTE_ALPHABET

CHARACTERS, BASE, SPLITTING, BPE, TRAINING, ENCODING = (
    f"tt_language.tokenization.{name}"
    for name in ("characters", "base", "splitting", "bpe", "bpe_training", "bpe_encoding")
)

# --- characters and bytes


def raised(function: Callable[..., Any], *arguments: Any) -> Callable[[], str]:
    """A function that returns "TokenizerError" where the call raises it, and else "nothing"."""

    def attempt() -> str:
        try:
            function(*arguments)
        except TokenizerError:
            return "TokenizerError"
        return "nothing"

    return attempt


def characters_have_ids(t: Trial) -> None:
    """Each character is looked up in the vocabulary."""
    hello = CharTokenizer("hello")
    t.call(hello.encode, "h", why="the vocabulary is e, h, l, o; self._ids has the id of each")
    t.call(hello.encode, "hole")
    t.call(hello.encode, "")
    t.call(CharTokenizer(["b", "a"]).encode, "aab", why="a list keeps its order")
    t.show("encode('hat') raises", raised(hello.encode, "hat"), why="an unknown character is a TokenizerError")


def bytes_are_ids(t: Trial) -> None:
    """Each byte of the text in UTF-8 is an id."""
    t.call(ByteTokenizer().encode, "abc")
    t.call(ByteTokenizer().encode, "a€", why="the euro sign has three bytes, not one code point")
    t.call(ByteTokenizer().encode, "")
    t.show("encode of half a surrogate pair raises", raised(ByteTokenizer().encode, "\ud800"), why="check_text(text)")


def ids_have_bytes(t: Trial) -> None:
    """The bytes of all ids, joined; special tokens can be left out."""
    t.show("list(ByteTokenizer().decode_bytes([104, 105]))", lambda: list(ByteTokenizer().decode_bytes([104, 105])))
    t.show("of no ids", lambda: list(ByteTokenizer().decode_bytes([])))
    ids: Any = Tensor([104, 105])
    t.show("of a tensor [104, 105]", lambda: list(ByteTokenizer().decode_bytes(ids)), why="id_list(ids) gives a list")
    t.show(
        "list(CharTokenizer('aé').decode_bytes([1, 0]))",
        lambda: list(CharTokenizer("aé").decode_bytes([1, 0])),
        why="an id may have several bytes: self._bytes[id]",
    )
    special = bpe.BPETokenizer(bytes_vocabulary(), [], special_tokens=["<end>"])
    t.show("of [256] with the special token <end>", lambda: list(special.decode_bytes([256, 97])))
    t.show(
        "with skip_special_tokens",
        lambda: list(special.decode_bytes([97, 256, 98], skip_special_tokens=True)),
        why="self.special_ids are left out",
    )
    t.show("of an id that has no token", raised(ByteTokenizer().decode_bytes, [256]), why="it is a TokenizerError")


def bytes_become_text(t: Trial) -> None:
    """Bytes are joined first, and then read as UTF-8."""
    t.call(ByteTokenizer().decode, [104, 105])
    t.call(ByteTokenizer().decode, [226, 130, 172], why="a character may have several ids: decode all bytes together")
    t.call(ByteTokenizer().decode, [97, 255, 98], why='bytes that are not UTF-8 become U+FFFD: errors="replace"')
    t.call(ByteTokenizer().decode, [226, 130], why="a model may stop within a character")
    special = bpe.BPETokenizer(bytes_vocabulary(), [], special_tokens=["<end>"])
    t.call(special.decode, [97, 256], skip_special_tokens=True)


def bytes_vocabulary() -> dict[str, int]:
    """The 256 bytes in GPT-2's alphabet."""
    return {character: byte for byte, character in enumerate(BYTE_ALPHABET)}


# --- pieces


def gaps_are_pieces(t: Trial) -> None:
    """The matches of the pattern and the texts between them, in order; joined, they are the text."""

    def cut(pattern: str, text: str) -> Any:
        return t.show(
            f"pieces of {text!r} by {pattern!r}",
            lambda: splitting.Splitter(regex.compile(pattern))(text),
            why="nothing of the text may be lost, and no piece is empty",
        )

    cut(r"\d+", "ab12cd")
    cut(r"\d+", "12ab")
    cut(r"\d", "123x")
    cut(
        r"(a)(b)",
        "xabab",
    )
    cut(r"x*", "axxb")
    cut("z", "abc")
    cut("a", "")


def pieces_are_counted(t: Trial) -> None:
    """How often each piece occurs in all texts."""

    def count(*arguments: Any, **options: Any) -> Any:
        return lambda: sorted(bpe.count_pieces(*arguments, **options).items())

    t.show("count_pieces('to be to be')", count("to be to be"), why="GPT-2's pattern puts a space in front of a word")
    t.show("count_pieces(['ab ab', 'ab'])", count(["ab ab", "ab"]), why="counts of several texts add up")
    t.show("count_pieces('abab', 'ab')", count("abab", "ab"), why="the pattern is an argument")
    t.show("count_pieces('a b', None)", count("a b", None))
    t.show("count_pieces('')", count(""))


# --- learning merges


def pair_is_replaced(t: Trial) -> None:
    """Each pair becomes the new id, from left to right."""

    def word(*arguments: Any) -> Any:
        return lambda: [int(i) for i in bpe_training.merge_word(*arguments)[0]]

    t.show("merge_word([5, 1, 2, 7], (1, 2), 9), the word", word([5, 1, 2, 7], (1, 2), 9))
    t.show("merge_word([1, 2, 1, 2], (1, 2), 9)", word([1, 2, 1, 2], (1, 2), 9))
    t.show("merge_word([1, 1, 1], (1, 1), 9)", word([1, 1, 1], (1, 1), 9), why="from the left, without overlaps")
    t.show("merge_word([1, 1, 1, 1, 2], (1, 1), 9)", word([1, 1, 1, 1, 2], (1, 1), 9))
    t.show("merge_word([2, 1], (1, 2), 9)", word([2, 1], (1, 2), 9), why="there is nothing to merge")
    t.show("merge_word([1], (1, 2), 9)", word([1], (1, 2), 9))


def neighbours_change(t: Trial) -> None:
    """The pairs with the neighbours are gone, and those with the new id are there."""

    def changes(ids: list[int], pair: tuple[int, int]) -> Any:
        """The sum of the changes of each pair, without the pair itself."""

        def total() -> list[Any]:
            found: dict[Any, int] = {}
            for changed, sign in bpe_training.merge_word(ids, pair, 9)[1]:
                found[tuple(changed)] = found.get(tuple(changed), 0) + sign
            return sorted((list(p), n) for p, n in found.items() if n and p != pair)

        return total

    t.show(
        "sum of the changes in [5, 1, 2, 7]",
        changes([5, 1, 2, 7], (1, 2)),
        why="(5, 1) and (2, 7) are lost, (5, 9) and (9, 7) are new",
    )
    t.show("in [1, 2, 7]", changes([1, 2, 7], (1, 2)), why="there is no neighbour on the left")
    t.show(
        "in [1, 2, 1, 2]",
        changes([1, 2, 1, 2], (1, 2)),
        why="(2, 1) is lost, and (9, 9) is new: the left neighbour is merged already",
    )
    t.show("in [3, 1, 1, 1, 1, 4]", changes([3, 1, 1, 1, 1, 4], (1, 1)))
    t.show("in [2, 1]", changes([2, 1], (1, 2)))


def counts_after(words: dict[tuple[int, ...], int], *merges: tuple[tuple[int, int], int]) -> Any:
    """The counts of all pairs after these merges, in every word, without those that are merged."""
    table = bpe_training._PairTable(words)
    for pair, new in merges:
        table.merge(pair, new, {w for w, word in enumerate(table.words) if pair in pairwise(word)})
    gone = {pair for pair, _ in merges}
    return sorted((list(pair), n) for pair, n in table.counts.items() if n and pair not in gone)


def table_counts_pairs(t: Trial) -> None:
    """A merge changes the counts by how often each word occurs."""
    words = {(1, 2, 3): 5, (1, 2): 2}
    t.show(
        "counts after merging (1, 2) in {(1, 2, 3): 5, (1, 2): 2}",
        lambda: counts_after(words, ((1, 2), 9)),
        why="a change in a word that occurs 5 times counts 5: self.weights",
    )
    more = {(1, 2, 1, 2, 3): 3, (4, 1, 2): 2, (3, 1, 2, 3): 1}
    t.show(
        "after merging (1, 2), then (9, 3)",
        lambda: counts_after(more, ((1, 2), 9), ((9, 3), 10)),
        why="self.words must have the merged words",
    )
    table = bpe_training._PairTable(more)
    table.pop(0)
    table.merge((1, 2), 9, {0, 1, 2})

    def next_pair() -> Any:
        found = table.pop(0)
        return None if found is None else [list(found[0]), sorted(found[1])]

    t.show("the next pair to merge, and its words", next_pair, why="push the pairs that are new, with their words")


def most_frequent_first(t: Trial) -> None:
    """The pair of the highest count; of equals, the lowest ids; counts in the heap may be outdated."""

    def popped(words: dict[tuple[int, ...], int], least: int = 0) -> Any:
        table = bpe_training._PairTable(words)

        def all_pairs() -> list[Any]:
            found = []
            while (best := table.pop(least)) is not None:
                found.append([list(best[0]), sorted(best[1])])
            return found

        return all_pairs

    t.show("all pairs of {(1, 2, 3): 5, (1, 2): 2}, in order", popped({(1, 2, 3): 5, (1, 2): 2}))
    t.show(
        "of {(3, 4): 1, (1, 2): 1, (1, 9): 1}", popped({(3, 4): 1, (1, 2): 1, (1, 9): 1}), why="the lowest pair first"
    )
    t.show("with min_frequency=3", popped({(1, 2): 5, (3, 4): 2}, 3), why="None once pairs are too rare")
    t.show("with min_frequency=2", popped({(1, 2): 5, (3, 4): 2}, 2), why="a pair that comes that often is merged")

    def outdated() -> list[Any]:
        table = bpe_training._PairTable({(1, 2): 9, (3, 4): 5, (5, 6): 2})
        table.counts[1, 2] = 3  # as a merge leaves it
        return [list(best[0]) for _ in range(3) if (best := table.pop(0)) is not None]

    t.show(
        "after the count of (1, 2) has fallen from 9 to 3",
        outdated,
        why="compare an entry with self.counts; push it again where it is too high",
    )
    t.show("of no words", popped({}))


def merges_are_learned(t: Trial) -> None:
    """The most frequent pair becomes a token, and again, until there are enough tokens."""

    def learned(words: dict[tuple[int, ...], int], tokens: list[str], *rest: int) -> Any:
        def run() -> list[Any]:
            found = bpe_training.learn_merges(words, tokens, *rest)
            return [[list(pair) for pair in found], tokens]

        return run

    t.show(
        "learn_merges({(0, 1, 2): 5, (0, 1): 2, (1, 2): 1}, [a, b, c], vocab_size=4), and the tokens",
        learned({(0, 1, 2): 5, (0, 1): 2, (1, 2): 1}, ["a", "b", "c"], 4),
        why="append the spelling of the new token",
    )
    t.show(
        "vocab_size=5",
        learned({(0, 1, 2): 5, (0, 1): 2, (1, 2): 1}, ["a", "b", "c"], 5),
        why="the second pair has the first new token in it: count again",
    )
    t.show("vocab_size=99", learned({(0, 1, 2): 5, (0, 1): 2}, ["a", "b", "c"], 99), why="stop when no pair is left")
    t.show("vocab_size=3", learned({(0, 1): 5}, ["a", "b", "c"], 3))
    t.show("min_frequency=3", learned({(0, 1): 5, (1, 2): 2}, ["a", "b", "c"], 99, 3))
    t.show(
        "tokens [a, b, ab]",
        learned({(0, 1, 0): 5}, ["a", "b", "ab"], 4),
        why="a merge that spells a token takes its id, and adds none",
    )
    words = {tuple(word.encode()): n for word, n in (("low", 5), ("lower", 2), ("newest", 6), ("widest", 3))}
    t.show("ten merges of low, lower, newest, widest", learned(words, [chr(i) for i in range(256)], 266))


# --- applying merges


def merges_in_order(t: Trial) -> None:
    """Again and again, the pair that was learned first; of equal ones, the leftmost."""
    merge = bpe_encoding.merge_pairs
    t.call(merge, [1, 2, 3], {(1, 2): 0}, [9])
    t.call(merge, [1, 2, 1, 2, 3], {(2, 3): 1, (1, 2): 0}, [8, 9], why="(1, 2) has rank 0: it goes before (2, 3)")
    t.call(merge, [1, 2, 3], {(1, 2): 1, (2, 3): 0}, [8, 9], why="the lowest rank, not the leftmost pair")
    t.call(merge, [1, 1, 1], {(1, 1): 0}, [9])
    t.call(merge, [1, 2, 3], {(1, 2): 0, (8, 3): 1}, [8, 9], why="merged ids are merged again")
    t.call(merge, [1, 2, 3, 4], {(3, 4): 0, (2, 8): 1, (1, 9): 2}, [8, 9, 10])
    t.call(merge, [7], {(1, 2): 0}, [9])
    t.call(merge, [], {(1, 2): 0}, [9])


def long_pieces(t: Trial) -> None:
    """A piece of many ids gives the same as in one pass per rank."""
    rank: dict[tuple[int, int], int] = {}
    merged = list(range(4, 40))
    for number in range(36):
        a, b = (int(i) for i in t.rng.integers(0, 4 + number, 2))
        rank.setdefault((a, b), number)
    ids = [int(i) for i in t.rng.integers(0, 4, 300)]
    t.show("merge_pairs of 300 ids with 36 merges", lambda: list(bpe_encoding.merge_pairs(list(ids), rank, merged)))


def of_many_words() -> Callable[[], Any]:
    """Thirty merges of 300 random words."""
    letters = np.random.default_rng(0).integers(97, 107, (300, 6))
    words = {tuple(int(letter) for letter in word): 1 + number % 7 for number, word in enumerate(letters)}
    return lambda: bpe_training.learn_merges(dict(words), [chr(i) for i in range(256)], 286)


EXERCISES = (
    Exercise(
        "CharTokenizer.encode",
        CHARACTERS,
        2,
        (
            "One id for each character of the text.",
            "self._ids maps each character to its id.",
            "return [self._ids[c] for c in text]",
        ),
        (characters_have_ids,),
    ),
    Exercise(
        "ByteTokenizer.encode",
        CHARACTERS,
        2,
        (
            "A text in a file is bytes; which?",
            'text.encode("utf-8") gives the bytes; a list of bytes is a list of numbers.',
            'return list(text.encode("utf-8"))',
        ),
        (bytes_are_ids,),
    ),
    Exercise(
        "Tokenizer.decode_bytes",
        BASE,
        3,
        (
            "Look up the bytes of each id, and join them.",
            "self._bytes maps ids to bytes; self.special_ids are the ids to leave out. id_list(ids) takes arrays, too.",
            'b"".join(self._bytes[i] for i in id_list(ids) if not (skip_special_tokens and i in self.special_ids))',
        ),
        (ids_have_bytes,),
    ),
    Exercise(
        "Tokenizer.decode",
        BASE,
        2,
        (
            "Bytes become text again; some bytes are not UTF-8.",
            "A character may be spread over several ids, so decode all bytes at once.",
            'return self.decode_bytes(ids, skip_special_tokens).decode("utf-8", errors="replace")',
        ),
        (bytes_become_text,),
    ),
    Exercise(
        "Splitter._cut_with_gaps",
        SPLITTING,
        4,
        (
            "Walk over the matches, and remember where the last one ended.",
            "There may be a gap before each match, from the end of the last one, and a gap at the end of the text.",
            "for match in self.pattern.finditer(text, timeout=timeout): add text[end : match.start()], match.group(); "
            "then end = match.end(). At the end add text[end:], and leave out empty pieces.",
        ),
        (gaps_are_pieces,),
    ),
    Exercise(
        "count_pieces",
        BPE,
        3,
        (
            "Most words of a text come again: BPE learns from the different pieces and their counts.",
            "splitter(pattern_of(pattern)) is a function from a text to its pieces; a Counter counts.",
            "counts = Counter(); for each text (one text may come without a list): counts.update(split(text))",
        ),
        (pieces_are_counted,),
    ),
    Exercise(
        "merge_word",
        TRAINING,
        6,
        (
            "Go through the word from left to right, and build a new one.",
            "Where the next two ids are the pair, append the new id and skip both; otherwise copy one id.",
            "On the left of a pair, if merged: ((merged[-1], a), -1) and ((merged[-1], new), +1). On its right, if "
            "there is an id c: ((b, c), -1) and ((new, c), +1).",
        ),
        (pair_is_replaced, neighbours_change),
        helpers=("_find_pairs",),
    ),
    Exercise(
        "_PairTable.pop",
        TRAINING,
        5,
        (
            "The smallest entry of the heap has the highest count, but perhaps an old one.",
            "An entry is (-count, pair, serial, words). Compare its count with self.counts[pair].",
            "Pop; if -count is the actual count, return (pair, words), or None if it is below max(min_frequency, 1). "
            "Otherwise push the entry with the actual count, and go on. None when the heap is empty.",
        ),
        (most_frequent_first,),
    ),
    Exercise(
        "_PairTable.merge",
        TRAINING,
        5,
        (
            "Only the words in `where` have the pair, so only these change.",
            "merge_word gives the new word and the changes; each change counts as often as the word occurs.",
            "For each w: self.words[w], changes = merge_word(self.words[w], pair, new); self.counts[changed] += sign * "
            "self.weights[w]; note w for each pair that was made (sign > 0), and give these to self._push.",
        ),
        (table_counts_pairs,),
    ),
    Exercise(
        "learn_merges",
        TRAINING,
        6,
        (
            "Take the most frequent pair, make a token of it, merge it everywhere, and begin again.",
            "table = _PairTable(words) has pop and merge. Stop at vocab_size tokens, or when pop gives None.",
            "spelling = tokens[a] + tokens[b]. If a token has this spelling, new is its id; otherwise len(tokens), "
            "and the spelling is appended. Then table.merge(pair, new, where), and pair is one of the merges.",
        ),
        (merges_are_learned,),
        timed=of_many_words,
    ),
    Exercise(
        "merge_pairs",
        ENCODING,
        6,
        (
            "A merge was learned on a text in which all merges before it were done. So apply them in that order.",
            "Among all pairs of neighbours, find that of the lowest rank; replace it; repeat until none has a rank.",
            "best = min over i of rank.get((ids[i], ids[i + 1])), the leftmost of equals; "
            "ids[i : i + 2] = [merged[best]]; return ids when no pair has a rank.",
        ),
        (merges_in_order, long_pieces),
        helpers=("_merge_short", "_merge_long"),
    ),
)
