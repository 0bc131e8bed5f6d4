"""Module 10: what the three tokenizers promise, and what they say to bad input."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tt_core.engine.errors import DTypeError, FileError
from tt_language import AddedToken
from tt_language.errors import TokenizerError
from tt_language.tokenization import (
    PATTERNS,
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    StreamDecoder,
    Tokenizer,
    compression_report,
    count_pieces,
    load_tokenizer,
    splitting,
)
from tt_language.tokenization.bpe_encoding import _merge_long, _merge_short
from tt_language.tokenization.bpe_training import learn_merges, merge_word

TEXT = "the theatre there; these three thieves ‘thought’ — naïve 日本語 🙂🏽\n\n  they'd lost 12345 things\t"
END = "<|end|>"
BPE = BPETokenizer.train(TEXT, 300, special_tokens=[END])
UNSPLIT = BPETokenizer.train(TEXT, 290, pattern=None)
LLAMA = BPETokenizer.train(TEXT, 290, pattern="llama3")
EACH = [CharTokenizer(TEXT), ByteTokenizer(), BPE, UNSPLIT, LLAMA]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def one_line(error: pytest.ExceptionInfo[TokenizerError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


# --- what they promise ---


@pytest.mark.parametrize("tokenizer", EACH, ids=repr)
def test_round_trip_of_known_text(tokenizer):
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.decode(np.array(ids)) == TEXT
    assert max(ids) < tokenizer.vocab_size
    assert b"".join(map(tokenizer.token_bytes, ids)) == TEXT.encode()
    assert isinstance(tokenizer, Tokenizer)


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPE, UNSPLIT, LLAMA], ids=repr)
@given(text=ANY_TEXT)
def test_round_trip_of_any_text(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("tokenizer", EACH, ids=repr)
def test_saved_and_loaded_is_the_same(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    for again in (type(tokenizer).load(path), load_tokenizer(path), load_tokenizer(tmp_path)):
        assert type(again) is type(tokenizer)
        assert again.vocab_size == tokenizer.vocab_size
        assert again.encode(TEXT) == tokenizer.encode(TEXT)
    before = path.read_bytes()
    load_tokenizer(path).save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("tokenizer", EACH, ids=repr)
def test_travels_to_another_process(tokenizer):
    assert pickle.loads(pickle.dumps(tokenizer)).encode(TEXT) == tokenizer.encode(TEXT)


@pytest.mark.parametrize("tokenizer", EACH, ids=repr)
def test_batches_and_empty_text(tokenizer):
    assert tokenizer.encode_batch([TEXT, "", "the"]) == [tokenizer.encode(TEXT), [], tokenizer.encode("the")]
    assert tokenizer.decode([]) == ""


def test_arrays_have_the_asked_dtype():
    array = BPE.encode_to_array(TEXT, np.uint16)
    assert array.dtype == np.uint16
    assert array.tolist() == BPE.encode(TEXT)
    assert BPE.encode_to_array("").shape == (0,)


def test_gpt2_pattern_splits_as_gpt2_does():
    pieces = {"It": 1, "'s": 1, " 2024": 1, ",": 1, "  ": 1, " don": 1, "'t": 1, "!!": 1, "\n\n": 1}
    assert count_pieces("It's 2024,   don't!!\n\n") == Counter(pieces)


@pytest.mark.parametrize("pattern", ["[a-z]+", "([a-z])|([0-9]+)", "x*", "(?=a)"])
def test_nothing_is_lost_by_a_pattern_that_matches_only_parts(pattern):
    tokenizer = BPETokenizer.train("abc 12 abc 12", 260, pattern=pattern)
    assert tokenizer.decode(tokenizer.encode("abc, 12! xx ÄÖ")) == "abc, 12! xx ÄÖ"


def test_no_token_crosses_a_piece():
    assert not any(b" " in BPE.token_bytes(i)[1:] for i in range(257, 300) if BPE.token_bytes(i).strip())
    crossing = BPETokenizer.train("of the of the of the", 262, pattern=None)
    assert any(b" " in crossing.token_bytes(i).strip() for i in range(256, 262))


# --- special tokens ---


def test_special_tokens_are_one_id_wherever_they_stand():
    assert BPE.special_tokens == {END: 0}
    assert BPE.encode(f"a{END}{END}b") == [*BPE.encode("a"), 0, 0, *BPE.encode("b")]
    assert BPE.decode([0, *BPE.encode("the"), 0], skip_special_tokens=True) == "the"


def test_special_tokens_of_strangers_are_plain_text():
    ids = BPE.encode(END, allow_special=False)
    assert 0 not in ids
    assert BPE.decode(ids) == END


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_special_tokens_of_strangers_are_plain_text_though_the_merges_spell_them(ignore_merges):
    learned = BPETokenizer.train([END * 9], 300, pattern=None, special_tokens=[END])
    assert any(a + b == END for a, b in learned.merges)
    tokenizer = BPETokenizer(learned.vocab, learned.merges, None, [END], ignore_merges=ignore_merges)
    ids = tokenizer.encode(END, allow_special=False)
    assert not set(ids) & tokenizer.special_ids
    assert tokenizer.decode(ids) == END
    assert tokenizer.encode(f"a{END}") == [*tokenizer.encode("a"), *tokenizer.special_ids]


def test_the_longest_special_token_wins():
    tokenizer = BPETokenizer(BPE.vocab, BPE.merges, "gpt2", ["<a>", "<a><b>", END])
    assert tokenizer.encode("<a><b>") == [tokenizer.special_tokens["<a><b>"]]


def test_special_tokens_may_hold_spaces_and_any_character():
    tokenizer = BPETokenizer.train(TEXT, 280, special_tokens=["<end of text ✂>"])
    assert tokenizer.encode("a<end of text ✂>")[1:] == [0]
    assert tokenizer.token_bytes(0) == "<end of text ✂>".encode()


def test_prefix_and_suffix_stand_around_each_text(tmp_path):
    tokenizer = BPETokenizer(BPE.vocab, BPE.merges, "gpt2", [END, "<s>"], prefix_tokens=["<s>"], suffix_tokens=[END])
    assert tokenizer.encode("the") == [tokenizer.special_tokens["<s>"], *BPE.encode("the"), 0]
    assert tokenizer.encode("the", add_special_tokens=False) == BPE.encode("the")
    tokenizer.save(tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path).encode("the") == tokenizer.encode("the")


def test_added_tokens_survive_skip_special_tokens(tmp_path):
    tokenizer = BPETokenizer(BPE.vocab, BPE.merges, "gpt2", [END], added_tokens=["<tool>"])
    tokenizer.save(tmp_path / "tokenizer.json")
    for each in (tokenizer, load_tokenizer(tmp_path)):
        assert each.encode("<tool>") == [300]
        assert each.decode([0, 300], skip_special_tokens=True) == "<tool>"


# --- training and merging ---


def naive_merges(words: dict[tuple[int, ...], int], tokens: list[str], vocab_size: int) -> list[tuple[int, int]]:
    """The definition of byte-pair encoding, with a recount at every merge."""
    counted, merges = dict(words), []
    while len(tokens) < vocab_size:
        counts: Counter[tuple[int, int]] = Counter()
        for word, n in counted.items():
            for pair in pairwise(word):
                counts[pair] += n
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        tokens.append(f"{tokens[best[0]]}.{tokens[best[1]]}")  # the dot keeps all spellings different
        counted = {tuple(merge_word(list(word), best, len(tokens) - 1)[0]): n for word, n in counted.items()}
    return merges


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), max_size=8), st.integers(3, 10))
def test_incremental_counts_equal_a_recount_at_every_merge(lists, vocab_size):
    words = Counter(map(tuple, lists))
    expected = naive_merges(words, ["a", "b", "c"], vocab_size)
    dotted = [_Dotted("a"), _Dotted("b"), _Dotted("c")]
    assert learn_merges(words, dotted, vocab_size) == expected


class _Dotted(str):
    """A spelling that remembers how it was put together, so that no two merges share one."""

    __slots__ = ()

    def __add__(self, other: str) -> _Dotted:
        return _Dotted(f"({self}.{other})")


def test_ties_go_to_the_lowest_pair_of_ids():
    assert learn_merges({(1, 2): 3, (0, 2): 3, (0, 1): 3}, ["a", "b", "c"], 6) == [(0, 1), (0, 2), (1, 2)]


def test_a_merge_that_spells_a_special_token_takes_its_id():
    tokens = ["a", "b", "ab"]
    assert learn_merges({(0, 1, 0, 1): 5, (0, 1, 0): 1}, tokens, 5) == [(0, 1), (2, 2), (2, 0)]
    assert tokens == ["a", "b", "ab", "abab", "aba"]


@given(st.lists(st.integers(0, 3), max_size=40))
def test_short_and_long_merging_agree(ids):
    rank = {pair: n for n, pair in enumerate([(0, 1), (4, 0), (1, 1), (2, 3), (6, 6), (0, 0), (5, 7), (8, 4), (4, 4)])}
    merged = list(range(4, 13))
    assert _merge_long(list(ids), rank, merged) == _merge_short(list(ids), rank, merged)


def test_a_megabyte_without_a_space_takes_no_quadratic_time():
    ids = BPE.encode("thea" * 250_000)
    assert BPE.decode(ids) == "thea" * 250_000


def test_training_ends_when_nothing_is_left_to_merge():
    tokenizer = BPETokenizer.train("ab", 1000)
    assert (tokenizer.vocab_size, tokenizer.merges) == (257, [("a", "b")])
    assert BPETokenizer.train("", 300).vocab_size == 256
    assert BPETokenizer.train(["ab ab", "abc"], 1000, min_frequency=3).merges == [("a", "b")]


def test_the_cache_of_pieces_is_bounded(monkeypatch):
    tokenizer = BPETokenizer.train(TEXT, 290)
    monkeypatch.setattr(type(tokenizer._pieces), "max_entries", 10)
    for n in range(100):
        tokenizer.encode(f"word{n} " * 3)
        assert len(tokenizer._pieces) <= 10
    tokenizer.encode("x" * 1000)
    assert "x" * 1000 not in tokenizer._pieces


# --- streaming ---


@pytest.mark.parametrize("tokenizer", EACH, ids=repr)
def test_stream_prints_no_half_characters(tokenizer):
    decoder = StreamDecoder(tokenizer)
    parts = [decoder.feed(i) for i in tokenizer.encode(TEXT)]
    assert "".join(parts) == TEXT
    assert decoder.finish() == ""


@given(st.lists(st.integers(0, 255)))
def test_stream_of_any_bytes_equals_decode(ids):
    decoder = StreamDecoder(ByteTokenizer())
    assert "".join(map(decoder.feed, ids)) + decoder.finish() == ByteTokenizer().decode(ids)


def test_stream_can_leave_special_tokens_out():
    decoder = StreamDecoder(BPE, skip_special_tokens=True)
    assert "".join(map(decoder.feed, [0, *BPE.encode("the"), 0])) == "the"


# --- the report ---


def test_report_counts_what_the_vocabulary_costs():
    report = compression_report(BPE, TEXT, n_embd=64)
    ids = BPE.encode(TEXT)
    assert report.bytes_per_token == len(TEXT.encode()) / len(ids)
    assert report.vocab_use == len(set(ids)) / 300
    assert (report.embedding_parameters, report.embedding_bytes) == (300 * 64, 300 * 64 * 4)
    assert report.bytes_per_token > compression_report(ByteTokenizer(), TEXT).bytes_per_token == 1
    with pytest.raises(TokenizerError, match="empty"):
        compression_report(BPE, "")


# --- bad input ---


@pytest.mark.parametrize(
    ("tokenizer", "size"), [(ByteTokenizer(), 256), (BPE, 300), (CharTokenizer("ab"), 2)], ids=repr
)
@pytest.mark.parametrize("bad", [-1, 300, 10**20])
def test_an_id_outside_the_vocabulary_names_id_and_size(tokenizer, size, bad):
    with pytest.raises(TokenizerError) as error:
        tokenizer.decode([0, bad])
    assert one_line(error) == f"id {bad} is outside the vocabulary (size {size}, ids 0 to {size - 1})"


@pytest.mark.parametrize("bad", [[1.0], ["a"], [[1]], 5, np.array([1.5]), np.array([[1]]), None])
def test_ids_that_are_no_flat_integers(bad):
    with pytest.raises(TokenizerError) as error:
        BPE.decode(bad)
    assert "flat sequence of integers" in one_line(error)


@pytest.mark.parametrize("tokenizer", EACH, ids=repr)
def test_lone_surrogates_are_named(tokenizer):
    with pytest.raises(TokenizerError) as error:
        tokenizer.encode("the\ud800the")
    assert "U+D800 at index 3" in one_line(error)


@pytest.mark.parametrize("tokenizer", EACH, ids=repr)
@pytest.mark.parametrize("bad", [b"the", None, 5])
def test_what_is_no_text(tokenizer, bad):
    with pytest.raises(TokenizerError) as error:
        tokenizer.encode(bad)
    assert f"got {type(bad).__name__}" in one_line(error)


def test_a_batch_that_is_one_text():
    with pytest.raises(TokenizerError, match="use encode"):
        BPE.encode_batch("the")


def test_unseen_characters_are_named_with_what_to_do():
    with pytest.raises(TokenizerError) as error:
        CharTokenizer("abc").encode("abc\nxyzüvw")
    assert one_line(error) == (
        "CharTokenizer: '\\n', 'v', 'w', 'x', 'y' and 2 more not among the 3 characters of the vocabulary;"
        " build it from text that has them, or use ByteTokenizer or BPETokenizer, which take any text"
    )


@pytest.mark.parametrize("bad", ["", [], ["ab"], ["a", "a"], ["a", ""], ["\ud800"]])
def test_a_vocabulary_of_characters_that_is_none(bad):
    with pytest.raises(TokenizerError) as error:
        CharTokenizer(bad)
    one_line(error)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int8])
def test_a_dtype_too_small_for_the_ids(dtype):
    with pytest.raises(TokenizerError) as error:
        BPE.encode_to_array("the", dtype)
    assert "ids up to 299" in one_line(error)


def test_special_tokens_out_of_a_generator():
    tokenizer = BPETokenizer.train(TEXT, 300, special_tokens=(token for token in [END]))
    assert tokenizer.special_tokens == {END: 0}
    again = BPETokenizer(tokenizer.vocab, tokenizer.merges, special_tokens=iter([END]), prefix_tokens=iter([END]))
    assert again.encode("the") == [0, *tokenizer.encode("the")]


def test_sets_with_brackets_that_are_escaped_are_plain(tmp_path):
    pattern = r"[!\[\]&^[:alpha:]]+|\[|&&|\s"
    tokenizer = BPETokenizer.train(TEXT, 300, pattern=pattern)
    tokenizer.save(tmp_path / "t.json")
    assert load_tokenizer(tmp_path / "t.json").pattern == pattern


def test_lines_have_ends():
    """As for the engine of `tokenizers`."""
    assert splitting.splitter(r"\s+$|^a")("a \nb  \nac") == ["a", " ", "\nb", "  ", "\n", "a", "c"]


def test_a_vocabulary_of_characters_is_text():
    with pytest.raises(TokenizerError, match="got int"):
        CharTokenizer([1, 2])


def test_training_that_cannot_work():
    for arguments, words in [
        ({"vocab_size": 255}, "less than 256 bytes"),
        ({"vocab_size": 256, "special_tokens": [END]}, "1 special tokens"),
        ({"vocab_size": 300, "pattern": "(["}, "not a regular expression"),
        ({"vocab_size": 300, "pattern": 5}, "pattern is a text or a list of texts or None, got 5"),
        ({"vocab_size": 300, "special_tokens": END}, "special_tokens is a list of texts"),
        ({"vocab_size": 300, "special_tokens": [""]}, "one character or more"),
        ({"vocab_size": 300, "special_tokens": ["é"]}, "rename it"),
    ]:
        with pytest.raises((DTypeError, TokenizerError), match=words) as error:
            BPETokenizer.train(TEXT, **arguments)
        one_line(error)
    with pytest.raises(DTypeError, match="texts is a text or a list of texts"):
        BPETokenizer.train([b"the"], 300)


def saved(tmp_path, change):
    """The path of BPE's file after `change` did something to its JSON object."""
    path = tmp_path / "tokenizer.json"
    BPE.save(path)
    data = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(change(data) or data), "utf-8")
    return path


