"""The milestones of Act II reach what they claim, say what they read, and fail where they fall short."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tt_core.command.journey import Shortfall
from tt_core.engine.errors import FileError, ShapeError
from tt_core.engine.plugins import hookimpl, manager
from tt_learn.command import milestones
from tt_learn.command.digits import draw_digits
from tt_learn.command.milestones import find_digits, mlp, xor


@pytest.fixture(autouse=True)
def _nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TT_DATA_HOME", raising=False)


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "mnist").mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 7), ("t10k", 3)):
        images, labels = draw_digits(count, rng)
        write_idx(tmp_path / "mnist" / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / "mnist" / f"{part}-labels-idx1-ubyte.gz", labels.astype(np.uint8))
    return tmp_path


def test_xor_shows_75_and_100_percent(capsys: pytest.CaptureFixture[str]) -> None:
    xor()
    said = capsys.readouterr().out
    assert "one layer gets 75%" in said
    assert "two layers get 100%" in said


def test_mlp_on_drawn_digits_says_that_they_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    mlp()
    said = capsys.readouterr().out
    assert "DRAWN digits instead" in said
    assert said.count("epoch") == milestones.EPOCHS


def test_mlp_refuses_to_claim_what_it_did_not_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milestones, "RATE", 0.0)
    monkeypatch.setattr(milestones, "EPOCHS", 1)
    monkeypatch.setattr(milestones, "find_digits", lambda _: (*draw_digits(200, rng), *draw_digits(100, rng)))
    rng = np.random.default_rng(0)
    with pytest.raises(Shortfall, match=r"mlp: accuracy after the first epoch is .*95% was to be reached"):
        mlp()


def test_mnist_is_read_from_the_given_folder_or_the_variable(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_x, train_y, test_x, test_y = find_digits(data)
    assert (train_x.shape, train_y.shape, test_x.shape, test_y.dtype) == ((7, 28, 28), (7,), (3, 28, 28), np.int64)
    monkeypatch.setenv("TT_DATA_HOME", str(data))
    assert np.array_equal(find_digits(None)[0], train_x)


def test_damaged_or_foreign_files_are_named(data: Path) -> None:
    read = milestones._read_mnist  # which find_digits calls where no plugin, such as Act III, answers first
    labels = data / "mnist" / "t10k-labels-idx1-ubyte.gz"
    write_idx(labels, np.zeros(4, np.uint8))
    with pytest.raises(ShapeError, match=r"t10k has images \(3, 28, 28\) and labels \(4,\)"):
        read(data)
    labels.unlink()
    with pytest.raises(FileError, match="t10k-labels"):
        read(data)


def test_a_plugin_may_bring_the_data(data: Path) -> None:
    class Plugin:
        @hookimpl
        def tt_dataset(self, name: str, data_dir: Path | None) -> Any:
            return given if name == "mnist" else None

    given, plugin = (*draw_digits(5, np.random.default_rng(1)), *draw_digits(2, np.random.default_rng(2))), Plugin()
    manager.register(plugin)
    try:
        assert find_digits(data) is given
    finally:
        manager.unregister(plugin)


def test_drawn_digits_are_all_ten_and_repeatable() -> None:
    images, labels = draw_digits(500, np.random.default_rng(3))
    again, _ = draw_digits(500, np.random.default_rng(3))
    assert np.array_equal(images, again)
    assert set(labels.tolist()) == set(range(10))
    assert images.reshape(500, -1).max(1).min() > 200
