"""`tinygpt eval` scores each token of a text once; `tinygpt generate` takes all options of sampling."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tinygpt.capstone import TinyGPT
from tinygpt.capstone.evaluate import evaluate
from tinygpt.cli import main
from tt_core import tensor

Refused = Callable[..., str]


def surprise(gpt: TinyGPT, ids: list[int]) -> float:
    """-log(probability) of the last id."""
    logits = gpt.model(tensor([ids[:-1]])).numpy()[0, -1].astype(np.float64)
    return float(np.log(np.exp(logits).sum()) - logits[ids[-1]])


@pytest.mark.parametrize("length", [2, 16, 17, 18, 33, 50])
@pytest.mark.parametrize("stride", [None, 1, 5])
def test_each_token_is_scored_once(length: int, stride: int | None, trained: Path, tmp_path: Path) -> None:
    gpt, context = TinyGPT.load(trained), 16
    text = ("the cat sat on a dog to the mat. " * 4)[:length]
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    score = evaluate(gpt, tmp_path / "text.txt", stride, batch_size=2)
    assert (score.tokens, score.bytes) == (length - 1, length - 1)
    ids = gpt.tokenizer.encode(text)
    step, expected, scored = stride or context, 0.0, 1
    while scored < length:
        end = min(length, scored + (context if scored == 1 else step))
        start = max(0, end - 1 - context)
        expected += sum(surprise(gpt, ids[start : i + 1]) for i in range(scored, end))
        scored = end
    assert score.loss == pytest.approx(expected / (length - 1), rel=1e-4)
    assert score.perplexity == pytest.approx(math.exp(score.loss))
    assert score.bits_per_byte == pytest.approx(score.loss / math.log(2))


def test_answers_are_scored_without_their_prompts(trained: Path, tmp_path: Path) -> None:
    gpt = TinyGPT.load(trained)
    (tmp_path / "one.jsonl").write_text('{"prompt": "the c", "completion": "at"}', encoding="utf-8")
    score = evaluate(gpt, tmp_path / "one.jsonl")
    ids = gpt.tokenizer.encode("the cat")
    assert (score.tokens, score.bytes) == (2, 2)
    assert score.loss == pytest.approx((surprise(gpt, ids[:6]) + surprise(gpt, ids)) / 2, rel=1e-5)


def test_eval_on_the_command_line(trained: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(trained), "--data", str(corpus), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures.keys() == {"loss", "perplexity", "bits_per_byte", "tokens", "bytes"}
    assert figures["loss"] < 2
    assert main(["eval", str(trained), "--data", str(corpus)]) == 0
    assert f"{figures['bits_per_byte']:.4f} bits per byte" in capsys.readouterr().out


def test_what_cannot_be_scored(trained: Path, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    (tmp_path / "odd.txt").write_text("odd €", encoding="utf-8")
    assert "give what to predict: --data" in refused("eval", trained)
    assert "is one token" in refused("eval", trained, "--data", tmp_path / "a.txt")
    assert "'€' not among" in refused("eval", trained, "--data", tmp_path / "odd.txt")
    assert "cannot read" in refused("eval", trained, "--data", tmp_path / "no.txt")
    assert "stride is 17, expected 1 to 16" in refused("eval", trained, "--data", tmp_path / "a.txt", "--stride", 17)


# --- generate


def test_samples_as_json(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", str(trained), "--prompt", "the ", "--max-new-tokens", "30", "--seed", "1"]
    assert main([*command, "-n", "2", "--json", "--stop", "."]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["prompt"] == second["prompt"] == "the "
    for record in (first, second):
        assert len(record["text"]) == record["tokens"]  # of a character each
        assert (record["finish_reason"] == "stop") is record["text"].endswith(".")
    assert main([*command[:-1], "2", "--json", "--stop", "."]) == 0
    assert json.loads(capsys.readouterr().out) == second


def test_samples_as_text(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(trained), "--prompt", "the ", "-n", "3", "--max-new-tokens", "5"]) == 0
    assert capsys.readouterr().out.count("\n---\nthe ") == 2


@pytest.mark.parametrize("options", [["--min-p", "1"], ["--no-repeat-ngram-size", "3"], ["--min-new-tokens", "3"],
                                     ["--ignore-eos"], ["--top-k", "1"], ["--top-p", "0.01"]], ids=str)  # fmt: skip
def test_all_options_of_sampling_are_taken(
    options: list[str], trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(trained), "--prompt", "the ", "--max-new-tokens", "12", "--seed", "0", *options]) == 0
    text = capsys.readouterr().out.rstrip("\n")
    if options[0] in ("--min-p", "--top-k", "--top-p"):
        assert main(["generate", str(trained), "--prompt", "the ", "--max-new-tokens", "12", "--temperature", "0"]) == 0
        assert capsys.readouterr().out.rstrip("\n") == text
    if options[0] == "--no-repeat-ngram-size":
        assert len({text[i : i + 3] for i in range(len(text) - 2)}) == len(text) - 2


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("min-p", 2, "min_p is 2"), ("no-repeat-ngram-size", -1, "no_repeat_ngram_size is -1"),
     ("min-new-tokens", -1, "min_new_tokens is -1")],
)  # fmt: skip
def test_options_out_of_range(option: str, value: int, said: str, trained: Path, refused: Refused) -> None:
    assert said in refused("generate", trained, f"--{option}", value)