def put(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(data):
        for key in keys:
            data = data[key]
        data[last] = value

    return change


def split_by(pattern):
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, {**BPE_LEVEL, "use_regex": False}]}


BEGINNING = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": END, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
}
BPE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("model", {"type": "WordPiece"}), "holds a WordPiece model"),
        (put("model", None), "not a tokenizer.json"),
        (lambda data: [data], "holds a JSON list"),
        (put("model", "vocab", []), "must be an object"),
        (put("model", "vocab", "the", "5"), "the id '5'"),
        (put("model", "vocab", "th", True), "the id True"),
        (put("model", "vocab", "th", 10**300), "expected 0 to 4294967295"),
        (put("model", "vocab", "th", 5), "share the id 5"),
        (put("model", "vocab", "▁the", 300), "not in the byte alphabet"),
        (put("model", "vocab", {"a": 1, END: 0}), "no token for 242 bytes"),
        (put("model", "merges", 3), "model.merges must be a list"),
        (put("model", "merges", 0, "t h e"), "merge 0 is 't h e', expected two tokens"),
        (put("model", "merges", 3, ["t", 5]), "merge 3"),
        (put("model", "merges", 2, "q z"), r"merge 2 \('q', 'z'\) needs token 'qz'"),
        (put("model", "dropout", 0.1), "model.dropout is 0.1"),
        (put("model", "new_trick", 2), "model.'new_trick' is 2, an unknown setting"),
        (put("new_part", {"a": 1}), "'new_part' is {'a': 1}, an unknown setting"),
        (put("decoder", {"type": "WordPiece"}), "decoder WordPiece is not byte-level BPE's"),
        (put("model", "byte_fallback", True), "model.byte_fallback"),
        (put("normalizer", {"type": "Lowercase"}), "normalizer Lowercase changes the text"),
        (put("normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFD"}]}), "NFC . NFD"),
        (put("normalizer", {"type": "Sequence"}), "normalizer Sequence has no list of normalizers"),
        (put("pre_tokenizer", split_by(r" ?[^(\s|[.,!?])]+")), "sets within sets"),  # BLOOM's
        (put("pre_tokenizer", split_by(r"\[|[\p{L}&&[^a]]")), "sets within sets"),
        (put("truncation", {"max_length": 2}), "truncation is .* changes the ids"),
        (put("padding", {"pad_id": 0}), "padding is .* changes the ids"),
        (put("model", "ignore_merges", 1), "model.ignore_merges is 1, expected true or false"),
        (put("post_processor", {**BEGINNING, "special_tokens": {END: {"id": END, "ids": [5]}}}), "different ids"),
        (put("post_processor", {**BEGINNING, "special_tokens": None}), "different ids"),
        (put("pre_tokenizer", None), "pre_tokenizer nothing"),
        (put("pre_tokenizer", {"type": "Metaspace"}), "pre_tokenizer Metaspace"),
        (put("pre_tokenizer", "add_prefix_space", 1), "add_prefix_space or use_regex that is not a boolean"),
        (put("pre_tokenizer", "new_trick", True), "pre_tokenizer ByteLevel 'new_trick' is True"),
        (
            put("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel"}]}),
            "add_prefix_space after a Split",
        ),
        (
            put("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "Split"}, BPE_LEVEL]}),
            "Split needs a Regex or String pattern",
        ),
        (put("added_tokens", {}), "must be a list"),
        (put("added_tokens", 5), "must be a list"),
        (put("added_tokens", [{"id": 0}]), "no integer id"),
        (put("added_tokens", 0, "id", 7), "has id 7, but"),
        (put("added_tokens", 0, "lstrip", 1), "has lstrip 1, expected a boolean"),
        (put("added_tokens", 0, "content", "\ud800"), "surrogate"),
        (put("post_processor", {"type": "RobertaProcessing"}), "post_processor RobertaProcessing"),
        (put("post_processor", {"type": "TemplateProcessing", "single": []}), "must contain the text exactly once"),
    ],
)
def test_a_tokenizer_json_that_cannot_be_honoured(tmp_path, change, words):
    path = saved(tmp_path, change)
    with pytest.raises(TokenizerError, match=words) as error:
        load_tokenizer(path)
    assert str(path) in one_line(error)


