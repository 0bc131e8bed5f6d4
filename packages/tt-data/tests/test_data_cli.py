"""`tt data`: listing datasets, and writing shards."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from data_files import digits, photographs, write_cifar, write_mnist

from tt_core.engine.errors import FileError
from tt_data import ShardedDataset
from tt_data.command.cli import _text_batches, data, plugin


def run(*arguments):
    return CliRunner().invoke(data, [str(argument) for argument in arguments], catch_exceptions=False)


def test_list_says_what_is_there(tmp_path):
    write_mnist(tmp_path / "mnist")
    (tmp_path / "fashion-mnist").mkdir()
    lines = run("list", "--data-dir", tmp_path).output.splitlines()
    state = {line.split()[0]: line for line in lines[1:]}
    assert " found " in state["MNIST"]
    assert " not here " in state["CIFAR10"]
    assert " not here " in state["FashionMNIST"]  # what a download that broke off leaves
    assert "drawn" in state["GeneratedDigits"]


def test_shards_from_mnist_cifar_arrays_and_text(tmp_path):
    write_mnist(tmp_path / "mnist")
    write_cifar(tmp_path / "cifar")
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "a.npy", np.arange(3000.0))
    np.save(tmp_path / "arrays" / "b.npy", np.arange(3000))
    (tmp_path / "book.txt").write_bytes(b"abcdefghij")

    assert "12 samples in 1 shards" in run("shard", tmp_path / "mnist", "--out", tmp_path / "s1").output
    x, y = ShardedDataset(tmp_path / "s1").__getitems__(np.arange(12))
    assert (x[:, 0] == digits(12)[0]).all()
    assert (y == digits(12)[1]).all()

    run("shard", tmp_path / "cifar", "--out", tmp_path / "s2")
    assert len(ShardedDataset(tmp_path / "s2")) == 20
    run("shard", tmp_path / "cifar" / "test_batch", "--out", tmp_path / "s3")
    assert ShardedDataset(tmp_path / "s3").__getitems__(np.arange(4))[1].tolist() == photographs(4, 5)[1]

    run("shard", tmp_path / "arrays", "--out", tmp_path / "s4")
    written = ShardedDataset(tmp_path / "s4")
    assert [field.name for field in written.fields] == ["a", "b"]
    assert written[2999] == (2999.0, 2999)

    run("shard", tmp_path / "book.txt", "--out", tmp_path / "s5", "--block-size", 4)
    blocks = ShardedDataset(tmp_path / "s5").__getitems__(np.arange(2))[0]
    assert [bytes(block) for block in blocks] == [b"abcd", b"efgh"]

    run("shard", tmp_path / "mnist" / "train-labels-idx1-ubyte.gz", "--out", tmp_path / "s6")
    assert len(ShardedDataset(tmp_path / "s6")) == 12


def test_bad_sources_are_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for source, error in [("missing", "no such file"), ("empty", "has no .npy")]:
        with pytest.raises(FileError, match=error) as caught:
            run("shard", tmp_path / source, "--out", tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_a_text_that_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "book.txt").write_bytes(b"abc")
    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(FileError, match=r"book.txt: cannot be read \(Permission denied\)"):
        next(_text_batches(tmp_path / "book.txt", 1))


def test_the_rows_of_the_journey_exist():
    rows = list(plugin.tt_modules())
    assert [(row.number, row.name, row.act) for row in rows] == [(8, "dataloader", 3), (9, "spatial", 3)]


def test_importing_the_package_loads_nothing_for_downloads():
    code = "import sys, tt_data.command.cli; print([m for m in ('pooch', 'requests', 'urllib3') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stdout.strip() == "[]"
