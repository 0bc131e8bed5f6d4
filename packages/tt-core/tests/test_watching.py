"""`tt watch`: it checks what was saved, obeys keys, and lets no second one run beside it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tt_core.command.cli import load_acts
from tt_core.command.journey import Module
from tt_core.course import finder
from tt_core.course.commands import module_called
from tt_core.course.folder import Workspace
from tt_core.course.testing import new_workspace, written
from tt_core.course.watching import LOCK, Keys, Watching, watch
from tt_core.engine.errors import FileError, TinyTorchError
from tt_core.engine.locks import locked


class Pressed(Keys):
    """Keys that are given, one for each question."""

    def __init__(self, keys: str) -> None:
        super().__init__()
        self.keys = list(keys)

    def pressed(self) -> str:
        return self.keys.pop(0) if self.keys else "q"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    load_acts()
    found = new_workspace(tmp_path)
    monkeypatch.chdir(found.root)
    monkeypatch.delenv(finder.WORKSPACE, raising=False)
    return found


def watched(workspace: Workspace, module: Module, keys: str, *saved: Path) -> None:
    """Watch while these files are saved and then these keys are pressed."""

    def changes() -> Iterator[set[tuple[int, str]]]:
        yield {(1, str(path)) for path in saved}
        while True:
            yield set()

    Watching(workspace, module, Pressed(keys)).run(changes())


def test_keys(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    module = module_called("02")
    workspace.start(module)
    watched(workspace, module, "hhlnrx")
    told = capsys.readouterr().out
    assert "relu 1/3  Which of x and 0 is larger?" in told
    assert "relu 2/3" in told
    assert "  softmax                          6 points\n" in told
    assert "write relu first" in told
    assert "y replaces them" in told


def test_reset_asks(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    module = module_called("02")
    written(workspace, module, {"softmax": "return x"})
    (path,) = workspace.paths(module)
    watched(workspace, module, "rqy")
    assert "return x" in path.read_text(encoding="utf-8")
    watched(workspace, module, "rhy")  # another key takes it back
    assert "return x" in path.read_text(encoding="utf-8")
    watched(workspace, module, "ry")
    assert "raise NotImplementedError" in path.read_text(encoding="utf-8")
    assert len(list((path.parent / "backup").iterdir())) == 1


def test_next_goes_on(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    module = module_called("02")
    written(workspace, module, {})
    watched(workspace, module, "n")
    told = capsys.readouterr().out
    assert "every exercise passes; n goes on" in told
    assert "FAIL  linear" in told
    assert Workspace(workspace.root).state(module_called("03"))


def test_what_is_saved_is_checked(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    module = module_called("02")
    workspace.start(module)
    watched(workspace, module, "", workspace.root / "progress.json")
    assert capsys.readouterr().out.count("FAIL") == 1
    watched(workspace, module, "", *workspace.paths(module))
    assert capsys.readouterr().out.count("FAIL") == 2


def test_a_second_one_is_refused(workspace: Workspace) -> None:
    pytest.importorskip("watchfiles")
    module = module_called("02")
    with pytest.raises(TinyTorchError, match="tt start 02"):
        watch(workspace, module)
    workspace.start(module)
    with locked(workspace.root / LOCK, ""), pytest.raises(FileError, match="another tt watch runs"):
        watch(workspace, module)


def test_a_file_that_is_saved_during_the_first_check_is_seen(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("watchfiles")
    module, done = module_called("02"), []
    workspace.start(module)

    def changes(*_: object, **options: object) -> Iterator[set[tuple[object, str]]]:
        done.append("begins to watch")
        yield set()

    monkeypatch.setattr("watchfiles.watch", changes)
    monkeypatch.setattr("tt_core.course.watching.Watching.check", lambda self: done.append("checks"))
    watch(workspace, module)
    assert done == ["begins to watch", "checks"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudoterminal")
def test_an_answer_comes_soon_after_saving(workspace: Workspace) -> None:
    pytest.importorskip("watchfiles")
    import pty

    module = module_called("02")
    workspace.start(module)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "tt_core.command.cli", "watch", "02"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=workspace.root)
    os.close(theirs)
    try:
        _until_told(ours)
        path = workspace.paths(module)[0]
        path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        _until_told(ours)
        os.write(ours, b"q")
        assert process.wait(timeout=300) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert not (workspace.root / LOCK).exists()


def _until_told(terminal: int) -> None:
    """Read until a check has ended; an error after five minutes."""
    seen, end = b"", time.monotonic() + 300
    while b"q quit" not in seen:
        ready = select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0]
        assert ready, seen
        seen += os.read(terminal, 4096)
    assert b"FAIL" in seen