@pytest.mark.parametrize("expression", ["([", "a{1001}", "(?:a{40}){40}", "a{2,}{900}", "x" * 5000, "(" * 3000])
def test_a_pattern_from_a_file_is_bounded(tmp_path, expression):
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    steps = [split, {**BPE_LEVEL, "use_regex": False}]
    path = saved(tmp_path, put("pre_tokenizer", {"type": "Sequence", "pretokenizers": steps}))
    with pytest.raises(TokenizerError) as error:
        load_tokenizer(path)
    assert "pattern" in one_line(error)


def test_a_pattern_that_backtracks_is_stopped(monkeypatch):
    tokenizer = BPETokenizer(BPE.vocab, BPE.merges, "(?:a|aa)+b|(?:a|b|ab)*c")
    monkeypatch.setattr(splitting, "SECONDS", 0.1)
    with pytest.raises(TokenizerError, match="it backtracks") as error:
        tokenizer.encode("a" * 200)
    one_line(error)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a": \xff}', "not UTF-8: byte 0xff at offset 6"),
        (b"[" * 200_000, "not JSON"),
        (b"1" * 10_000, "not JSON that can be read"),
        (b"{}", "not a tokenizer.json"),
        (b"\x00\x01", "not JSON"),
    ],
)
def test_a_file_that_is_no_json_object(tmp_path, data, words):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(data)
    for load in (load_tokenizer, BPETokenizer.load, ByteTokenizer.load, CharTokenizer.load):
        with pytest.raises(TokenizerError, match=words) as error:
            load(path)
        assert str(path) in one_line(error)


