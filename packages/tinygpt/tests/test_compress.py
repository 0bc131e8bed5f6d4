"""`tinygpt quantize` and `tinygpt shrink`: a smaller run beside the one that it was made from."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tt_core
from tinygpt.capstone import TinyGPT
from tinygpt.cli import main
from tt_core import init
from tt_perf import LoraConfig, get_peft_model, save_adapter

Capture = pytest.CaptureFixture[str]
Refused = Callable[..., str]


def config_of(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize(("flag", "bits"), [("--int8", 8), ("--int4", 4)])
def test_quantize_writes_a_run_that_generates(
    flag: str, bits: int, trained: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "small"
    before = (trained / "model.safetensors").read_bytes()
    assert main(["quantize", str(trained), flag, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "SQNR" in printed
    assert "whole model:" in printed
    assert "a token takes" in printed
    assert (trained / "model.safetensors").read_bytes() == before
    described = config_of(out)
    assert described["quantization"]["bits"] == bits  # type: ignore[index]
    assert described["training"] == config_of(trained)["training"]
    assert (out / "model.safetensors").stat().st_size < len(before) / 2
    assert main(["generate", str(out), "--prompt", "the ", "--seed", "0"]) == 0
    assert main(["info", str(out)]) == 0


def test_the_default_folder_is_beside_the_run(trained: Path, tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    TinyGPT.load(trained).save(run)
    assert main(["quantize", str(run)]) == 0
    assert f"tinygpt generate {run}-int8" in capsys.readouterr().out
    assert main(["quantize", str(run)]) == 1
    assert "holds a run already" in capsys.readouterr().err
    assert main(["quantize", f"{run}-int8"]) == 1
    assert "is quantized already; name the run that it was made from" in capsys.readouterr().err


def test_shrink_writes_a_run_that_generates(trained: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "small"
    assert main(["shrink", str(trained), "--neurons", "0.5", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "neurons" in printed
    assert "the model was not trained after that" in printed
    small, large = TinyGPT.load(out), TinyGPT.load(trained)
    assert small.model.num_parameters() < large.model.num_parameters()
    assert config_of(out)["model"] == small.model.config.to_dict()
    ids = tt_core.tensor([small.tokenizer.encode("the cat")])
    assert np.isfinite(small.model(ids).numpy()).all()
    assert main(["quantize", str(out), "--int8", "--out", str(tmp_path / "both")]) == 0
    assert main(["generate", str(tmp_path / "both"), "--prompt", "the ", "--plugin", "kv-cache"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quantize", "RUN", "--int4", "--group-size", "7"], "group_size is 7, expected 32, 64 or 128"),
        (["quantize", "RUN", "--int8", "--group-size", "64"], "--group-size is for --int4"),
        (["quantize", "no-such-run"], "no run folder no-such-run"),
        (["shrink", "RUN", "--neurons", "0"], "nothing to remove"),
        (["shrink", "RUN", "--heads", "0.99", "--neurons", "0"], "shrink_"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str], message: str, trained: Path, tmp_path: Path, capsys: Capture
) -> None:
    given = [str(trained) if each == "RUN" else each for each in arguments]
    assert main([*given, "--out", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["magnitude", "wanda", "random"])
def test_prune_writes_zeros_and_both_losses(method: str, trained: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "pruned"
    assert main(["prune", str(trained), "--amount", "0.25", "--method", method, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "bytes and time unchanged" in printed
    before, after = (float(text) for text in re.findall(r"loss ([\d.]+) before, ([\d.]+) after", printed)[0])
    assert before == pytest.approx(
        json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])["val_loss"], abs=1e-3
    )
    assert after != before
    gpt = TinyGPT.load(out)
    weights = [p.data for p in gpt.model.parameters() if p.ndim == 2]
    assert sum((w == 0).sum() for w in weights) >= 0.2 * sum(w.size for w in weights)
    assert not [name for name, _ in gpt.model.named_buffers() if "mask" in name]


@pytest.fixture
def adapter(trained: Path, tmp_path: Path) -> Path:
    """A LoRA adapter in PEFT's format for the finished run, with the tied head adapted too."""
    adapted = get_peft_model(TinyGPT.load(trained).model, LoraConfig(target_modules=["in_proj", "lm_head"]))
    for entry in adapted.trained().values():
        init.normal_(entry, std=0.2)
    save_adapter(adapted, tmp_path / "adapter", str(trained))
    return tmp_path / "adapter"


