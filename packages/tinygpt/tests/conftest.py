"""A tiny text, a run trained on it once for all tests, and the command with what it prints."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tinygpt.cli import main

LINES = ["the cat sat on the mat.", "a dog ran to the cat.", "the mat was on the dog."]
TEXT = "\n".join(LINES[(i * i) % 3] for i in range(300))
TINY = ["--preset", "tiny", "--tokenizer", "char", "--n-layer", "1", "--n-embd", "32", "--block-size", "16"]
SHORT = [*TINY, "--steps", "30", "--eval-interval", "10", "--warmup-steps", "5", "--learning-rate", "0.01"]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, train: Callable[..., int]) -> Path:
    """A finished run; tests that change one take `run`."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    assert train(folder) == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must end with one line on standard error and exit code 1; gives that line."""

    def check(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 1
        line = capsys.readouterr().err
        assert line.startswith("error: ")
        assert line.count("\n") == 1
        return line

    return check


@pytest.fixture(scope="session")
def train(corpus: Path) -> Callable[..., int]:
    """Train a tiny model into a folder; further arguments change it. Gives the exit code."""

    def call(out: Path, *arguments: object) -> int:
        given = ["train", "--corpus", corpus, "--out", out, *SHORT, *arguments]
        return main([str(argument) for argument in given])

    return call