def test_files_of_another_kind_or_not_there(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(FileError, match="cannot read"):
        load_tokenizer(tmp_path)
    CharTokenizer("abc").save(path)
    for kind in (BPETokenizer, ByteTokenizer):
        with pytest.raises(TokenizerError, match="holds a WordLevel model"):
            kind.load(path)
    BPE.save(path)
    with pytest.raises(TokenizerError, match="not plain bytes"):
        ByteTokenizer.load(path)
    with pytest.raises(FileError, match="cannot write"):
        BPE.save(tmp_path / "no" / "such" / "folder.json")


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_gpt2_files(tmp_path, names):
    vocab, merges = (tmp_path / name for name in names)
    vocab.write_text(json.dumps(BPE.vocab), "utf-8")
    merges.write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in BPE.merges), "utf-8")
    for tokenizer in (BPETokenizer.from_gpt2(vocab, merges, [END]), BPETokenizer.from_gpt2(vocab, merges)):
        assert tokenizer.encode(TEXT) == BPE.encode(TEXT)
    assert load_tokenizer(tmp_path).special_tokens == {"<|endoftext|>": 300}
    merges.write_text("#version: 0.2\nt h\nth\n", "utf-8")
    with pytest.raises(TokenizerError, match="line 3 is 'th', expected two tokens") as error:
        load_tokenizer(tmp_path)
    one_line(error)
    merges.write_text("q z\n", "utf-8")
    with pytest.raises(TokenizerError, match=r"needs token 'qz'"):
        load_tokenizer(tmp_path)


