"""Part of module 10, tokenization: the two simplest vocabularies, the characters of a text and the 256 bytes."""

from __future__ import annotations

from collections.abc import Sequence

from tt_core.engine.arguments import checked
from tt_language.errors import TokenizerError, first_few
from tt_language.tokenization.base import Tokenizer
from tt_language.tokenization.checks import character_list, check_text
from tt_language.tokenization.files import PathLike, write_json
from tt_language.tokenization.tokenizer_json import (
    BPEFields,
    bpe_from_json,
    bpe_to_json,
    characters_from_json,
    characters_to_json,
    load_as,
)
from tt_language.tokenization.vocabulary import BYTE_ALPHABET


class CharTokenizer(Tokenizer):
    """An id for each character of a text, in the order of code points, or of a list, in its order.

    Lossless, but limited to the characters it was given: any other character raises `TokenizerError`.

    >>> tokenizer = CharTokenizer("hello")
    >>> tokenizer.encode("hole")
    [1, 3, 2, 0]
    >>> tokenizer.decode([1, 3, 2, 0])
    'hole'
    """

    @checked
    def __init__(self, text_or_vocabulary: str | Sequence[str]) -> None:
        self.characters = character_list(text_or_vocabulary)
        # sorted, so that the same text gives the same ids on every machine
        self._ids = {c: i for i, c in enumerate(self.characters)}
        super().__init__(c.encode("utf-8") for c in self.characters)

    def encode(self, text: str) -> list[int]:
        """One id for each character; raises `TokenizerError` that names unknown characters."""
        if type(text) is not str:
            check_text(text)
        try:
            return list(map(self._ids.__getitem__, text))
        except KeyError:
            unseen = sorted(set(check_text(text)) - set(self._ids))
            raise TokenizerError(
                f"CharTokenizer: {first_few(unseen)} not among the {self.vocab_size} characters of the vocabulary;"
                " build it from text that has them, or use ByteTokenizer or BPETokenizer, which take any text"
            ) from None

    @checked
    def save(self, path: PathLike) -> None:
        """Write a tokenizer.json file with a WordLevel model, which the `tokenizers` library reads too."""
        write_json(path, characters_to_json(self.characters))

    @classmethod
    @checked
    def load(cls, path: PathLike) -> CharTokenizer:
        """Read what `save` wrote; raises `TokenizerError` for any other file."""
        return load_as(path, lambda data: cls(characters_from_json(data)))


class ByteTokenizer(Tokenizer):
    """The 256 bytes as ids: takes any text and learns nothing; the smallest table and the longest sequences.

    >>> ByteTokenizer().encode("a€")
    [97, 226, 130, 172]
    """

    def __init__(self) -> None:
        # every text is bytes in UTF-8, so no text is unknown; a euro sign takes three ids
        super().__init__(bytes([byte]) for byte in range(256))

    def encode(self, text: str) -> list[int]:
        """The UTF-8 bytes of a text; raises `TokenizerError` for lone surrogates."""
        return list(check_text(text).encode("utf-8"))

    @checked
    def save(self, path: PathLike) -> None:
        """Write a tokenizer.json file of a BPE without merges, which the `tokenizers` library reads too."""
        write_json(path, bpe_to_json(byte_fields()))

    @classmethod
    @checked
    def load(cls, path: PathLike) -> ByteTokenizer:
        """Read what `save` wrote; raises `TokenizerError` for any other file."""
        return load_as(path, lambda data: cls._from_fields(bpe_from_json(data)))

    @classmethod
    def _from_fields(cls, fields: BPEFields) -> ByteTokenizer:
        if fields != byte_fields():
            raise TokenizerError("holds a BPE vocabulary, not plain bytes; use BPETokenizer.load or load_tokenizer")
        return cls()


def byte_fields() -> BPEFields:
    """A `ByteTokenizer` as a BPE without merges, so that one file format serves both."""
    return BPEFields({character: byte for byte, character in enumerate(BYTE_ALPHABET)}, [])
