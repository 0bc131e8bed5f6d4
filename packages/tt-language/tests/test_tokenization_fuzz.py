"""Module 10 under random input: strings by the thousand come back whole, and damaged files never raise
anything but the package's own error. The full counts run with `-m fuzz`.
"""

from __future__ import annotations

import json
import random
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from tt_core.engine.errors import TinyTorchError
from tt_language.tokenization import BPETokenizer, ByteTokenizer, CharTokenizer, load_tokenizer

FULL = 100_000
SMALL = 1_500
COUNTS = [pytest.param(SMALL, id="small"), pytest.param(FULL, id="full", marks=pytest.mark.fuzz)]
TEXT = "the theatre there; these three thieves ‘thought’ — naïve 日本語 🙂🏽\n\n  they'd lost 12345 things\t"
TRAINED = BPETokenizer.train(TEXT, 300, special_tokens=["<|end|>"])


def random_text(rng: random.Random) -> str:
    """Code points of any plane and any kind, assigned or not, with a taste for the awkward ones."""
    kinds: list[Callable[[], str]] = [
        lambda: chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])),
        lambda: chr(rng.randrange(0x250)),
        lambda: rng.choice(
            ["\r\n", "  ", "\u200d", "\ufeff", "\0", "\ufffd", "e\u0301", "<|end|>", "'s", "the", "🙂🏽"]
        ),
    ]
    return "".join(rng.choice(kinds)() for _ in range(rng.randrange(40)))


@pytest.mark.parametrize("count", COUNTS)
def test_random_strings_come_back_whole(count):
    rng = random.Random(count)
    tokenizers = [
        TRAINED,
        BPETokenizer.train(TEXT, 290, pattern=None),
        BPETokenizer.train(TEXT, 290, "llama3"),
    ]
    for _ in range(count):
        text = random_text(rng)
        for tokenizer in (*tokenizers, ByteTokenizer()):
            assert tokenizer.decode(tokenizer.encode(text)) == text, ascii(text)
        if text:
            assert CharTokenizer(text).decode(CharTokenizer(text).encode(text)) == text


def flip_bytes(rng: random.Random, data: bytes) -> bytes:
    """Bytes changed, cut, doubled or swapped for what JSON finds hard."""
    damaged = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        i = rng.randrange(len(damaged) + 1)
        j = min(len(damaged), i + rng.randrange(1, 60))
        pieces = [
            b"",
            bytes([rng.randrange(256)]),
            bytes(damaged[i:j]) * 2,
            b"[" * 3000,
            b"9" * 5000,
            b"\\ud800",
            b'"',
            b"{",
            b"null",
            b"-1",
            b"1e999",
            b"NaN",
            b"{99999}",
            b"\xff",
            b"18446744073709551616",
        ]
        damaged[i : rng.choice([i, i + 1, j])] = rng.choice(pieces)
    return bytes(damaged)


def damage_values(rng: random.Random, data: bytes) -> bytes:
    """A valid JSON file in which some values have become others."""
    tree = json.loads(data)
    for _ in range(rng.randrange(1, 4)):
        node, key = tree, rng.choice(list(tree))
        while isinstance(node[key], dict | list) and node[key] and rng.random() < 0.85:
            node = node[key]
            key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        odd = [
            None,
            True,
            -1,
            0,
            3,
            1.5,
            10**40,
            "",
            "a",
            "é b",
            "▁",
            "(" * 9,
            "a{9,999999}",
            [],
            {},
            [None],
            {"type": "BPE"},
            {"type": "Sequence"},
            {"type": "Split", "pattern": {"Regex": "(a+)+{500}"}},
            ["a", "b"],
            "x" * 5000,
        ]
        if isinstance(node, dict) and rng.random() < 0.3:
            node[rng.choice(["Ġ", "zz", "type", "pattern", "\n", "added_tokens"])] = node.pop(key)
        else:
            node[key] = rng.choice(odd)
        if not tree:
            break
    return json.dumps(tree, ensure_ascii=rng.random() < 0.5).encode()


def originals(tmp_path) -> list[bytes]:
    template = BPETokenizer(TRAINED.vocab, TRAINED.merges, "llama3", ["<|end|>"], ["<x>"], prefix_tokens=["<|end|>"])
    small = BPETokenizer.train("a", 256)
    files = []
    for tokenizer in (TRAINED, template, small, ByteTokenizer(), CharTokenizer(TEXT)):
        tokenizer.save(tmp_path / "original.json")
        files.append((tmp_path / "original.json").read_bytes())
    return files


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("damage", [flip_bytes, damage_values])
def test_damaged_files_raise_only_our_own_error(tmp_path, count, damage):
    rng = random.Random(count)
    files, path = originals(tmp_path), tmp_path / "tokenizer.json"
    outcomes = {"read": 0, "refused": 0}
    slowest = 0.0
    for _ in range(count // 2):
        path.write_bytes(damage(rng, rng.choice(files)))
        start = time.perf_counter()
        outcomes[try_to_load(path)] += 1
        slowest = max(slowest, time.perf_counter() - start)
    assert outcomes["refused"] > count // 10
    assert slowest < 5


def is_short_line(message: str, path: Path) -> bool:
    return len(message.splitlines()) == 1 and len(message) < 600 + 3 * len(str(path))


def try_to_load(path: Path) -> str:
    """Load and use; whatever is read must still work whole."""
    try:
        tokenizer = load_tokenizer(path)
    except TinyTorchError as error:
        return "refused" if is_short_line(str(error), path) else f"said {str(error)!a}"
    if not isinstance(tokenizer, CharTokenizer):
        ids = tokenizer.encode(TEXT)
        front = " " if getattr(tokenizer, "add_prefix_space", False) else ""
        assert tokenizer.decode(ids, skip_special_tokens=True).replace("<x>", "") == front + TEXT
    return "read"


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_gpt2_files_raise_only_our_own_error(tmp_path, count):
    rng = random.Random(count)
    vocab = json.dumps(TRAINED.vocab).encode()
    merges = ("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in TRAINED.merges)).encode()
    refused = 0
    for _ in range(count // 10):
        (tmp_path / "vocab.json").write_bytes(flip_bytes(rng, vocab) if rng.random() < 0.5 else vocab)
        (tmp_path / "merges.txt").write_bytes(flip_bytes(rng, merges))
        outcome = try_to_load(tmp_path)
        assert outcome in ("read", "refused")
        refused += outcome == "refused"
    assert refused > count // 50


def test_random_text_covers_the_kinds_it_promises():
    rng = random.Random(0)
    kinds = {unicodedata.category(c) for _ in range(3000) for c in random_text(rng)}
    assert {"Lu", "Lo", "Mn", "Nd", "So", "Zs", "Cc", "Cn", "Co", "Cf"} <= kinds