# --- added tokens, normalizers, gaps: the ids that the `tokenizers` library gives (tests/parity compares more)


def spelt(tokenizer, text, **options):
    return [tokenizer.decode([i]) for i in tokenizer.encode(text, **options)]


def with_tokens(special=(), added=(), **options):
    return BPETokenizer(BYTES.vocab, [], "gpt2", special, added, **options)


BYTES = BPETokenizer.train("", 256)


def test_tokens_that_are_not_normalized_are_found_first(tmp_path):
    tokenizer = with_tokens(special=["bc"], added=["ab"])
    assert spelt(tokenizer, "abc") == ["a", "bc"]
    assert spelt(tokenizer, "abab") == ["ab", "ab"]
    tokenizer.save(tmp_path / "tokenizer.json")
    assert spelt(load_tokenizer(tmp_path), "abc") == ["a", "bc"]
    entries = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    assert [(e["content"], e["normalized"], e["special"]) for e in entries] == [
        ("bc", False, True),
        ("ab", True, False),
    ]


@pytest.mark.parametrize(
    ("token", "text", "expected"),
    [
        (AddedToken("[M]", lstrip=True), "a  [M] b", ["a", "[M]", " ", "b"]),
        (AddedToken("[M]", rstrip=True), "a  [M]\n b", ["a", " ", " ", "[M]", "b"]),
        (AddedToken("[M]", lstrip=True, rstrip=True), " [M] [M] ", ["[M]", "[M]"]),
        (AddedToken("ab", single_word=True), "ab abc, ab", ["ab", " ", "a", "b", "c", ",", " ", "ab"]),
        (AddedToken("ab", single_word=True), "_ab ab\u0301 -ab", None),
    ],
)
def test_options_of_added_tokens(tmp_path, token, text, expected):
    tokenizer = with_tokens(added=[token])
    if expected is None:  # an underscore and a combining accent belong to words
        assert [i for i in tokenizer.encode(text) if i >= 256] == [256]
    else:
        assert spelt(tokenizer, text) == expected
    tokenizer.save(tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path).encode(text) == tokenizer.encode(text)


