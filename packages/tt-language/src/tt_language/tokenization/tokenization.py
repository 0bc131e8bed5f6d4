"""Module 10 (Act IV): tokenization, from text to lists of ids and back without losing a character.

Three tokenizers with one interface: `CharTokenizer` (an id per character of a text), `ByteTokenizer` (an id
per byte, nothing to learn) and `BPETokenizer` (byte-pair encoding on bytes, GPT-2's kind). The vocabulary is
the trade: more tokens make sequences shorter and attention cheaper, but each costs a row of the embedding
table; `compression_report` shows both sides.

Not here: learning merges (`bpe_training.py`), applying them (`bpe_encoding.py`), file formats
(`tokenizer_json.py`). Ids are plain lists of ints; nothing in this module knows about tensors.
"""

from __future__ import annotations

import codecs
import operator
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tt_core.engine.arguments import checked
from tt_language.errors import TokenizerError, first_few, short
from tt_language.tokenization import tokenizer_json as files
from tt_language.tokenization.added_tokens import AddedToken, AddedTokenFinder
from tt_language.tokenization.bpe_encoding import (
    BYTE_ALPHABET,
    PieceCache,
    byte_id_list,
    merge_pairs,
    number_merges,
    spelt_bytes,
    splitter,
)
from tt_language.tokenization.bpe_training import learn_merges
from tt_language.tokenization.tokenizer_json import PATTERNS, BPEFields

PathLike = str | os.PathLike[str]