@pytest.mark.parametrize("command", ["quantize", "prune", "shrink"])
def test_an_adapter_is_merged_first(command: str, adapter: Path, tmp_path: Path, capsys: Capture) -> None:
    """The new folder holds one model that loads without the base."""
    out, ids = tmp_path / "small", tt_core.tensor([[1, 2, 3]])
    amount = {"quantize": [], "prune": ["--amount", "0.01"], "shrink": ["--neurons", "0.01"]}[command]
    assert main([command, str(adapter), *amount, "--out", str(out)]) == 0
    assert "the adapter is merged into the weights" in capsys.readouterr().out
    expected, found = (TinyGPT.load(path).model(ids).detach().numpy() for path in (adapter, out))
    assert np.abs(expected - found).max() <= 0.1 * np.abs(expected).max()
    with pytest.raises(tt_core.TinyTorchError, match=r"has an adapter; merge\(\) it first"):
        TinyGPT.load(adapter).save(tmp_path / "whole")


def test_a_folder_that_names_no_text(trained: Path, corpus: Path, tmp_path: Path, refused: Refused) -> None:
    """As one in Hugging Face's format: its loss is not measured, what needs the text asks for one."""
    folder = tmp_path / "hf"
    TinyGPT.load(trained).save_pretrained(folder)
    assert main(["prune", str(folder)]) == 0
    small = ["--n-layer", "1", "--n-embd", "16", "--block-size", "16", "--steps", "3"]
    assert "names no text that it was trained on, which wanda" in refused("prune", folder, "--method", "wanda")
    assert "names no text that it was trained on; give one with --corpus" in refused("distill", folder, *small)
    assert main(["distill", str(folder), *small, "--corpus", str(corpus), "--out", str(tmp_path / "student")]) == 0
    assert config_of(tmp_path / "student")["corpus"]["path"] == str(corpus)  # type: ignore[index]
    assert main(["train", "--resume", str(tmp_path / "student"), "--steps", "5"]) == 0
    page = ("--out", tmp_path / "page.html")
    assert "names no text that it was trained on" in refused("story", folder, *page)
    assert main(["quantize", str(trained), "--out", str(tmp_path / "int8")]) == 0
    assert "is quantized; the story quantizes it" in refused("story", tmp_path / "int8", *page)


def test_a_quantized_model_has_as_many_parameters(trained: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["quantize", str(trained), "--out", str(tmp_path / "int8")]) == 0
    told = []
    for folder in (trained, tmp_path / "int8"):
        capsys.readouterr()
        assert main(["info", str(folder)]) == 0
        told.append(capsys.readouterr().out.partition("\nsize: ")[2])
    count = f"{TinyGPT.load(trained).model.num_parameters():,} parameters"
    assert [line.startswith(count) for line in told] == [True, True]
    assert told[0].partition("a token")[2] == told[1].partition("a token")[2]


def test_prune_needs_the_text_of_the_run(trained: Path, corpus: Path, tmp_path: Path, refused: Refused) -> None:
    moved = Path(shutil.copytree(trained, tmp_path / "moved"))
    described = config_of(moved)
    described["corpus"]["sha256"] = "0"  # type: ignore[index]
    (moved / "config.json").write_text(json.dumps(described), encoding="utf-8")
    assert f"{corpus} is not the text" in refused("prune", moved)
    assert not (tmp_path / "moved-pruned").exists()
    assert main(["prune", str(moved), "--amount", "1"]) == 2


def test_a_student_learns_from_its_teacher_and_goes_on_later(trained: Path, tmp_path: Path, capsys: Capture) -> None:
    shape = ["--n-layer", "1", "--n-embd", "16", "--block-size", "16", "--learning-rate", "0.01"]
    options = [*shape, "--eval-interval", "10", "--warmup-steps", "2", "--min-lr", "0.01"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert main(["distill", str(trained), *options, "--steps", "20", "--out", str(whole)]) == 0
    assert "teacher:" in capsys.readouterr().out
    assert main(["distill", str(trained), *options, "--steps", "10", "--out", str(halves)]) == 0
    assert main(["train", "--resume", str(halves), "--steps", "20"]) == 0
    assert (whole / "model.safetensors").read_bytes() == (halves / "model.safetensors").read_bytes()
    student, teacher = TinyGPT.load(whole), TinyGPT.load(trained)
    assert student.model.num_parameters() < teacher.model.num_parameters()
    assert student.tokenizer.encode("the cat") == teacher.tokenizer.encode("the cat")
    other = tmp_path / "other"  # alpha=0 is training on the text alone: another model
    assert main(["distill", str(trained), *options, "--steps", "20", "--alpha", "0", "--out", str(other)]) == 0
    assert (other / "model.safetensors").read_bytes() != (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alpha", "2"], "alpha is 2.0, expected a share from 0 to 1"),
        (["--temperature", "0"], "temperature is 0.0, expected a number above 0"),
        (["--block-size", "32"], "block_size is 32, the teacher reads 16"),
    ],
)
def test_distillation_that_makes_no_sense_is_refused(
    options: list[str], message: str, trained: Path, tmp_path: Path, refused: Refused
) -> None:
    assert message in refused("distill", trained, "--block-size", "16", *options, "--out", tmp_path / "student")
    assert not (tmp_path / "student").exists()