def test_a_normalizer_brings_texts_to_one_form(tmp_path):
    tokenizer = with_tokens(special=["e\u0301"], added=["o\u0308"], normalizer="NFC")
    assert tokenizer.encode("n\u0303") == tokenizer.encode("\xf1") == with_tokens().encode("\xf1")
    assert tokenizer.encode("e\u0301") == [256]  # looked for before
    assert tokenizer.encode("\xe9") == with_tokens().encode("\xe9")
    assert tokenizer.encode("o\u0308") == tokenizer.encode("\xf6") == [257]  # normalized itself, and looked for after
    assert tokenizer.encode("e\u0301", allow_special=False) == with_tokens().encode("\xe9")
    tokenizer.save(tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path).encode("n\u0303o\u0308") == tokenizer.encode("n\u0303o\u0308")
    with pytest.raises(TokenizerError, match="normalizer is 'Lowercase', expected None or one of NFC"):
        with_tokens(normalizer="Lowercase")


def test_a_space_in_front(tmp_path):
    tokenizer = with_tokens(special=["<s>"], add_prefix_space=True)
    assert tokenizer.decode(tokenizer.encode("a<s>b<s> c")) == " a<s> b<s> c"
    assert tokenizer.encode("") == []
    tokenizer.save(tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path).encode("a<s>b") == tokenizer.encode("a<s>b")
    with pytest.raises(TokenizerError, match="add_prefix_space goes with pattern gpt2 or None, got 'llama3'"):
        BPETokenizer(BPE.vocab, BPE.merges, "llama3", add_prefix_space=True)