class Tokenizer(ABC):
    """What every tokenizer does: text to ids and back, one by one or in batches, and its tokenizer.json.

    A subclass gives `encode`, `save`, `load` and calls `__init__` with the bytes each id stands for.
    """

    def __init__(self, token_bytes: Iterable[bytes] | Mapping[int, bytes], special_ids: Iterable[int] = ()) -> None:
        given = token_bytes.items() if isinstance(token_bytes, Mapping) else enumerate(token_bytes)
        self._bytes = dict(given)  # a dict, so that a negative id is an error
        self._size = max(self._bytes, default=-1) + 1
        self.special_ids = frozenset(special_ids)

    @property
    def vocab_size(self) -> int:
        """The largest id plus 1: how many rows an embedding table needs. Ids between may stand for no token."""
        return self._size

    @checked
    def known_ids(self, size: int) -> NDArray[np.bool_]:
        """(size,), true for each id below `size` that stands for a token.

        >>> ByteTokenizer().known_ids(258)[-3:]
        array([ True, False, False])
        """
        if size < 0:
            raise TokenizerError(f"size must be >= 0, got {size}")
        known = np.zeros(size, bool)
        known[[i for i in self._bytes if i < size]] = True
        return known

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text; raises `TokenizerError` for text that has none."""

    @abstractmethod
    def save(self, path: PathLike) -> None:
        """Write the tokenizer to `path` as a tokenizer.json, whole or not at all."""

    @classmethod
    @abstractmethod
    def load(cls, path: PathLike) -> Tokenizer:
        """Read a tokenizer of this class from a tokenizer.json (see `load_tokenizer` for any class)."""

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of each text, in lists of their own lengths.

        >>> ByteTokenizer().encode_batch(["hi", "a"])
        [[104, 105], [97]]
        """
        if isinstance(texts, (str, Mapping)) or not isinstance(texts, Iterable):
            raise TokenizerError(f"encode_batch takes a list of texts, got one {type(texts).__name__}; use encode")
        return [self.encode(text) for text in texts]

    @checked
    def encode_to_array(self, text: str, dtype: DTypeLike = np.int64) -> NDArray[Any]:
        """The ids of a text as an array (T,); raises `TokenizerError` where `dtype` is too small for them.

        >>> ByteTokenizer().encode_to_array("hi", np.uint16)
        array([104, 105], dtype=uint16)
        """
        try:
            dtype = np.dtype(dtype)
        except TypeError:
            raise TokenizerError(f"dtype is a NumPy dtype of integers, got {short(dtype)}") from None
        if dtype.kind not in "iu" or np.iinfo(dtype).max < self.vocab_size - 1:
            raise TokenizerError(f"dtype {dtype} cannot hold ids up to {self.vocab_size - 1}; use int64 or uint32")
        return np.array(self.encode(text), dtype)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that one id stands for, perhaps half a character.

        >>> BPETokenizer.train("low low", 257).token_bytes(256)
        b'lo'
        """
        return self.decode_bytes([token_id])

    def decode_bytes(self, ids: Iterable[int], skip_special_tokens: bool = False) -> bytes:
        """The exact bytes that ids stand for; raises `TokenizerError` for an id outside the vocabulary."""
        ids = _id_list(ids)
        if skip_special_tokens and self.special_ids:
            ids = [i for i in ids if i not in self.special_ids]
        try:
            return b"".join(map(self._bytes.__getitem__, ids))
        except KeyError as error:
            wrong, size = error.args[0], self.vocab_size
            inside = "stands for no token of the vocabulary"
            where = inside if 0 <= wrong < size else f"is outside the vocabulary (size {size}, ids 0 to {size - 1})"
            raise TokenizerError(f"id {wrong} {where}") from None

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """The text of ids (a list, an array or a 1-d tensor); bytes that are no UTF-8 become U+FFFD.

        >>> ByteTokenizer().decode([226, 130, 172, 50])
        '€2'
        """
        return self.decode_bytes(ids, skip_special_tokens).decode("utf-8", "replace")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size})"


def _id_list(ids: Iterable[int]) -> list[int]:
    """Ids from a list, array or tensor as plain ints."""
    try:
        values = ids.tolist() if hasattr(ids, "tolist") else ids
        return list(map(operator.index, values))
    except TypeError:
        raise TokenizerError(f"ids must be a flat sequence of integers, got {short(ids)}") from None


def _check_text(text: object) -> str:
    """The text itself; raises `TokenizerError` for what is not text or has no UTF-8 form."""
    if not isinstance(text, str):
        raise TokenizerError(f"expected a text (str), got {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise TokenizerError(
            f"text has a lone surrogate U+{code:04X} at index {error.start}, which is no character"
            '; clean it with text.encode("utf-8", "replace").decode()'
        ) from None
    return text


class StreamDecoder:
    """Decodes ids one at a time as they are generated, and never prints half a character.

    The texts that `feed` returns, and at the end `finish`, joined, are what `decode` gives for all ids at
    once.

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
        """The text that this id completes, "" while a character is unfinished."""
        return self._decoder.decode(self.tokenizer.decode_bytes([token_id], self.skip_special_tokens))

    def finish(self) -> str:
        """What is left: "" or U+FFFD for a character that never came to its end; the decoder starts anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest


# --- characters ---------------------------------------------------------------------------------------------


class CharTokenizer(Tokenizer):
    """An id for each character of a text, in code-point order, or of a list, in its own order.

    Simple and lossless, but blind to what it has not seen: another character raises `TokenizerError`.

    >>> tokenizer = CharTokenizer("hello")
    >>> tokenizer.encode("hole")
    [1, 3, 2, 0]
    >>> tokenizer.decode([1, 3, 2, 0])
    'hole'
    """

    @checked
    def __init__(self, text_or_vocabulary: str | Sequence[str]) -> None:
        given = text_or_vocabulary
        if not isinstance(given, Iterable):
            raise TokenizerError(f"a vocabulary is a text or a list of characters, got {short(given)}")
        self.characters = sorted(set(given)) if isinstance(given, str) else list(given)
        for c in self.characters:
            if len(_check_text(c)) != 1:
                raise TokenizerError(f"a vocabulary of characters holds {short(c)}, which is not one character")
        self._ids = {c: i for i, c in enumerate(self.characters)}
        if not self._ids or len(self._ids) < len(self.characters):
            repeated = [c for c, n in Counter(self.characters).items() if n > 1]
            raise TokenizerError(
                f"the vocabulary repeats {first_few(repeated)}"
                if repeated
                else "a vocabulary needs at least one character, got none"
            )
        super().__init__(c.encode("utf-8") for c in self.characters)

    def encode(self, text: str) -> list[int]:
        """One id for each character; raises `TokenizerError` that names the characters never seen."""
        if type(text) is not str:
            _check_text(text)
        try:
            return list(map(self._ids.__getitem__, text))
        except KeyError:
            unseen = sorted(set(_check_text(text)) - set(self._ids))
            raise TokenizerError(
                f"CharTokenizer: {first_few(unseen)} not among the {self.vocab_size} characters of the vocabulary;"
                " build it from text that has them, or use ByteTokenizer or BPETokenizer, which take any text"
            ) from None

    @checked
    def save(self, path: PathLike) -> None:
        """Write a tokenizer.json with a WordLevel model that the `tokenizers` library reads too."""
        files.write_json(path, files.characters_to_json(self.characters))

    @classmethod
    @checked
    def load(cls, path: PathLike) -> CharTokenizer:
        """Read what `save` wrote; raises `TokenizerError` for any other file."""
        return _load(path, lambda data: cls(files.characters_from_json(data)))


# --- bytes --------------------------------------------------------------------------------------------------


class ByteTokenizer(Tokenizer):
    """The 256 bytes as ids: any text, nothing to learn, the smallest table and the longest sequences.

    >>> ByteTokenizer().encode("a€")
    [97, 226, 130, 172]
    """

    def __init__(self) -> None:
        super().__init__(bytes([byte]) for byte in range(256))

    def encode(self, text: str) -> list[int]:
        """The UTF-8 bytes of a text; raises `TokenizerError` for lone surrogates."""
        return list(_check_text(text).encode("utf-8"))

    @checked
    def save(self, path: PathLike) -> None:
        """Write a tokenizer.json of a BPE without merges, which the `tokenizers` library reads too."""
        files.write_json(path, files.bpe_to_json(_byte_fields()))

    @classmethod
    @checked
    def load(cls, path: PathLike) -> ByteTokenizer:
        """Read what `save` wrote; raises `TokenizerError` for any other file."""
        return _load(path, lambda data: cls._from_fields(files.bpe_from_json(data)))

    @classmethod
    def _from_fields(cls, fields: BPEFields) -> ByteTokenizer:
        if fields != _byte_fields():
            raise TokenizerError("holds a BPE vocabulary, not plain bytes; use BPETokenizer.load or load_tokenizer")
        return cls()


def _byte_fields() -> BPEFields:
    return {
        "vocab": {character: byte for byte, character in enumerate(BYTE_ALPHABET)},
        "merges": [],
        "pattern": None,
        "special_tokens": [],
        "added_tokens": [],
        "ignore_merges": False,
        "prefix_tokens": [],
        "suffix_tokens": [],
        "normalizer": None,
        "add_prefix_space": False,
    }


# --- byte-pair encoding -------------------------------------------------------------------------------------


class BPETokenizer(Tokenizer):
    """Byte-level byte-pair encoding, as in GPT-2 (Radford et al. 2019, section 2.2): lossless for any text.

    Text is split by `pattern`, each piece turned to bytes, and the learnt merges applied to it, first learnt
    first.

    vocab: from token, spelt in GPT-2's byte alphabet (`Ġthe` is " the"), to id; ids may have gaps.
    merges: pairs of tokens in the order they were learnt; both halves and their join are in the vocabulary.
    pattern: "gpt2", "llama3", a regular expression of the `regex` library, several of them, each of which splits the
    pieces of the one before, or None to merge across the whole text.
    special_tokens: texts, or `AddedToken`s, that are one id each wherever they stand; those not in `vocab` get the next
    ids. A text means an `AddedToken` that is not `normalized`.
    added_tokens: the same, except that `skip_special_tokens` keeps them, and that a text means a `normalized` one.
    ignore_merges: a piece that is itself a token is taken whole, even where the merges would split it (Llama
    3).

    prefix_tokens, suffix_tokens: special tokens that `encode` puts around a text, as Llama 3 begins with one.
    normalizer: "NFC", "NFD", "NFKC" or "NFKD", the Unicode form that a text is brought to (Qwen); decoding gives that.
    add_prefix_space: puts a space before a text, and after each added token, that does not begin with one (RoBERTa).

    Raises `TokenizerError` when vocabulary and merges do not fit together.

    >>> tokenizer = BPETokenizer.train("low lower lowest", 259, special_tokens=["<|end|>"])
    >>> tokenizer.encode("slow<|end|>")
    [83, 258, 0]
    >>> tokenizer.decode([83, 258, 0])
    'slow<|end|>'
    """

    @checked
    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        pattern: str | Sequence[str] | None = "gpt2",
        special_tokens: Sequence[str | AddedToken] = (),
        added_tokens: Sequence[str | AddedToken] = (),
        ignore_merges: bool = False,
        prefix_tokens: Sequence[str] = (),
        suffix_tokens: Sequence[str] = (),
        normalizer: str | None = None,
        add_prefix_space: bool = False,
    ) -> None:
        if not isinstance(vocab, Mapping):
            raise TokenizerError(f"a vocabulary maps tokens to ids, got {short(vocab)}")
        self.vocab = dict(vocab)
        self.merges = list(merges)
        self.ignore_merges = ignore_merges
        special = _added_tokens(special_tokens, normalized=False)
        added = _added_tokens(added_tokens, normalized=True)
        files.check_ids(self.vocab)
        for token in [*special, *added]:
            if token.content not in self.vocab:
                self.vocab[token.content] = max(self.vocab.values(), default=-1) + 1
        whole = {token.content for token in [*special, *added]}
        self.special_tokens = {token.content: self.vocab[token.content] for token in special}
        self.added_tokens = {token.content: self.vocab[token.content] for token in added}
        super().__init__(spelt_bytes(self.vocab, self.merges, whole), self.special_tokens.values())
        self._byte_ids = byte_id_list(self.vocab)
        self._rank, self._merged = number_merges(self.vocab, self.merges, whole)
        self.prefix_tokens, self.suffix_tokens = list(prefix_tokens), list(suffix_tokens)
        self._prefix = self._special_ids_of(self.prefix_tokens)
        self._suffix = self._special_ids_of(self.suffix_tokens)
        self.pattern = _pattern_of(pattern)
        self.normalizer, self.add_prefix_space = normalizer, add_prefix_space
        if add_prefix_space and self.pattern not in (None, PATTERNS["gpt2"]):
            raise TokenizerError(f"add_prefix_space goes with pattern gpt2 or None, got {short(pattern)}")
        self._split = splitter(self.pattern)
        self._options = {token.content: token for token in [*special, *added]}
        self._find = AddedTokenFinder(
            {token: self.vocab[token.content] for token in self._options.values()}, normalizer
        )
        self._pieces = PieceCache(self._encode_piece)

    def _special_ids_of(self, tokens: Sequence[str]) -> list[int]:
        for token in tokens:
            if token not in self.special_tokens:
                raise TokenizerError(f"{short(token)} is put around each text, but is no special token")
        return [self.special_tokens[token] for token in tokens]

    @classmethod
    @checked
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        pattern: str | Sequence[str] | None = "gpt2",
        special_tokens: Sequence[str] = (),
        min_frequency: int = 0,
    ) -> BPETokenizer:
        """Learn a vocabulary from a text or texts: the ids and merges that the `tokenizers` library learns.

        Ids: special tokens, then the 256 bytes in the order of their GPT-2 alphabet, then one for each
        merge. The most frequent pair is merged first; between equals, the lowest pair of ids. Special tokens
        in the texts are not cut out: train on documents, not on their joins. Stops early, with a smaller
        vocabulary, when no pair occurs `min_frequency` times. Raises `TokenizerError` when `vocab_size` has
        no room for bytes and specials.

        >>> BPETokenizer.train("abab abab", 258).merges
        [('a', 'b'), ('ab', 'ab')]
        """
        special = _added_tokens(special_tokens, normalized=False)
        tokens = list(dict.fromkeys([*(token.content for token in special), *sorted(BYTE_ALPHABET)]))
        if vocab_size < len(tokens):
            raise TokenizerError(f"vocab_size {vocab_size} is less than 256 bytes + {len(tokens) - 256} special tokens")
        byte_ids = byte_id_list({token: i for i, token in enumerate(tokens)})
        pieces = count_pieces(texts, pattern)
        words = {tuple([byte_ids[byte] for byte in piece.encode("utf-8")]): n for piece, n in pieces.items()}
        pairs = learn_merges(words, tokens, vocab_size, min_frequency)
        merges = [(tokens[a], tokens[b]) for a, b in pairs]
        return cls({token: i for i, token in enumerate(tokens)}, merges, pattern, special)

    @classmethod
    @checked
    def from_gpt2(
        cls, encoder_json: PathLike, vocab_bpe: PathLike, special_tokens: Sequence[str] = ("<|endoftext|>",)
    ) -> BPETokenizer:
        """Read GPT-2's own files, encoder.json and vocab.bpe (the same as vocab.json and merges.txt).

        Raises `TokenizerError` when they are not such files or do not fit together.
        """
        vocab, merges = files.read_gpt2(encoder_json, vocab_bpe)
        try:
            return cls(vocab, merges, "gpt2", special_tokens)
        except TokenizerError as error:
            raise TokenizerError(f"{encoder_json} and {vocab_bpe}: {error}") from None

    def encode(self, text: str, add_special_tokens: bool = True, allow_special: bool = True) -> list[int]:
        """The ids of a text; raises `TokenizerError` for lone surrogates.

        `add_special_tokens` puts the prefix and suffix tokens around it; most tokenizers have none.
        With `allow_special=False` the spelling of a special token is text like any other: use it for what
        strangers typed, who should not be able to end a document.
        """
        _check_text(text)
        parts: list[str | int] = self._find(text) if allow_special else [self._find.normalize(text)]
        ids: list[int] = []
        for part in parts:
            ids += [part] if isinstance(part, int) else self._encode_ordinary(part)
        return [*self._prefix, *ids, *self._suffix] if add_special_tokens else ids

    def _encode_ordinary(self, text: str) -> list[int]:
        if self.add_prefix_space and text and not text.startswith(" "):
            text = " " + text
        return list(chain.from_iterable(map(self._pieces.__getitem__, self._split(text))))

    def _encode_piece(self, piece: str) -> tuple[int, ...]:
        data = piece.encode("utf-8")
        if self.ignore_merges:
            spelling = "".join([BYTE_ALPHABET[byte] for byte in data])
            if spelling in self.vocab and spelling not in self.special_tokens and spelling not in self.added_tokens:
                return (self.vocab[spelling],)
        ids = [self._byte_ids[byte] for byte in data]
        return tuple(merge_pairs(ids, self._rank, self._merged))

    @checked
    def save(self, path: PathLike) -> None:
        """Write a tokenizer.json that the `tokenizers` library reads to the same ids."""
        fields: BPEFields = {
            "vocab": self.vocab,
            "merges": self.merges,
            "pattern": self.pattern,
            "special_tokens": [self._options[token] for token in self.special_tokens],
            "added_tokens": [self._options[token] for token in self.added_tokens],
            "ignore_merges": self.ignore_merges,
            "prefix_tokens": self.prefix_tokens,
            "suffix_tokens": self.suffix_tokens,
            "normalizer": self.normalizer,
            "add_prefix_space": self.add_prefix_space,
        }
        files.write_json(path, files.bpe_to_json(fields))

    @classmethod
    @checked
    def load(cls, path: PathLike) -> BPETokenizer:
        """Read a byte-level BPE tokenizer.json (GPT-2's and Llama 3's kind, whoever wrote it).

        Raises `TokenizerError` for another model type, inconsistent merges, or a setting that would change
        the ids.
        """
        return _load(path, lambda data: cls(**files.bpe_from_json(data)))


def _added_tokens(tokens: Any, normalized: bool) -> list[AddedToken]:
    """Tokens with their options; raises `TokenizerError` for what cannot be one."""
    if isinstance(tokens, str) or not isinstance(tokens, Iterable):
        what = "the text " if isinstance(tokens, str) else ""
        raise TokenizerError(f"special tokens come in a list, got {what}{short(tokens)}")
    return [
        token if isinstance(token, AddedToken) else AddedToken(token, normalized=normalized)
        for token in map(_check_special_token, tokens)
    ]


def _check_special_token(token: Any) -> str | AddedToken:
    content = token.content if isinstance(token, AddedToken) else token
    if not isinstance(content, str) or not content:
        raise TokenizerError(f"a special token must be a text of one character or more, got {short(content)}")
    _check_text(content)
    return token


def _pattern_of(pattern: str | Sequence[str] | None) -> str | list[str] | None:
    """Patterns with names replaced by what they stand for; a list of one is that one."""
    if isinstance(pattern, (list, tuple)):
        patterns = [_named(each) for each in pattern]
        return patterns if len(patterns) > 1 else patterns[0] if patterns else None
    return _named(pattern)


def _named(pattern: Any) -> Any:
    return PATTERNS.get(pattern, pattern) if isinstance(pattern, str) else pattern


def count_pieces(texts: str | Iterable[str], pattern: str | Sequence[str] | None = "gpt2") -> Counter[str]:
    """How often each piece occurs that `pattern` splits texts into.

    >>> count_pieces("to be or not to be")
    Counter({' be': 2, 'to': 1, ' or': 1, ' not': 1, ' to': 1})
    """
    split = splitter(_pattern_of(pattern))
    counts: Counter[str] = Counter()
    for text in [texts] if isinstance(texts, str) else texts:
        counts.update(split(_check_text(text)))
    return counts


# --- files and the report -----------------------------------------------------------------------------------


_T = TypeVar("_T")


def _load(path: PathLike, make: Callable[[Mapping[str, Any]], _T]) -> _T:
    """Read a tokenizer.json, or the one in a folder, and name the file in whatever is wrong with it."""
    if os.path.isdir(path):
        path = Path(path) / "tokenizer.json"
    data = files.read_json(path)
    try:
        return make(data)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from None


@checked
def load_tokenizer(path: PathLike) -> Tokenizer:
    """Read a tokenizer of any kind from a tokenizer.json, or from the folder of a model that holds one.

    A folder without tokenizer.json may hold GPT-2's vocab.json and merges.txt (or encoder.json and
    vocab.bpe) instead.
    Raises `TokenizerError` when the file is of no kind known here, `FileError` when there is none.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "tokenizer.json"
    >>> CharTokenizer("abc").save(path)
    >>> load_tokenizer(path)
    CharTokenizer(vocab_size=3)
    """
    folder = Path(path)
    if folder.is_dir() and not (folder / "tokenizer.json").exists():
        if (folder / "added_tokens.json").exists():
            raise TokenizerError(f"{folder}: added_tokens.json is not read; convert the tokenizer to a tokenizer.json")
        for vocab, merges in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
            if (folder / vocab).exists() and (folder / merges).exists():
                return BPETokenizer.from_gpt2(folder / vocab, folder / merges)
    return _load(path, _tokenizer_from_json)


def _tokenizer_from_json(data: Mapping[str, Any]) -> Tokenizer:
    kind = files.model_type(data)
    if kind == "WordLevel":
        return CharTokenizer(files.characters_from_json(data))
    if kind != "BPE":
        raise TokenizerError(f"holds a {kind} model; known are BPE (byte-level) and WordLevel (characters)")
    fields = files.bpe_from_json(data)
    return ByteTokenizer() if fields == _byte_fields() else BPETokenizer(**fields)


@dataclass(frozen=True)
class CompressionReport:
    """What a vocabulary buys and costs on one text; printed, it is a short table."""

    n_characters: int
    n_bytes: int
    n_tokens: int
    vocab_size: int
    vocab_used: int
    n_embd: int
    bytes_per_number: int

    @property
    def bytes_per_token(self) -> float:
        """How much text one position of the model sees; attention costs its inverse squared."""
        return self.n_bytes / self.n_tokens

    @property
    def vocab_use(self) -> float:
        """The share of the vocabulary that occurs in the text; rows of the rest are never trained on it."""
        return self.vocab_used / self.vocab_size

    @property
    def embedding_parameters(self) -> int:
        """Numbers in the token embedding table (vocab_size, n_embd)."""
        return self.vocab_size * self.n_embd

    @property
    def embedding_bytes(self) -> int:
        """Memory of the token embedding table."""
        return self.embedding_parameters * self.bytes_per_number

    def __str__(self) -> str:
        return "\n".join(
            [
                f"text       {self.n_bytes:,} bytes, {self.n_characters:,} characters",
                f"tokens     {self.n_tokens:,} ({self.bytes_per_token:.2f} bytes each)",
                f"vocabulary {self.vocab_used:,} of {self.vocab_size:,} used ({self.vocab_use:.1%})",
                f"embedding  {self.vocab_size:,} x {self.n_embd:,}: {self.embedding_parameters:,} parameters,"
                f" {self.embedding_bytes / 2**20:.1f} MiB",
            ]
        )


@checked
def compression_report(
    tokenizer: Tokenizer, text: str, n_embd: int = 768, bytes_per_number: int = 4
) -> CompressionReport:
    """Measure bytes per token, vocabulary use and memory of the embedding table on a text.

    n_embd: width of the embedding, GPT-2's by default; bytes_per_number: 4 for float32.
    Raises `TokenizerError` for an empty text, which has nothing to measure.

    >>> print(compression_report(ByteTokenizer(), "to be or not to be", n_embd=128))
    text       18 bytes, 18 characters
    tokens     18 (1.00 bytes each)
    vocabulary 7 of 256 used (2.7%)
    embedding  256 x 128: 32,768 parameters, 0.1 MiB
    """
    ids = tokenizer.encode(text)
    if not ids:
        raise TokenizerError("compression_report needs a text with at least one token, got an empty one")
    n_bytes = len(text.encode("utf-8"))
    return CompressionReport(
        len(text), n_bytes, len(ids), tokenizer.vocab_size, len(set(ids)), n_embd, bytes_per_number
    )
