"""Tokenizers against the `tokenizers` library: same ids, same merges, files that each reads from the other.

Set TT_DATA_HOME to a folder with gpt2/ (encoder.json, vocab.bpe) and tinyshakespeare/ (input.txt) for the
tests on real files; without it they are skipped. `regex` and `tokenizers` may be built for different versions of
Unicode; the random strings hold only assigned characters that both classify alike.
"""

from __future__ import annotations

import functools
import json
import os
import random
import unicodedata
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import regex

from tt_language.tokenization import PATTERNS, BPETokenizer, ByteTokenizer, CharTokenizer, load_tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is not installed")
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers  # noqa: E402

DATA = Path(os.environ.get("TT_DATA_HOME", "no-such-folder"))
END = "<|endoftext|>"


def data_file(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not there; set TT_DATA_HOME to the folder that holds it")
    return DATA / name


def letters_and_numbers(characters: list[str], kind: str) -> tuple[set[str], set[str]]:
    """The characters that are of a kind to `regex`, and those that are to `tokenizers`."""
    others = pre_tokenizers.Split(tokenizers.Regex(kind), "removed").pre_tokenize_str("".join(characters))
    theirs = set(characters).difference(*(piece for piece, _ in others))
    return set(regex.findall(kind, "".join(characters))), theirs


@functools.cache
def known_characters() -> list[str]:
    known = [chr(i) for i in range(0x110000) if unicodedata.category(chr(i)) not in ("Cn", "Cs")]
    for kind in (r"\p{L}", r"\p{N}", r"\s"):
        ours, theirs = letters_and_numbers(known, kind)
        known = [c for c in known if (c in ours) == (c in theirs)]
    assert len(known) > 270_000  # 138,000 of them for private use
    return known


def random_strings(count: int, seed: int = 0) -> list[str]:
    """Texts that mix words, runs of spaces, and characters of every assigned kind."""
    rng = random.Random(seed)
    assigned = known_characters()
    near = [chr(i) for i in range(0x20, 0x250)] + list("\t\n\r\x0b\x0c\x1c\x85\xa0\u2003\u2028\u3000'’") * 4
    words = [
        "the",
        " the",
        "it's",
        "I'LL",
        "we've",
        " 2024",
        "12345",
        "  ",
        "\n\n",
        " don't",
        "naïve",
        "日本",
        "🙂🏽",
        END,
    ]
    kinds = [lambda: rng.choice(assigned), lambda: rng.choice(near), lambda: rng.choice(words)]
    return ["".join(rng.choice(kinds)() for _ in range(rng.randrange(1, 30))) for _ in range(count)]


def gpt2_pair() -> tuple[BPETokenizer, Any]:
    encoder, merges = data_file("gpt2/encoder.json"), data_file("gpt2/vocab.bpe")
    vocab = json.loads(encoder.read_text("utf-8"))
    pairs = [tuple(line.split(" ")) for line in merges.read_text("utf-8").split("\n")[1:] if line]
    theirs = tokenizers.Tokenizer(models.BPE(vocab, pairs))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = decoders.ByteLevel()
    theirs.add_special_tokens([END])
    return BPETokenizer.from_gpt2(encoder, merges), theirs


def trained_pair(texts: list[str], vocab_size: int, pattern: str | None, special: list[str], min_frequency: int = 0):
    ours = BPETokenizer.train(texts, vocab_size, pattern, special, min_frequency)
    theirs = tokenizers.Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern == "gpt2")
    if pattern in (None, "gpt2"):
        theirs.pre_tokenizer = byte_level
    else:
        split = pre_tokenizers.Split(tokenizers.Regex(PATTERNS[pattern]), "isolated")
        theirs.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    theirs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator(texts, trainer)
    return ours, theirs


def learnt_merges(theirs: Any) -> list[tuple[str, str]]:
    merges = json.loads(theirs.to_str())["model"]["merges"]
    return [tuple(m.split(" ") if isinstance(m, str) else m) for m in merges]


