"""Checkpoint files: what they hold, what a damaged one does, and what a kill or a full disk leaves behind."""

from __future__ import annotations

import builtins
import errno
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import tt_core
import tt_core.engine.files
from tt_core.engine import threads
from tt_learn import AdamW, CheckpointError, load_checkpoint, load_tensors, save_checkpoint, save_tensors
from tt_learn.training import checkpoints, completed_state, environments, stored_state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.safetensors"


# --- what it holds


def test_everything_comes_back(path: Path) -> None:
    model = tt_core.Linear(4, 3)
    optimizer = AdamW(model.parameters(), lr=0.25)
    for p in model.parameters():
        p.grad = tt_core.ones(*p.shape)
    optimizer.step()
    tt_core.manual_seed(3)
    plain = {"none": None, "list": [1, [2.5, "x"]], "best": float("inf"), "on": True, "int": np.int64(7)}
    save_checkpoint(path, model=model, optimizer=optimizer, plain=plain)
    following = tt_core.generator().random(3)

    other = tt_core.Linear(4, 3)
    fresh = AdamW(other.parameters())
    loaded = load_checkpoint(path, model=other, optimizer=fresh)
    np.testing.assert_array_equal(tt_core.generator().random(3), following)
    np.testing.assert_array_equal(other.weight.data, model.weight.data)
    assert fresh.param_groups[0]["lr"] == 0.25
    assert fresh.state_dict()["state"][0]["step"] == 1
    assert loaded["plain"] == plain
    assert loaded["environment"]["numpy"] == np.__version__


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)])
def test_arrays_come_back(path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.random.default_rng(0).random(shape) * 50).astype(dtype)
    save_tensors(path, {"a.b": array})
    back = load_tensors(path)[0]["a.b"]
    assert (back.dtype, back.shape) == (array.dtype, shape)
    np.testing.assert_array_equal(back, array)


def test_scattered_arrays_are_written_in_order(path: Path) -> None:
    """safetensors 0.8.0 alone writes them scrambled, without an error."""
    array = np.arange(12.0).reshape(3, 4)
    scattered = {"turned": array.T, "every other": array[:, ::2], "backwards": array[::-1]}
    save_checkpoint(path, parts=scattered)
    loaded = load_checkpoint(path)["parts"]
    for name, expected in scattered.items():
        np.testing.assert_array_equal(loaded[name], expected)


def test_other_readers_see_the_weights(path: Path) -> None:
    model = tt_core.Sequential(tt_core.Linear(3, 2), tt_core.Linear(2, 1))
    save_checkpoint(path, model=model)
    names = {f"model.{name}" for name in model.state_dict()}
    assert set(safetensors.numpy.load_file(path)) == names


def test_a_shared_weight_is_stored_once(path: Path) -> None:
    first, second = tt_core.Linear(64, 64, bias=False), tt_core.Linear(64, 64, bias=False)
    second.weight = first.weight
    model = tt_core.Sequential(first, tt_core.ReLU(), second)
    save_checkpoint(path, model=model, empty=[np.ones((0, 2)), np.ones((0, 2))])
    assert sorted(safetensors.numpy.load_file(path)) == ["empty.0", "empty.1", "model.0.weight"]
    saved = load_checkpoint(path)
    np.testing.assert_array_equal(saved["model"]["2.weight"], first.weight.numpy())
    separate = tt_core.Sequential(
        tt_core.Linear(64, 64, bias=False), tt_core.ReLU(), tt_core.Linear(64, 64, bias=False)
    )
    load_checkpoint(path, model=separate)
    for layer in (separate[0], separate[2]):
        np.testing.assert_array_equal(layer.weight.numpy(), first.weight.numpy())
    assert not np.shares_memory(separate[0].weight.data, separate[2].weight.data)