def test_several_patterns_split_one_after_the_other(tmp_path):
    tokenizer = BPETokenizer.train("1234 1234 abcd abcd", 262, pattern=[r"\p{N}", "gpt2"])
    assert spelt(tokenizer, "12 ab") == ["1", "2", " ab"]
    tokenizer.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path)
    assert again.pattern == tokenizer.pattern
    assert again.encode("12 ab 34") == tokenizer.encode("12 ab 34")


def test_steps_of_a_tokenizer_json_become_patterns(tmp_path):
    space = {"type": "Split", "pattern": {"String": "."}, "behavior": "Isolated", "invert": True}
    inner = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, space]}
    path = saved(tmp_path, put("pre_tokenizer", {"type": "Sequence", "pretokenizers": [inner, BPE_LEVEL]}))
    assert load_tokenizer(path).pattern == [r"\p{N}", r"\.", PATTERNS["gpt2"]]


def test_ids_may_have_gaps(tmp_path):
    vocab = {token: 3 * i for token, i in BYTES.vocab.items()}
    tokenizer = BPETokenizer(vocab, [], special_tokens=[END])
    assert tokenizer.vocab_size == 767
    assert tokenizer.encode("!" + END) == [vocab["!"], 766]
    assert tokenizer.decode(tokenizer.encode("é€")) == "é€"
    assert tokenizer.known_ids(768).nonzero()[0].tolist() == [*range(0, 768, 3), 766]
    tokenizer.save(tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path).encode("a" + END) == tokenizer.encode("a" + END)
    with pytest.raises(TokenizerError, match="id 1 has no token"):
        tokenizer.decode([1])
    with pytest.raises(TokenizerError, match="id 767 is outside the vocabulary"):
        tokenizer.decode([767])


