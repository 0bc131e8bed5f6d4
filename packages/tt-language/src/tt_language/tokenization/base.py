"""Part of module 10, tokenization: what all tokenizers share. Ids are lists of ints; tensors come in module 11."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tt_core.engine.arguments import checked
from tt_language.errors import TokenizerError, short
from tt_language.tokenization.checks import id_list
from tt_language.tokenization.files import PathLike


class Tokenizer(ABC):
    """The interface of all tokenizers: text to ids and back, one by one or in batches, and files.

    A subclass defines `encode`, `save` and `load`, and calls `__init__` with the bytes of each id.
    """

    chat_template: str | None = None
    """A Jinja template that turns a conversation into a text, from the folder's tokenizer_config.json."""
    bos_token: str | None = None
    """The token that begins a text, by the same file."""
    eos_token: str | None = None
    """The token that ends a text, by the same file."""

    def __init__(self, token_bytes: Iterable[bytes] | Mapping[int, bytes], special_ids: Iterable[int] = ()) -> None:
        given = token_bytes.items() if isinstance(token_bytes, Mapping) else enumerate(token_bytes)
        self._bytes = dict(given)  # a dict, since in a list a negative id would count from the end
        # ids may have gaps, so the number of tokens can be smaller than the rows that an embedding table needs
        self._size = max(self._bytes, default=-1) + 1
        self.special_ids = frozenset(special_ids)

    @property
    def vocab_size(self) -> int:
        """The largest id plus 1: how many rows an embedding table needs. Some ids below it may be unused."""
        return self._size

    @checked
    def known_ids(self, size: int) -> NDArray[np.bool_]:
        """(size,), True for each id below `size` that has a token; raises `TokenizerError` for a negative size.

        >>> from tt_language.tokenization import ByteTokenizer
        >>> ByteTokenizer().known_ids(258)[-3:]
        array([ True, False, False])
        """
        if size < 0:
            raise TokenizerError(f"known_ids: size is {size}, expected 0 or more")
        known = np.zeros(size, bool)
        known[[i for i in self._bytes if i < size]] = True
        return known

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text; raises `TokenizerError` for text that cannot be encoded."""

    @abstractmethod
    def save(self, path: PathLike) -> None:
        """Write the tokenizer to `path` as a tokenizer.json file, whole or not at all."""

    @classmethod
    @abstractmethod
    def load(cls, path: PathLike) -> Tokenizer:
        """Read a tokenizer of this class from a tokenizer.json file; `load_tokenizer` reads any class."""

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of each text, one list per text.

        >>> from tt_language.tokenization import ByteTokenizer
        >>> ByteTokenizer().encode_batch(["hi", "a"])
        [[104, 105], [97]]
        """
        if isinstance(texts, (str, Mapping)) or not isinstance(texts, Iterable):
            raise TokenizerError(f"encode_batch takes a list of texts, got one {type(texts).__name__}; use encode")
        return [self.encode(text) for text in texts]

    @checked
    def encode_to_array(self, text: str, dtype: DTypeLike = np.int64) -> NDArray[Any]:
        """The ids of a text as an array (T,); raises `TokenizerError` for a `dtype` that cannot hold them.

        >>> from tt_language.tokenization import ByteTokenizer
        >>> ByteTokenizer().encode_to_array("hi", np.uint16)
        array([104, 105], dtype=uint16)
        """
        try:
            dtype = np.dtype(dtype)
        except TypeError:
            raise TokenizerError(f"dtype is a NumPy dtype of integers, got {short(dtype)}") from None
        # uint16 halves the file of a corpus, but an id beyond 65535 would wrap around silently
        if dtype.kind not in "iu" or np.iinfo(dtype).max < self.vocab_size - 1:
            raise TokenizerError(f"dtype {dtype} cannot hold ids up to {self.vocab_size - 1}; use int64 or uint32")
        return np.array(self.encode(text), dtype)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one id, which may be part of a character.

        >>> from tt_language.tokenization import BPETokenizer
        >>> BPETokenizer.train("low low", 257).token_bytes(256)
        b'lo'
        """
        return self.decode_bytes([token_id])

    # bytes, not text, are what ids stand for: a character of several bytes may be split between two ids

    def decode_bytes(self, ids: Iterable[int], skip_special_tokens: bool = False) -> bytes:
        """The bytes of ids; raises `TokenizerError` for an id that has no token."""
        ids = id_list(ids)
        if skip_special_tokens and self.special_ids:
            ids = [i for i in ids if i not in self.special_ids]
        try:
            return b"".join(map(self._bytes.__getitem__, ids))
        except KeyError as error:
            wrong, size = error.args[0], self.vocab_size
            inside = "has no token in the vocabulary"
            where = inside if 0 <= wrong < size else f"is outside the vocabulary (size {size}, ids 0 to {size - 1})"
            raise TokenizerError(f"id {wrong} {where}") from None

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """The text of ids (a list, an array or a 1-d tensor); bytes that are not UTF-8 become U+FFFD.

        >>> from tt_language.tokenization import ByteTokenizer
        >>> ByteTokenizer().decode([226, 130, 172, 50])
        '€2'
        """
        return self.decode_bytes(ids, skip_special_tokens).decode("utf-8", "replace")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size})"