def _tied() -> tt_core.Layer:
    model = tt_core.Sequential(tt_core.Linear(3, 3, bias=False), tt_core.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize("names", [["0.weight"], ["0.weight", "1.weight"]], ids=["stored once", "stored twice"])
def test_files_of_tied_weights_load(path: Path, names: list[str]) -> None:
    weight = np.arange(9, dtype=np.float32).reshape(3, 3)
    safetensors.numpy.save_file(dict.fromkeys(names, weight), path)  # as files of earlier versions are
    model = _tied()
    assert list(stored_state(model)) == ["0.weight"]
    model.load_state_dict(completed_state(model, load_tensors(path)[0]))
    np.testing.assert_array_equal(model[1].weight.numpy(), weight)
    assert model[0].weight is model[1].weight


def test_views_of_one_memory_are_stored_once() -> None:
    model = tt_core.Sequential(tt_core.Linear(3, 3, bias=False), tt_core.Linear(3, 3, bias=False))
    model[1].weight.data = model[0].weight.data[:]
    assert list(stored_state(model)) == ["0.weight"]
    model[1].weight.data = model[0].weight.data.T  # other numbers
    assert list(stored_state(model)) == ["0.weight", "1.weight"]


def test_the_generator_may_be_left_alone(path: Path) -> None:
    save_checkpoint(path, step=1)
    tt_core.manual_seed(5)
    before = tt_core.get_rng_state()
    load_checkpoint(path, generator=False)
    assert tt_core.get_rng_state() == before


def test_what_a_file_cannot_hold_is_refused(path: Path) -> None:
    for parts, message in [
        ({"f": {"g": print}}, "f.g is a builtin_function_or_method"),
        ({"a": {"b.c": np.ones(1), "b": {"c": np.ones(1)}}}, "two tensors are both called a.b.c"),
        ({"a": {"$tensor": "x"}}, r"key \$tensor"),
        ({"a": {1: "x", "1": "y"}}, "a has keys that are equal as text"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            save_checkpoint(path, **parts)
    assert not path.exists()


def test_thread_count_and_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environments.thread_count() >= 1
    assert environments.environment_changes(environments.environment()) == []
    changes = environments.environment_changes({**environments.environment(), "threads": 99})
    assert changes == [f"threads 99 -> {environments.thread_count()}"]
    monkeypatch.setattr(threads.blas, "LIMITED", False)
    monkeypatch.setattr(threads.blas, "LIBRARIES", SimpleNamespace(info=list))  # a BLAS that cannot be asked
    monkeypatch.setattr(threads._chosen, "number", 3)
    assert environments.thread_count() == 3


def test_a_plugin_that_brings_kernels_is_a_change() -> None:
    before = environments.environment()
    with tt_core.use("formula"):
        (change,) = environments.environment_changes(before)
    kernels, _, now = change.partition(" -> ")
    assert kernels == f"kernels {before['kernels']}"
    assert "formula" in now


# --- damaged files


def one_line(error: pytest.ExceptionInfo[CheckpointError]) -> bool:
    return "\n" not in str(error.value)


def header(entries: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


HUGE = {"a": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 4]}}
FOREIGN = [
    b"",
    b"{}",
    b"\xff" * 200,
    struct.pack("<Q", 2**62) + b"{}",
    struct.pack("<Q", 4) + b"\xff\xfe{}",
    header(HUGE, b"1234"),
    header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}}, b"1234"),
    header({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
    header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
    header({"__metadata__": {"tinytorch": "{"}}),
]


@pytest.mark.parametrize("content", FOREIGN, ids=range(len(FOREIGN)))
def test_foreign_files_are_one_line(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    assert one_line(error)


def test_every_changed_bit_and_every_cut_is_noticed(path: Path) -> None:
    model = tt_core.Linear(2, 2)
    save_checkpoint(path, model=model, lr=0.125)
    whole = path.read_bytes()
    draw = random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError) as error:
            load_checkpoint(path, model=model)
        assert one_line(error)
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


def test_a_missing_file_part_or_format(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in (path, path.with_name("x" * 300)):
        with pytest.raises(CheckpointError, match="there is no such file"):
            load_checkpoint(missing)
    save_checkpoint(path, step=1)
    with pytest.raises(CheckpointError, match="holds no model; it has step"):
        load_checkpoint(path, model=tt_core.Linear(1, 1))
    save_tensors(path, {"a": np.ones(2)})
    with pytest.raises(CheckpointError, match="is not a checkpoint of a training run"):
        load_checkpoint(path)
    monkeypatch.setattr(checkpoints, "FORMAT", 99)
    save_checkpoint(path, step=1)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format 99, this version reads 1"):
        load_checkpoint(path)


def test_a_model_of_another_shape_changes_nothing(path: Path) -> None:
    save_checkpoint(path, model=tt_core.Linear(4, 3))
    other = tt_core.Linear(5, 3)
    before = other.weight.data.copy()
    with pytest.raises(tt_core.TinyTorchError, match=r"weight is \(3, 4\), expected \(3, 5\)"):
        load_checkpoint(path, model=other)
    np.testing.assert_array_equal(other.weight.data, before)


# --- failing disks


class FailingFile:
    """A file whose n-th write, or whose flush, fails as a full disk does."""

    def __init__(self, file: Any, fail_at: str) -> None:
        self._file, self._fail_at = file, fail_at

    def __enter__(self) -> FailingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def fileno(self) -> int:
        return int(self._file.fileno())

    def write(self, data: bytes) -> int:
        if self._fail_at == "write":
            self._file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self._file.write(data))

    def flush(self) -> None:
        if self._fail_at == "flush":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._file.flush()


def fail(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("fail_at", ["open", "write", "flush", "fsync", "rename"])
def test_a_failing_disk_leaves_the_old_checkpoint(path: Path, fail_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(path, model=tt_core.Linear(20, 20), step=1)
    before = path.read_bytes()
    if fail_at in ("write", "flush"):
        opening = lambda *a, **k: FailingFile(builtins.open(*a, **k), fail_at)  # noqa: E731, SIM115
        monkeypatch.setattr(tt_core.engine.files, "open", opening, raising=False)
    elif fail_at == "open":
        monkeypatch.setattr(tt_core.engine.files, "open", fail, raising=False)
    else:
        monkeypatch.setattr(tt_core.engine.files.os, "fsync" if fail_at == "fsync" else "replace", fail)
    with pytest.raises(tt_core.TinyTorchError, match="what was there before is unchanged"):
        save_checkpoint(path, model=tt_core.Linear(20, 20), step=2)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert load_checkpoint(path)["step"] == 1
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_cannot_be_synced_is_told_apart(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rename has happened by then, so nobody may say that nothing changed."""
    save_checkpoint(path, step=1)
    monkeypatch.setattr(tt_core.engine.files, "_sync_folder", fail)
    with pytest.raises(tt_core.TinyTorchError, match="cannot sync its folder"):
        save_checkpoint(path, step=2)
    assert load_checkpoint(path)["step"] == 2


# --- killed processes


SAVING = """
import sys, numpy as np
from tt_learn import save_checkpoint
for step in range(1, 1_000_000):
    save_checkpoint(sys.argv[1], weights=np.full(int(sys.argv[2]), step, "float32"), step=step)
    print(step, flush=True)
"""


def kill_while_saving(path: Path, size: int, wait: float) -> tuple[int, int, bool]:
    """(last acknowledged step, step on the disk, whether its weights are that step's)."""
    process = subprocess.Popen([sys.executable, "-c", SAVING, str(path), str(size)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline())]
    time.sleep(wait)
    process.kill() if os.name == "nt" else process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().splitlines(keepends=True)
    process.stdout.close()
    process.wait()
    acknowledged += [int(line) for line in rest if line.endswith("\n")]
    loaded = load_checkpoint(path)
    return acknowledged[-1], loaded["step"], bool((loaded["weights"] == loaded["step"]).all())


def check_kills(folder: Path, times: int) -> None:
    draw = random.Random(times)
    for i in range(times):
        path = folder / f"{i}.safetensors"
        acknowledged, on_disk, whole = kill_while_saving(path, draw.choice([10, 10_000, 2_000_000]), draw.random() / 10)
        assert whole
        assert on_disk >= acknowledged
        path.unlink()
    tt_core.engine.files.remove_stale(folder)
    assert list(folder.iterdir()) == []


def test_ten_kills_while_saving(tmp_path: Path) -> None:
    check_kills(tmp_path, 10)


@pytest.mark.crash
def test_a_hundred_kills_while_saving(tmp_path: Path) -> None:
    check_kills(tmp_path, 100)


# --- what the format lacks, names, byte order


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i2", "i4", "i8", "u2", "u4", "u8"])
def test_every_byte_order_comes_back(path: Path, dtype: str) -> None:
    foreign = np.array([1, 2], np.dtype(dtype).newbyteorder())
    layer = tt_core.Linear(2, 1)
    layer.register_buffer("mean", tt_core.tensor(foreign))
    layer.weight.data = np.array([[1, 2]], np.dtype("f4").newbyteorder())  # behind the tensor's back
    save_checkpoint(path, model=layer, array=foreign, tensor=tt_core.tensor(foreign))
    loaded = load_checkpoint(path)
    for array in (loaded["array"], loaded["tensor"], loaded["model"]["mean"], loaded["model"]["weight"]):
        assert array.dtype.isnative
        assert array.ravel().tolist() == [1, 2]


wide = pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="longdouble is float64 here")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        pytest.param({"x": np.zeros(2, np.longdouble)}, "the format lacks; convert it to float64", marks=wide),
        ({"__metadata__": np.zeros(2)}, "other than __metadata__"),
        ({"\ud800": np.zeros(2)}, "name is text"),
        ({"environment": 1}, "cannot be called environment"),
    ],
    ids=["longdouble", "__metadata__", "half a character", "environment"],
)
def test_what_cannot_be_kept_is_refused_in_one_line(path: Path, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        save_checkpoint(path, **parts)
    assert "\n" not in str(caught.value)
    assert not path.exists()


def test_a_part_that_holds_itself_is_refused(path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CheckpointError, match="contains itself"):
        save_checkpoint(path, x=endless)


def test_a_part_may_be_called_path(path: Path) -> None:
    save_checkpoint(path, path="a/b")
    assert load_checkpoint(path)["path"] == "a/b"


def _file_of(path: Path, dtype: str, body: bytes, shape: list[int]) -> Path:
    header = json.dumps({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(body)]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + body)
    return path


def test_bfloat16_becomes_float32(path: Path) -> None:
    halves = np.array([[0x3F80, 0xC020], [0x7F80, 0x0001]], "<u2")  # 1, -2.5, infinity, the least above 0
    array = load_tensors(_file_of(path, "BF16", halves.tobytes(), [2, 2]))[0]["x"]
    assert array.dtype == np.float32
    assert array.tolist() == [[1.0, -2.5], [np.inf, 2.0**-133]]


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_float8_is_told(path: Path, dtype: str) -> None:
    with pytest.raises(CheckpointError, match=f"x is {dtype}, which NumPy lacks; convert"):
        load_tensors(_file_of(path, dtype, bytes(4), [4]))
