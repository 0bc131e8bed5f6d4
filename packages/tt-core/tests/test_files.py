"""A write that fails at any step leaves the old file and says so."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tt_core.engine import files
from tt_core.engine.errors import FileError
from tt_core.engine.files import check_folder, remove_stale, write_atomic


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with something in it."""
    file = tmp_path / "weights.bin"
    file.write_bytes(b"old")
    return file


def failing(*_: Any, **__: Any) -> Any:
    raise OSError(28, "No space left on device")


class FullDisk:
    """A file of which one method fails."""

    def __init__(self, file: BinaryIO, method: str) -> None:
        self.file, self.method = file, method

    def __getattr__(self, name: str) -> Any:
        return failing if name == self.method else getattr(self.file, name)

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def test_bytes_and_functions_are_written(path: Path) -> None:
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    write_atomic(str(path), lambda file: file.write(b"newer"))
    assert path.read_bytes() == b"newer"
    write_atomic(path.with_name("another"), b"")
    assert path.with_name("another").read_bytes() == b""


@pytest.mark.parametrize("step", ["write", "flush", "fsync", "replace", "open"])
def test_an_error_at_any_step_leaves_the_old_file(path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if step in ("write", "flush"):
        monkeypatch.setattr(files, "open", lambda *a: FullDisk(open(*a), step), raising=False)  # noqa: SIM115
    elif step == "open":
        monkeypatch.setattr(files, "open", failing, raising=False)
    else:
        monkeypatch.setattr(os, step, failing)
    with pytest.raises(FileError, match=r"cannot write .*weights.bin: No space left on device; .* unchanged"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["weights.bin"]


@pytest.mark.parametrize("error", [ValueError("bad array"), KeyboardInterrupt()])
def test_another_error_while_writing_passes_and_leaves_the_old_file(path: Path, error: BaseException) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        write_atomic(path, write)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["weights.bin"]


def test_a_folder_that_does_not_sync_is_an_error_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_sync_folder", failing)
    with pytest.raises(FileError, match="cannot sync its folder: No space left on device"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_data_is_synced_before_the_rename_and_the_folder_after(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    sync, replace, folder = os.fsync, os.replace, files._sync_folder
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), sync(fd)))
    monkeypatch.setattr(os, "replace", lambda *a: (steps.append("replace"), replace(*a)))
    monkeypatch.setattr(files, "_sync_folder", lambda p: (steps.append("folder"), folder(p)))
    write_atomic(path, b"new")
    assert steps[:3] == ["fsync", "replace", "folder"]


def test_a_file_that_another_program_has_open_is_replaced_once_it_is_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, replace = [], os.replace

    def busy(source: str, target: str) -> None:
        tries.append(target)
        if len(tries) < 3:
            raise PermissionError(13, "Access is denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(files, "_PATIENCE", 0.0)  # as on Linux, where an open file is no obstacle
    with pytest.raises(FileError, match="Access is denied; what was there before is unchanged"):
        write_atomic(path, b"new")
    tries.clear()
    monkeypatch.setattr(files, "_PATIENCE", 5.0)  # as on Windows
    write_atomic(path, b"new")
    assert (path.read_bytes(), len(tries)) == (b"new", 3)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"cannot write .*nowhere.*: No such file or directory"):
        write_atomic(tmp_path / "nowhere" / "file", b"")


def test_stale_temporary_files_are_removed_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(descriptor: int) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(SystemExit):
            write_atomic(path, b"half")
    stale = [file for file in path.parent.iterdir() if file != path]
    assert len(stale) == 1
    assert remove_stale(path.parent) == stale
    assert os.listdir(path.parent) == ["weights.bin"]
    assert remove_stale(path.parent) == []


def test_a_stale_file_that_cannot_be_removed_stays(path: Path) -> None:
    folder = path.parent / "weights.bin.tmp-tinytorch-1-1"  # which unlink refuses on every system
    folder.mkdir()
    assert remove_stale(path.parent) == []
    assert folder.exists()


def test_several_writers_of_one_file_do_not_meet(path: Path) -> None:
    contents = [bytes([i]) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda data: write_atomic(path, data), contents * 10))) == 80
    assert path.read_bytes() in contents
    assert os.listdir(path.parent) == ["weights.bin"]


@pytest.mark.skipif(os.name == "nt", reason="links and modes are others there")
def test_a_link_stays_a_link_and_permissions_stay(path: Path) -> None:
    path.chmod(0o600)
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    link = elsewhere / "latest.bin"
    link.symlink_to(path)
    write_atomic(link, b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(elsewhere) == ["latest.bin"]


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "taken"
    if kind == "folder":
        target.mkdir()
    elif hasattr(os, "mkfifo"):
        os.mkfifo(target)
    else:
        pytest.skip("this system has no named pipes")
    with pytest.raises(FileError, match=r"cannot write .*taken: a folder or device has this name"):
        write_atomic(target, b"new")
    assert not target.is_file()
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_can_be_made_is_left_to_be_made(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "new", tmp_path / "new" / "inner"):
        assert check_folder(folder) == folder
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_known_before(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "inner"):
        with pytest.raises(FileError, match=r"cannot create folder .*file is no folder"):
            check_folder(folder)


def test_a_folder_in_one_that_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(FileError, match="cannot be written to"):
        check_folder(tmp_path / "new")
