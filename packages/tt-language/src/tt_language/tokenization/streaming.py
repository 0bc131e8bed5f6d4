"""Part of module 10, tokenization: text from ids that are generated one at a time."""

from __future__ import annotations

import codecs

from tt_core.engine.arguments import checked
from tt_language.tokenization.base import Tokenizer


class StreamDecoder:
    """Decodes ids one at a time, and never returns part of a character.

    The results of `feed`, and of `finish` at the end, joined, are the result of `decode` for all ids. As there,
    `skip_special_tokens` leaves out special tokens, such as the one that ends a text.

    >>> from tt_language.tokenization import ByteTokenizer
    >>> decoder = StreamDecoder(ByteTokenizer())
    >>> [decoder.feed(i) for i in "€2".encode()]
    ['', '', '€', '2']
    >>> decoder.feed(226), decoder.finish()
    ('', '�')
    """

    @checked
    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = False) -> None:
        self.tokenizer = tokenizer
        self.skip_special_tokens = skip_special_tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token_id: int) -> str:
        """The text that this id completes; "" within a character, and for a skipped token."""
        return self._decoder.decode(self.tokenizer.decode_bytes([token_id], self.skip_special_tokens))

    def finish(self) -> str:
        """The rest: U+FFFD for an incomplete character, else ""; the decoder can then be used again."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
