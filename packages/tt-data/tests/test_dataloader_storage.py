"""Data larger than memory: mapped files, shards with checksums, and what damage does to them."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tt_core.engine.errors import ArgumentError, FileError, OutOfRangeError, ShapeError
from tt_data import DataLoader, MemmapDataset, ShardedDataset, write_shards
from tt_data.dataloader import storage


def images(n=100, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 2, 3), dtype=np.uint8), np.arange(n)


def cut(n, size):
    x, y = images(n)
    return [(x[i : i + size], y[i : i + size]) for i in range(0, n, size)]


@pytest.fixture
def shards(tmp_path):
    return write_shards(tmp_path / "shards", cut(100, 7), shard_bytes=30 * 14)


# --- mapped files ---


@pytest.fixture
def files(tmp_path):
    x, y = images()
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    return tmp_path / "x.npy", tmp_path / "y.npy"


@pytest.mark.parametrize("budget", [1, 1 << 20, 1 << 30])
def test_mapped_rows_are_the_files_rows(files, budget):
    data, (x, y) = MemmapDataset(*files, resident_bytes=budget), images()
    order = np.random.default_rng(1).permutation(100)
    for part in np.split(order, 10):
        bx, by = data.__getitems__(part)
        assert (bx == x[part]).all()
        assert (by == y[part]).all()
        assert type(bx) is np.ndarray
    assert (data[-1][0] == x[-1]).all()
    with pytest.raises(OutOfRangeError, match="100"):
        data[100]


def test_a_mapped_dataset_travels_as_a_path(files):
    data = MemmapDataset(*files)
    assert len(pickle.dumps(data)) < 1000
    assert (pickle.loads(pickle.dumps(data))[5][0] == data[5][0]).all()


def test_mapped_files_that_do_not_fit(files, tmp_path):
    np.save(tmp_path / "short.npy", np.arange(3))
    np.save(tmp_path / "scalar.npy", np.float32(3))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    (tmp_path / "text.npy").write_text("no array", encoding="utf-8")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "cut.npy").write_bytes(files[0].read_bytes()[:-10])
    with pytest.raises(ShapeError, match=r"x.npy 100, short.npy 3"):
        MemmapDataset(files[0], tmp_path / "short.npy")
    for name in ("scalar", "objects", "text", "empty", "cut", "missing"):
        with pytest.raises(FileError, match=f"{name}.npy") as caught:
            MemmapDataset(tmp_path / f"{name}.npy")
        assert "\n" not in str(caught.value)
    with pytest.raises(ArgumentError, match="no files"):
        MemmapDataset()


def test_a_mapped_file_cut_while_in_use_is_an_error_not_a_signal(files):
    data = MemmapDataset(*files)
    with open(files[0], "r+b") as file:
        file.truncate(200)
    with pytest.raises(FileError, match=r"x.npy: changed size"):
        data.__getitems__(np.arange(100))
    data.files[0].rename(data.files[0].with_suffix(".old"))
    with pytest.raises(FileError, match=r"x.npy: changed size while in use \(.* to 0 bytes\)"):
        data.__getitems__(np.arange(100))


# --- shards ---


@settings(deadline=None)  # it writes to disk
@given(count=st.integers(1, 60), batch=st.integers(1, 25), shard=st.integers(1, 40), seed=st.integers(0, 99))
def test_shards_hold_what_was_written(tmp_path_factory, count, batch, shard, seed):
    folder = tmp_path_factory.mktemp("shards") / "s"
    write_shards(folder, cut(count, batch), shard_bytes=shard * 14)
    data, (x, y) = ShardedDataset(folder), images(count)
    assert len(data) == count
    assert all(s.count == shard for s in data.shards[:-1])
    picked = np.random.default_rng(seed).integers(-count, count, 20)
    bx, by = data.__getitems__(picked)
    assert (bx == x[picked]).all()
    assert (by == y[picked]).all()
    assert bx.dtype == x.dtype
    data.close()


def test_shards_can_be_read_by_anybody(shards):
    assert (np.load(shards / "00000-image.npy") == images()[0][: len(np.load(shards / "00000-image.npy"))]).all()
    assert json.loads((shards / "index.json").read_text(encoding="utf-8"))["format"] == "tinytorch-shards"


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_in_a_loader(shards, workers):
    with DataLoader(ShardedDataset(shards), batch_size=16, shuffle=True, num_workers=workers) as loader:
        batches = [(x.numpy(), y.numpy()) for x, y in loader]
    x = images()[0]
    assert sorted(int(i) for _, y in batches for i in y) == list(range(100))
    assert all((bx == x[by]).all() for bx, by in batches)


def test_few_files_are_open_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(storage.shards, "_MAX_OPEN", 4)
    data = ShardedDataset(write_shards(tmp_path / "s", cut(100, 10), shard_bytes=5 * 14))
    assert len(data.shards) == 20
    (_, y) = data.__getitems__(np.arange(99, -1, -1))
    assert (y == np.arange(99, -1, -1)).all()
    assert len(data._open) <= 4


@pytest.mark.parametrize("place", [0, 70, -1], ids=["magic", "header", "data"])
def test_a_flipped_bit_is_found_before_a_sample_is_delivered(shards, place):
    path = shards / "00001-image.npy"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    data = ShardedDataset(shards)
    assert data.__getitems__(np.arange(10))[1].tolist() == list(range(10))  # another shard is whole
    for _ in range(2):
        with pytest.raises(FileError, match=r"00001-image.npy") as caught:
            data.__getitems__(np.arange(20, 60))
        assert "\n" not in str(caught.value)


def test_a_shard_cut_while_in_use_is_an_error(shards):
    data = ShardedDataset(shards)
    data.__getitems__(np.arange(100))
    for path in shards.glob("*-image.npy"):
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size - 3)
    with pytest.raises(FileError, match="truncated"):
        data.__getitems__(np.arange(100))


def edit(index, **changes):
    content = json.loads(index.read_text(encoding="utf-8"))
    for path, value in changes.items():
        at, *keys, last = [content, *(int(k) if k.isdigit() else k for k in path.split("__"))]
        for key in keys:
            at = at[key]
        at[last] = value
    index.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"format": "webdataset"}, "webdataset"),
        ({"version": 2}, "version 2"),
        ({"shards__0__count": 10**15}, "00000-image.npy"),
        ({"shards__0__count": 29}, None),
        ({"shards__0__count": True}, "index"),
        ({"shards__0__files__0__name": "../secret.npy"}, "leaves the folder"),
        ({"shards__0__files__0__name": "/etc/passwd"}, "leaves the folder"),
        ({"shards__0__files__0__name": "99999-image.npy"}, "missing"),
        ({"shards__0__files__0__bytes": 5}, "index.json says 5"),
        ({"shards__0__files__0__sha256": "0" * 64}, None),
        ({"shards__0__files": []}, "0 files for 2 fields"),
        ({"fields__0__dtype": "O"}, "dtype object"),
        ({"fields__0__dtype": "no such"}, "index"),
        ({"fields__0__shape": [2**39, 2**39]}, "00000-image.npy"),
        ({"fields__0__shape": [3, 2]}, None),
        ({"fields__0__shape": [-1]}, "index"),
        ({"fields": 3}, "index"),
        ({"shards": {"a": 1}}, "index"),
    ],
)
def test_an_index_that_lies_is_found_out(shards, changes, error):
    edit(shards / "index.json", **changes)
    with pytest.raises(FileError, match=error) as caught:
        ShardedDataset(shards).__getitems__(np.arange(40))
    assert "\n" not in str(caught.value)


def test_an_index_that_is_none(tmp_path, shards):
    with pytest.raises(FileError, match="write_shards"):
        ShardedDataset(tmp_path / "nowhere")
    for content in (b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000, b'{"format": 1}'):
        (shards / "index.json").write_bytes(content)
        with pytest.raises(FileError, match=r"index.json") as caught:
            ShardedDataset(shards)
        assert "\n" not in str(caught.value)


def test_writing_refuses_what_does_not_fit(tmp_path, shards):
    with pytest.raises(ArgumentError, match="different names"):  # on some systems one file
        write_shards(tmp_path / "twice", cut(4, 2), fields=("x", "X"))
    for name in ("a/b", "", "a\0b", "x" * 300):
        with pytest.raises(ArgumentError, match="valid file names"):
            write_shards(tmp_path / "name", cut(4, 2), fields=("x", name))
    with pytest.raises(ArgumentError, match="shard_bytes must be >= 1, got 0"):
        write_shards(tmp_path / "small", cut(4, 2), shard_bytes=0)
    with pytest.raises(FileError, match="already has"):
        write_shards(shards, cut(4, 2))
    for batches, error in [
        ([], "no samples"),
        ([(np.zeros(2), np.zeros(3))], "one length"),
        ([(np.zeros(2),)], "one length"),
        ([(np.zeros(2), np.array(["a", "b"]))], "numbers"),
        ([(np.zeros((2, 3)), np.zeros(2)), (np.zeros((2, 4)), np.zeros(2))], r"\(4,\).*\(3,\)"),
    ]:
        with pytest.raises((ArgumentError, ShapeError), match=error):
            write_shards(tmp_path / "new", batches)
        assert not (tmp_path / "new" / "index.json").exists()


def test_batches_may_all_come_in_the_same_memory(tmp_path):
    def batches():
        memory = np.empty(2, np.int64)
        for i in range(5):
            memory[:] = i
            yield (memory,)

    folder = write_shards(tmp_path / "s", batches(), fields=("x",), shard_bytes=24)
    assert [x.item() for (x,) in ShardedDataset(folder)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="this system reads through the file's position")
def test_reading_does_not_move_the_position_that_a_fork_shares(shards):
    data = ShardedDataset(shards)
    data[3]
    (x, *_) = data._open.values()
    before = x.file.tell()
    data[9]
    assert x.file.tell() == before


def test_an_interrupted_writing_leaves_no_dataset_and_can_be_repeated(tmp_path):
    def breaks():
        yield from cut(50, 10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "s", breaks(), shard_bytes=14 * 10)
    with pytest.raises(FileError, match="no such file"):
        ShardedDataset(tmp_path / "s")
    assert len(ShardedDataset(write_shards(tmp_path / "s", cut(50, 10), shard_bytes=14 * 10))) == 50


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left"):
        write_shards(tmp_path / "s", cut(10, 5))
    assert list((tmp_path / "s").iterdir()) == []


def test_a_sharded_dataset_travels_as_a_path(shards):
    data = ShardedDataset(shards)
    data.__getitems__(np.arange(100))
    copy = pickle.loads(pickle.dumps(data))
    assert (copy.__getitems__(np.arange(100))[0] == images()[0]).all()


MEASURE = """
import sys, resource, numpy as np
from tt_data import DataLoader, MemmapDataset, ShardedDataset
kind, order, path = sys.argv[1:]
data = MemmapDataset(path) if kind == "memmap" else ShardedDataset(path)
def resident():
    for line in open("/proc/self/status", encoding="utf-8"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
start = resident()
total = sum(float(x.numpy()[:, 0].sum()) for (x,) in DataLoader(data, batch_size=512, shuffle=order == "shuffled"))
print(resident() - start)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("order", ["in order", "shuffled"])
@pytest.mark.parametrize("kind", ["memmap", "sharded"])
def test_streaming_needs_a_fraction_of_the_file_in_memory(tmp_path, kind, order):
    rows = np.random.default_rng(0).random((32768, 3072), np.float32)  # 403 MB
    if kind == "memmap":
        np.save(tmp_path / "x.npy", rows)
    else:
        write_shards(tmp_path / "x.npy", [(rows,)], fields=["x"], shard_bytes=32 << 20)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, kind, order, str(tmp_path / "x.npy")],
        capture_output=True,
        text=True,
        check=True,
    )
    shutil.rmtree(tmp_path, ignore_errors=True)
    assert float(done.stdout) < 200  # MB; the budget of the maps is 128
