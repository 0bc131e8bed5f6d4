"""`tinygpt quantize` and `tinygpt shrink`: a smaller run beside the one that it was made from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tt_core
from tinygpt.capstone import TinyGPT
from tinygpt.cli import main

Capture = pytest.CaptureFixture[str]


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
