"""Module 10, tokenization: byte-pair encoding on bytes, GPT-2's kind of tokenizer.

`BPETokenizer.train` learns a vocabulary with `bpe_training.py`, and `encode` applies it with `bpe_encoding.py`. The
vocabulary is a trade: more tokens make sequences shorter and attention cheaper, but each needs a row of the embedding
table; `compression_report` shows both sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from tt_core.engine.arguments import checked
from tt_language.errors import TokenizerError, short
from tt_language.tokenization.added_tokens import AddedToken, AddedTokenFinder, added_list
from tt_language.tokenization.base import Tokenizer
from tt_language.tokenization.bpe_encoding import PieceCache, merge_pairs
from tt_language.tokenization.bpe_training import learn_merges
from tt_language.tokenization.checks import check_text
from tt_language.tokenization.files import PathLike, write_json
from tt_language.tokenization.patterns import PATTERNS, pattern_of
from tt_language.tokenization.splitting import splitter
from tt_language.tokenization.tokenizer_json import BPEFields, bpe_from_json, bpe_to_json, load_as, read_gpt2
from tt_language.tokenization.vocabulary import BYTE_ALPHABET, byte_id_list, check_vocab, number_merges, spelled_bytes


class BPETokenizer(Tokenizer):
    """Byte-level byte-pair encoding, as in GPT-2 (Radford et al. 2019, section 2.2): lossless for any text.

    `pattern` splits the text into pieces. Each piece becomes bytes, to which the learned merges are applied in the
    order in which they were learned.

    vocab: from token, spelled in GPT-2's byte alphabet (`Ġthe` is " the"), to id; ids may have gaps.
    merges: pairs of tokens in the order in which they were learned; both tokens and their join are in the vocabulary.
    pattern: "gpt2", "llama3", a regular expression of the `regex` library, a list of them, each of which splits the
    pieces of the one before, or None to merge across the whole text.
    special_tokens: texts or `AddedToken`s that become one id wherever they occur; those not in `vocab` get the next
    ids. A text means an `AddedToken` with `normalized=False`.
    added_tokens: the same, but `skip_special_tokens` keeps them, and a text means one with `normalized=True`.
    ignore_merges: takes a piece that is a token as a whole, even where the merges would split it (Llama 3).
    prefix_tokens, suffix_tokens: special tokens that `encode` puts around a text (Llama 3 begins with one).
    normalizer: "NFC", "NFD", "NFKC" or "NFKD", the Unicode form to which texts are converted (Qwen).
    add_prefix_space: puts a space before a text that does not begin with one, and after each added token (RoBERTa).

    Raises `TokenizerError` for a vocabulary and merges that do not fit together.

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
        self.vocab, self.merges, self.ignore_merges = dict(vocab), list(merges), ignore_merges
        check_vocab(self.vocab)
        special, added = added_list(special_tokens, normalized=False), added_list(added_tokens, normalized=True)
        self._number_tokens(special, added)
        # ids that encode() puts around each text
        self.prefix_tokens, self.suffix_tokens = list(prefix_tokens), list(suffix_tokens)
        self._prefix, self._suffix = map(self._special_ids_of, (self.prefix_tokens, self.suffix_tokens))
        self.pattern, self.normalizer, self.add_prefix_space = pattern_of(pattern), normalizer, add_prefix_space
        if add_prefix_space and self.pattern not in (None, PATTERNS["gpt2"]):
            raise TokenizerError(f"add_prefix_space goes with pattern gpt2 or None, got {short(pattern)}")
        self._split = splitter(self.pattern)
        self._find = AddedTokenFinder({token: self.vocab[name] for name, token in self._options.items()}, normalizer)
        self._pieces = PieceCache(self._encode_piece)

    def _number_tokens(self, special: list[AddedToken], added: list[AddedToken]) -> None:
        """Give new tokens the next ids, and index bytes and merges by id."""
        self._options = {token.content: token for token in [*special, *added]}
        for name in self._options:
            if name not in self.vocab:
                self.vocab[name] = max(self.vocab.values(), default=-1) + 1
        self.special_tokens = {token.content: self.vocab[token.content] for token in special}
        self.added_tokens = {token.content: self.vocab[token.content] for token in added}
        whole = set(self._options)
        super().__init__(spelled_bytes(self.vocab, self.merges, whole), self.special_tokens.values())
        self._byte_ids = byte_id_list(self.vocab)
        self._rank, self._merged = number_merges(self.vocab, self.merges, whole)

    def _special_ids_of(self, tokens: Sequence[str]) -> list[int]:
        for token in tokens:
            if token not in self.special_tokens:
                raise TokenizerError(f"{short(token)} is put around each text, but is not a special token")
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
        """Learn a vocabulary from a text or several: the ids and merges that the `tokenizers` library learns.

        The ids are the special tokens, the 256 bytes in the order of their GPT-2 alphabet, then one for each merge.
        The most frequent pair is merged first; of equals, the lowest pair of ids. Special tokens in the texts are not
        recognized: train on documents, not on documents joined by a special token. Stops early, with a smaller
        vocabulary, when no pair occurs `min_frequency` times. Raises `TokenizerError` for a `vocab_size` below the
        number of bytes and special tokens.

        >>> BPETokenizer.train("abab abab", 258).merges
        [('a', 'b'), ('ab', 'ab')]
        """
        special = added_list(special_tokens, normalized=False)
        # the bytes come in GPT-2's order, not by value, so that ids agree with those of the tokenizers library
        tokens = list(dict.fromkeys([*(token.content for token in special), *sorted(BYTE_ALPHABET)]))
        if vocab_size < len(tokens):
            raise TokenizerError(f"vocab_size {vocab_size} is less than 256 bytes + {len(tokens) - 256} special tokens")
        byte_ids = byte_id_list({token: i for i, token in enumerate(tokens)})
        # merges never cross pieces, so equal pieces are counted once: a text has far fewer of them than words
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

        Raises `TokenizerError` for other files, and for two that do not fit together.
        """
        vocab, merges = read_gpt2(encoder_json, vocab_bpe)
        try:
            return cls(vocab, merges, "gpt2", special_tokens)
        except TokenizerError as error:
            raise TokenizerError(f"{encoder_json} and {vocab_bpe}: {error}") from None

    def encode(self, text: str, add_special_tokens: bool = True, allow_special: bool = True) -> list[int]:
        """The ids of a text; raises `TokenizerError` for lone surrogates.

        `add_special_tokens` puts the prefix and suffix tokens around it; most tokenizers have none. With
        `allow_special=False`, the spelling of a special token is ordinary text: use it for untrusted input, which
        could otherwise end a document.
        """
        check_text(text)
        # added tokens first: the text of an id such as <|end|> must not be split or merged with its neighbours
        parts: list[str | int] = self._find(text) if allow_special else [self._find.normalize(text)]
        ids: list[int] = []
        for part in parts:
            ids += [part] if isinstance(part, int) else self._encode_ordinary(part)
        return [*self._prefix, *ids, *self._suffix] if add_special_tokens else ids

    def _encode_ordinary(self, text: str) -> list[int]:
        if self.add_prefix_space and text and not text.startswith(" "):
            text = " " + text
        # the cache calls _encode_piece for pieces that are new; map and chain keep this loop out of Python
        return list(chain.from_iterable(map(self._pieces.__getitem__, self._split(text))))

    def _encode_piece(self, piece: str) -> tuple[int, ...]:
        data = piece.encode("utf-8")
        if self.ignore_merges:  # a token as a whole, even one that the merges would not reach
            spelling = "".join([BYTE_ALPHABET[byte] for byte in data])
            if spelling in self.vocab and spelling not in self.special_tokens and spelling not in self.added_tokens:
                return (self.vocab[spelling],)
        ids = [self._byte_ids[byte] for byte in data]
        return tuple(merge_pairs(ids, self._rank, self._merged))

    @checked
    def with_special_tokens(self, tokens: Sequence[str]) -> BPETokenizer:
        """The same tokenizer with further special tokens, which get the next ids.

        >>> tokenizer = BPETokenizer.train("low low", 257)
        >>> tokenizer.with_special_tokens(["<|end|>"]).encode("lo<|end|>")
        [256, 257]
        """
        fields = vars(self._fields())
        return BPETokenizer(**{**fields, "special_tokens": [*fields["special_tokens"], *tokens]})

    @checked
    def save(self, path: PathLike) -> None:
        """Write a tokenizer.json file, with which the `tokenizers` library gives the same ids."""
        write_json(path, bpe_to_json(self._fields()))

    def _fields(self) -> BPEFields:
        special, added = ([self._options[token] for token in kind] for kind in (self.special_tokens, self.added_tokens))
        return BPEFields(
            self.vocab, self.merges, self.pattern, special, added, self.ignore_merges,
            self.prefix_tokens, self.suffix_tokens, self.normalizer, self.add_prefix_space,
        )  # fmt: skip

    @classmethod
    @checked
    def load(cls, path: PathLike) -> BPETokenizer:
        """Read the tokenizer.json file of a byte-level BPE tokenizer (GPT-2's and Llama 3's kind).

        Raises `TokenizerError` for another kind of model, inconsistent merges, or an unsupported setting that changes
        the ids.
        """
        return load_as(path, lambda data: cls(**vars(bpe_from_json(data))))


def count_pieces(texts: str | Iterable[str], pattern: str | Sequence[str] | None = "gpt2") -> Counter[str]:
    """The pieces into which `pattern` splits texts, with their counts.

    >>> count_pieces("to be or not to be")
    Counter({' be': 2, 'to': 1, ' or': 1, ' not': 1, ' to': 1})
    """
    split = splitter(pattern_of(pattern))
    counts: Counter[str] = Counter()
    for text in [texts] if isinstance(texts, str) else texts:
        counts.update(split(check_text(text)))
    return counts