def babble() -> list[str]:
    """Few letters in long words: many ties, many overlaps (aaaa)."""
    rng = random.Random(7)
    return [" ".join("".join(rng.choice("aab") for _ in range(rng.randrange(1, 24))) for _ in range(4000))]


def corpus(name: str) -> list[str]:
    if name == "tiny Shakespeare":
        return [data_file("tinyshakespeare/input.txt").read_text("utf-8")]
    return {
        "Python's manual": list(topics.values()),
        "babble": babble(),
        "unicode": random_strings(4000, seed=3),
    }[name]


@pytest.mark.parametrize(
    ("name", "pattern", "vocab_size"),
    [
        ("tiny Shakespeare", "gpt2", 8000),
        ("Python's manual", "gpt2", 6000),
        ("Python's manual", "llama3", 3000),
        ("Python's manual", None, 400),
        ("babble", "gpt2", 2500),
        ("unicode", "gpt2", 3000),
    ],
)
def test_training_learns_the_same_vocabulary(name, pattern, vocab_size):
    texts = corpus(name)
    ours, theirs = trained_pair(texts, vocab_size, pattern, [END, "<|pad|>"])
    assert ours.merges == learnt_merges(theirs)
    assert ours.vocab == theirs.get_vocab()
    sample = "".join(texts)[:20_000]
    assert ours.encode(sample) == theirs.encode(sample, add_special_tokens=False).ids


def test_a_merge_that_spells_a_special_token_shares_its_id_in_both():
    ours, theirs = trained_pair(list(topics.values()), 1000, "gpt2", ["the", "re", END])
    assert ours.merges == learnt_merges(theirs)
    assert len(ours.merges) > 1000 - 256 - 3
    assert ours.encode("where there") == theirs.encode("where there").ids


def test_training_stops_at_the_same_frequency():
    ours, theirs = trained_pair(list(topics.values()), 50_000, "gpt2", [], min_frequency=20)
    assert ours.merges == learnt_merges(theirs)
    assert 256 < ours.vocab_size < 50_000


def test_gpt2_ids_of_100_000_random_strings():
    ours, theirs = gpt2_pair()
    texts = random_strings(100_000)
    for text, encoding in zip(texts, theirs.encode_batch(texts, add_special_tokens=False)):
        assert ours.encode(text) == encoding.ids, ascii(text)


def test_gpt2_ids_and_text_of_all_of_tiny_shakespeare():
    ours, theirs = gpt2_pair()
    text = data_file("tinyshakespeare/input.txt").read_text("utf-8")
    ids = theirs.encode(text).ids
    assert ours.encode(text) == ids
    assert ours.decode(ids) == text


def test_ids_decode_to_the_same_text_even_where_they_are_no_utf8():
    ours, theirs = gpt2_pair()
    rng = random.Random(1)
    for _ in range(2000):
        ids = [rng.randrange(ours.vocab_size) for _ in range(rng.randrange(12))]
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids)


@pytest.mark.parametrize("pattern", ["gpt2", "llama3", None])
def test_files_mean_the_same_to_both(tmp_path, pattern):
    ours, theirs = trained_pair(list(topics.values())[:40], 900, pattern, [END])
    ours.save(tmp_path / "ours.json")
    theirs.save(str(tmp_path / "theirs.json"))
    read_by_them = tokenizers.Tokenizer.from_file(str(tmp_path / "ours.json"))
    read_by_us = load_tokenizer(tmp_path / "theirs.json")
    for text in random_strings(1000, seed=5):
        ids = ours.encode(text)
        assert read_by_them.encode(text).ids == ids, ascii(text)
        assert read_by_us.encode(text) == ids, ascii(text)
        assert read_by_them.decode(ids, skip_special_tokens=False) == text


