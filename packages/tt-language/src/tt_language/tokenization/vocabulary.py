"""Part of module 10, tokenization: the vocabulary and merges of a byte-level BPE, checked and numbered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tt_language.errors import TokenizerError, first_few, short
from tt_language.tokenization.bpe_training import Pair

NEVER_IN_UTF8 = frozenset([0xC0, 0xC1, *range(0xF5, 0x100)])
"""Bytes that no text contains; a vocabulary may lack them."""
_MOST_IDS = 1 << 32


def byte_alphabet() -> list[str]:
    """GPT-2's printable character for each byte: the byte's own, or the next free one from U+0100.

    >>> byte_alphabet()[ord("A")], byte_alphabet()[ord(" ")]
    ('A', 'Ġ')
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (chr(0x100 + n) for n in range(256))
    return [chr(byte) if byte in printable else next(others) for byte in range(256)]


BYTE_ALPHABET = byte_alphabet()
_BYTE_OF = {character: byte for byte, character in enumerate(BYTE_ALPHABET)}


def check_vocab(vocab: Mapping[str, int]) -> None:
    """Raise `TokenizerError` unless each token has its own id, 0 or more; ids may have gaps."""
    by_id: dict[int, str] = {}
    for token, i in vocab.items():
        if type(i) is not int or not 0 <= i < _MOST_IDS:
            raise TokenizerError(f"token {short(token)} has id {short(i)}, expected 0 to {_MOST_IDS - 1}")
        if by_id.setdefault(i, token) != token:
            raise TokenizerError(f"tokens {short(by_id[i])} and {short(token)} share the id {i}")


def spelled_bytes(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], whole: set[str]) -> dict[int, bytes]:
    """The bytes of each id. Tokens in `whole` (special or added) are plain text, others in the byte alphabet."""
    unused = {BYTE_ALPHABET[byte] for byte in NEVER_IN_UTF8} & whole  # DeepSeek's added tokens: the letter itself
    ordinary = {*BYTE_ALPHABET, *(a + b for a, b in merges)} - unused
    return {i: _bytes_of(token, token in whole, token in ordinary) for token, i in vocab.items()}


def _bytes_of(token: str, whole: bool, ordinary: bool) -> bytes:
    """The bytes of a token that is special or added (`whole`), made by merges (`ordinary`), both, or neither."""
    plain = token.encode("utf-8")
    if whole and not ordinary:
        return plain
    spelled = _spelled(token)
    if whole and plain != spelled:
        raise TokenizerError(
            f"special token {short(token)} is also the spelling of the bytes {short(spelled)}; rename it"
        )
    return spelled


def _spelled(token: str) -> bytes:
    try:
        return bytes([_BYTE_OF[character] for character in token])
    except KeyError as error:
        raise TokenizerError(
            f"token {short(token)} holds {error.args[0]!r}, which is not in the byte"
            " alphabet: this is not a byte-level BPE"
        ) from None


def byte_id_list(vocab: Mapping[str, int]) -> list[int]:
    """The id of each byte, -1 for one that no text contains; raises `TokenizerError` for any other without an id."""
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

    A merge that makes a special or added token has no rank. Where those are cut out of the text, it cannot happen;
    where they are ordinary text, it must not.
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
