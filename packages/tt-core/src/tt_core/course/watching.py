"""Checks a module each time its file is saved, and obeys single keys. Needs `watchfiles` (`pip install watchfiles`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import click

from tt_core.command.journey import Module
from tt_core.course import commands
from tt_core.course.folder import Workspace, key
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.locks import locked

if sys.platform == "win32":
    import msvcrt
else:
    import select
    import termios
    import tty

HELP = "save a file to check it; n next, h hint, l list, r reset, q quit"
LOCK = ".tt-watch-lock"


class Keys:
    """The keys that are pressed while something else goes on; none where the input is no terminal."""

    def __init__(self) -> None:
        self.terminal = sys.stdin is not None and sys.stdin.isatty()

    def __enter__(self) -> Keys:
        if self.terminal and sys.platform != "win32":
            self._before = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)  # each key at once, and Ctrl-C as before
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.terminal and sys.platform != "win32":
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

    def pressed(self) -> str:
        """The key that was pressed since the last question, or ""."""
        if not self.terminal:
            return ""
        if sys.platform == "win32":
            return str(msvcrt.getwch()) if msvcrt.kbhit() else ""
        ready = select.select([sys.stdin], [], [], 0)[0]
        return os.read(sys.stdin.fileno(), 1).decode(errors="replace") if ready else ""


def watch(workspace: Workspace, module: Module) -> None:
    """Check a module now and after each change, until Ctrl-C or the key q.

    Raises `TinyTorchError` without watchfiles, for a module that was not started, and beside another `tt watch`.
    """
    try:
        from watchfiles import watch as changes
    except ImportError:
        raise TinyTorchError("tt watch needs the package watchfiles: pip install watchfiles") from None
    if not workspace.state(module):
        raise TinyTorchError(f"module {key(module)} is not in the workspace yet: tt start {key(module)}")
    taken = f"another tt watch runs in {workspace.root}; end it first (key q)"
    with locked(workspace.root / LOCK, taken), Keys() as keys:
        options: dict[str, Any] = {"debounce": 100, "step": 20, "rust_timeout": 100, "yield_on_timeout": True}
        found = changes(workspace.root, raise_interrupt=True, **options)
        next(found, None)  # begins to watch, so that a file that is saved during the first check is not missed
        Watching(workspace, module, keys).run(found)


class Watching:
    """What `tt watch` does: the module that is checked, and what the next key means."""

    def __init__(self, workspace: Workspace, module: Module, keys: Keys) -> None:
        self.workspace, self.module, self.keys = workspace, module, keys
        self.asked = False  # whether r was pressed, and y resets

    def run(self, changes: Iterable[set[tuple[Any, str]]]) -> None:
        """Check, then wait for what comes: an empty set of changes is the moment to look at the keys."""
        self.check()
        for changed in changes:
            mine = {os.path.realpath(path) for path in self.workspace.paths(self.module)}
            if any(os.path.realpath(path) in mine for _, path in changed):
                click.clear()
                self.check()
            pressed = self.keys.pressed()
            if pressed == "q":
                return
            if pressed:
                self.obey(pressed)

    def check(self) -> None:
        """Check the module up to the first exercise that does not pass."""
        self.workspace = Workspace(self.workspace.root)  # other commands may have written its progress
        try:
            commands.check_module(self.workspace, self.module, stop=True)
        except TinyTorchError as error:
            click.echo(f"FAIL  {error}")
        else:
            if not commands.waiting(self.workspace, self.module):
                click.echo(f"{key(self.module)} {self.module.name}: every exercise passes; n goes on")
        click.echo(HELP if self.keys.terminal else "waiting for a change; Ctrl-C ends")

    def obey(self, pressed: str) -> None:
        """Do what a key stands for."""
        asked, self.asked = self.asked, False
        exercise = commands.waiting(self.workspace, self.module)
        if pressed == "y" and asked:
            for path in self.workspace.start(self.module, again=True):
                click.echo(f"wrote {path}")
            self.check()
        elif pressed == "r":
            self.asked = True
            click.echo(f"replace your files of module {key(self.module)}? They are kept in backup/; y replaces them")
        elif pressed == "h":
            told = commands.next_hint(self.workspace, self.module, exercise) if exercise else "every exercise passes"
            click.echo(told)
        elif pressed == "l":
            passed = self.workspace.passed(self.module)
            for line in commands.table(self.module, passed):
                click.echo(line)
        elif pressed == "n":
            self.go_on()
        else:
            click.echo(HELP)

    def go_on(self) -> None:
        """Begin the next module where every exercise of this one passes; else name the exercise to write."""
        exercise = commands.waiting(self.workspace, self.module)
        following = next((m for m in commands.with_exercises() if m.number > self.module.number), None)
        if exercise:
            click.echo(f"write {exercise.name} first; h gives a hint")
        elif following is None:
            click.echo("this is the last module of the installed acts")
        else:
            self.module = following
            for path in self.workspace.start(following):
                click.echo(f"wrote {path}")
            self.check()