def test_a_template_puts_the_same_tokens_around(tmp_path):
    plain = BPETokenizer.train("low lower lowest", 262, special_tokens=["<s>", "</s>"])
    ours = BPETokenizer(
        plain.vocab,
        plain.merges,
        None,
        ["<s>", "</s>"],
        ["<tool>"],
        prefix_tokens=["<s>"],
        suffix_tokens=["</s>"],
    )
    ours.save(tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("slow", "", "lower</s>low<tool>"):
        assert theirs.encode(text).ids == ours.encode(text) == load_tokenizer(tmp_path).encode(text)
        assert theirs.encode(text, add_special_tokens=False).ids == ours.encode(text, add_special_tokens=False)
        assert theirs.decode(ours.encode(text)) == ours.decode(ours.encode(text), skip_special_tokens=True)


def test_whole_pieces_win_over_merges_where_asked(tmp_path):
    plain = BPETokenizer.train("low lower lowest", 262)
    vocab = {**plain.vocab, "Ġslow": plain.vocab_size}  # a token that no merge makes, as Llama 3 has some
    ours = BPETokenizer(vocab, plain.merges, "llama3", ignore_merges=True)
    ours.save(tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert ours.encode("slow slow") == theirs.encode("slow slow").ids
    assert ours.encode(" slow") == [plain.vocab_size]


def test_characters_and_bytes_are_read_by_the_library_too(tmp_path):
    text = "Ünï\n\ncode 🙂\t."
    for ours in (CharTokenizer(text), ByteTokenizer()):
        ours.save(tmp_path / "tokenizer.json")
        theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        assert theirs.encode(text).ids == ours.encode(text)
        assert theirs.decode(ours.encode(text)) == text
        assert theirs.get_vocab_size() == ours.vocab_size


# --- what published tokenizers have beside merges: built here, written by the library, read by ours


def built(normalizer: Any = None, steps: Any = (), missing: str = "", **byte_level: Any) -> Any:
    """A trained byte-level BPE tokenizer of the library; `missing` letters are left out of its vocabulary."""
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(**{"add_prefix_space": False, "use_regex": not steps, **byte_level})]
    )
    alphabet = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(missing))
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    theirs.train_from_iterator(list(topics.values())[:30], trainer)
    if normalizer is not None:
        theirs.normalizer = normalizer
    theirs.decoder = decoders.ByteLevel()
    return theirs


def same_ids(theirs: Any, folder: Path, texts: list[str]) -> BPETokenizer:
    """Checks that our tokenizer read from their file, and theirs read from ours, give their ids."""
    theirs.save(str(folder / "theirs.json"))
    ours = load_tokenizer(folder / "theirs.json")
    assert isinstance(ours, BPETokenizer)
    ours.save(folder / "ours.json")
    again = tokenizers.Tokenizer.from_file(str(folder / "ours.json"))
    for text in texts:
        expected = theirs.encode(text).ids
        assert ours.encode(text) == expected, ascii(text)
        assert again.encode(text).ids == expected, ascii(text)
    return ours


def texts_around(words: list[str], count: int = 1500, seed: int = 0) -> list[str]:
    """Texts made of tokens, their neighbours, spaces and other characters."""
    rng = random.Random(seed)
    others = [" ", "  ", "\n", "\t", "a", "b", "ab", "abc", "_", "-", ".", "é", "e\u0301", "\u0301", "o\u0308", "1",
              "٣", "日本", "\u2003", "\xa0", "the"]  # fmt: skip
    return ["", " ", *("".join(rng.choice(words + others) for _ in range(rng.randrange(1, 12))) for _ in range(count))]


def test_added_tokens_are_found_in_the_same_order(tmp_path: Path) -> None:
    theirs = built()
    theirs.add_tokens(["ab", "<tool>", "cab"])
    theirs.add_special_tokens(["bc", "<|end|>", "<|end|>x"])
    texts = texts_around(["ab", "bc", "c", "<tool>", "<|end|>", "x", "ca"])
    ours = same_ids(theirs, tmp_path, ["abc", *texts])
    assert [ours.decode([i]) for i in ours.encode("abc")] == ["a", "bc"]
    for text in texts[:200]:
        ids = ours.encode(text)
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("flags", [("lstrip",), ("rstrip",), ("lstrip", "rstrip"), ("single_word",),
                                   ("single_word", "lstrip", "rstrip")])  # fmt: skip