def test_letters_that_spell_bytes_which_no_text_holds(tmp_path):
    """DeepSeek's vocabulary leaves these 13 bytes out and adds their letters as tokens."""
    letters = [chr(byte) for byte in (0xC0, 0xC1, *range(0xF5, 0x100))]
    vocab = {token: i for i, token in enumerate(token for token in BYTES.vocab if token not in letters)}
    tokenizer = BPETokenizer(vocab, [], added_tokens=letters)
    assert tokenizer.vocab_size == 256
    assert tokenizer.encode("õ") == [len(vocab) + letters.index("õ")]
    assert tokenizer.decode(tokenizer.encode("naÿ õÁ é")) == "naÿ õÁ é"
    assert tokenizer.decode(tokenizer.encode("õ", allow_special=False)) == "õ"
    assert spelt(with_tokens(added=["õ"]), "õ") == ["õ"]
    tokenizer.save(tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path).encode("naÿ é") == tokenizer.encode("naÿ é")


def test_files_may_begin_with_a_byte_order_mark(tmp_path):
    merges = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in BPE.merges)
    (tmp_path / "vocab.json").write_text(json.dumps(BPE.vocab), encoding="utf-8-sig")
    (tmp_path / "merges.txt").write_text(merges, encoding="utf-8-sig")
    assert load_tokenizer(tmp_path).encode(TEXT) == BPETokenizer(BPE.vocab, BPE.merges).encode(TEXT)
    (tmp_path / "added_tokens.json").write_text('{"<x>": 300}', encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"added_tokens\.json is not read"):
        load_tokenizer(tmp_path)