def test_options_of_added_tokens(flags: tuple[str, ...], normalized: bool, tmp_path: Path) -> None:
    theirs = built(normalizers.NFC() if normalized else None)
    options = {"normalized": normalized, **dict.fromkeys(flags, True)}
    theirs.add_special_tokens([tokenizers.AddedToken("<mask>", **options)])
    theirs.add_tokens([tokenizers.AddedToken("ab", **options), tokenizers.AddedToken("e\u0301", **options), "<plain>"])
    same_ids(theirs, tmp_path, texts_around(["<mask>", "<plain>", "ab"]))


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_unicode_forms(form: str, tmp_path: Path) -> None:
    theirs = built(getattr(normalizers, form)())
    theirs.add_tokens(["e\u0301", "ﬁ"])
    same_ids(theirs, tmp_path, texts_around(["ﬁ", "①", "가", "\u1100\u1161", "Å", "\u212b"]))


def test_an_empty_sequence_of_normalizers(tmp_path: Path) -> None:
    same_ids(built(normalizers.Sequence([])), tmp_path, texts_around([]))


@pytest.mark.parametrize("use_regex", [False, True])
def test_a_space_in_front(use_regex: bool, tmp_path: Path) -> None:
    theirs = built(add_prefix_space=True, use_regex=use_regex)
    theirs.add_special_tokens(["<s>"])
    texts = texts_around(["<s>"])
    ours = same_ids(theirs, tmp_path, texts)
    for text in texts[:200]:
        assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text).ids, skip_special_tokens=False)


QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"]


def splits(*patterns: Any, invert: bool = False) -> list[Any]:
    return [
        pre_tokenizers.Split(tokenizers.Regex(pattern) if isinstance(pattern, str) else pattern[0], "isolated", invert)
        for pattern in patterns
    ]


STEPS: dict[str, list[Any]] = {
    "qwen": splits(QWEN),
    "deepseek-coder": [*splits(*DEEPSEEK), pre_tokenizers.Digits(individual_digits=True)],
    "digits": [pre_tokenizers.Digits(individual_digits=False)],
    "string": splits([" "], ["."]),
    "inverted": splits(r"\p{L}+", r"\d", invert=True),
}


@pytest.mark.parametrize("use_regex", [False, True])
@pytest.mark.parametrize("steps", STEPS)
def test_several_steps_before_the_bytes(steps: str, use_regex: bool, tmp_path: Path) -> None:
    same_ids(
        built(steps=STEPS[steps], use_regex=use_regex), tmp_path, [*texts_around([]), *random_strings(300, seed=8)]
    )


def test_letters_for_bytes_that_no_text_holds(tmp_path: Path) -> None:
    """As in DeepSeek-Coder: the 13 bytes are not in the vocabulary, their letters are added tokens."""
    letters = "".join(chr(byte) for byte in (0xC0, 0xC1, *range(0xF5, 0x100)))
    theirs = built(steps=STEPS["deepseek-coder"], missing=letters)
    theirs.add_tokens(list(letters))
    texts = texts_around([*letters, "né", "naïve"])
    ours = same_ids(theirs, tmp_path, texts)
    assert theirs.decode(theirs.encode("õ").ids) == "\ufffd"  # ours gives the text back: docs/deviations.md
    assert all(ours.decode(ours.encode(text)) == text for text in texts)


def test_gaps_between_ids(tmp_path: Path) -> None:
    data = json.loads(built().to_str())
    data["model"]["vocab"] = {token: 2 * i for token, i in data["model"]["vocab"].items()}
    theirs = tokenizers.Tokenizer.from_str(json.dumps(data))
    ours = same_ids(theirs, tmp_path, texts_around([]))
    assert ours.vocab_size == 2 * theirs.get_vocab_size() - 1
