"""A learner's workspace: a folder with their files, `journey.toml`, and `progress.json`.

journey/
  README.md  journey.toml  progress.json
  02_activations/activations.py        the module's file, bodies of the exercises to be written
  02_activations/backup/               what `tt reset` replaced
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tt_core.command.journey import Module
from tt_core.course import finder
from tt_core.course.blanks import blank
from tt_core.course.exercises import exercises_of, files_of
from tt_core.engine.errors import FileError, TinyTorchError
from tt_core.engine.files import make_folder, write_atomic, write_json

MARK = "journey.toml"
FORMAT = 1

_README = """\
# My journey

Each module is a folder with the framework's own file, in which the bodies of some functions are yours to write.

    tt start 02      write the module's file here, with the exercises to be solved
    tt check 02      check your functions, from easy to hard
    tt hint softmax  a hint, from a nudge to an outline
    tt run first.py  run a program on your code
    tt journey       where you are

Your files take the place of the framework's when a program runs with `tt run`, or begins with
`import tt_core.workspace`.
"""


class Workspace:
    """A workspace that exists, with its progress."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.progress: dict[str, Any] = brought_up(finder.read_progress(root))
        if self.progress["format"] > FORMAT:
            raise TinyTorchError(f"{root} was made by a newer version of tt-core; upgrade: pip install -U tt-core")

    @classmethod
    def find(cls, start: Path | None = None) -> Workspace:
        """The workspace around `start` (the current folder); raises `TinyTorchError` where there is none."""
        here = (start or Path.cwd()).absolute()
        named = os.environ.get(finder.WORKSPACE)
        for folder in (*([Path(named)] if named and start is None else []), here, *here.parents):
            if (folder / MARK).is_file():
                return cls(folder)
        raise TinyTorchError(f"no workspace in {here} or above; make one: tt init my-journey, then cd my-journey")

    @classmethod
    def create(cls, root: Path) -> Workspace:
        """A new workspace in `root`; raises `FileError` where one exists, or the folder cannot be written to."""
        if (root / MARK).exists():
            raise FileError(f"{root} is a workspace already; continue with: tt journey")
        make_folder(root)
        versions = f'format = {FORMAT}\n\n[versions]\ntt-core = "{version("tt-core")}"\n'
        for name, text in (("README.md", _README), (MARK, versions)):
            if not (root / name).exists():
                write_atomic(root / name, text.encode())
        workspace = cls(root)
        workspace.save()
        return workspace

    def save(self) -> None:
        """Write the progress file; the copy beside it holds the state before."""
        path = self.root / finder.PROGRESS
        if path.is_file():
            write_atomic(path.with_name(f"{finder.PROGRESS}.bak"), path.read_bytes())
        write_json(path, self.progress, indent=1, sort_keys=True)

    # --- one module

    def state(self, module: Module) -> dict[str, Any]:
        """What is kept of a module; empty where it has not been started."""
        found: dict[str, Any] = self.progress["modules"].get(key(module), {})
        return found

    def folder(self, module: Module) -> Path:
        """The module's folder in the workspace."""
        return self.root / f"{key(module)}_{module.name}"

    def start(self, module: Module, again: bool = False) -> list[Path]:
        """Write the module's files with the exercises to be solved; returns their paths.

        Files that are there already stay, unless `again`: then they go to the folder `backup` first. Raises
        `TinyTorchError` for a module without exercises.
        """
        if not exercises_of(module):
            raise TinyTorchError(f"module {key(module)} {module.name} has no exercises")
        written, files = [], {}
        for name in files_of(module):
            path = self.folder(module) / f"{name.rpartition('.')[2]}.py"
            files[name] = path.relative_to(self.root).as_posix()
            if path.exists() and not again:
                continue
            if path.exists():
                self._back_up(path)
            make_folder(path.parent)
            write_atomic(path, blanked(module, name).encode())
            written.append(path)
        state = self.progress["modules"].setdefault(key(module), {"passed": {}, "hints": {}, "solutions": []})
        state.update(use="mine", files=files)
        self.save()
        return written

    def _back_up(self, path: Path) -> None:
        folder = make_folder(path.parent / "backup")
        stamp = time.strftime("%Y%m%d-%H%M%S")
        number = sum(1 for _ in folder.glob(f"{path.stem}-{stamp}*"))
        write_atomic(folder / f"{path.stem}-{stamp}{f'-{number}' if number else ''}.py", path.read_bytes())

    def started(self, module: Module) -> dict[str, Any]:
        """What is kept of a module; raises `TinyTorchError` where it has not been started."""
        if not self.state(module):
            raise TinyTorchError(f"module {key(module)} is not in the workspace yet: tt start {key(module)}")
        return self.state(module)

    def adopt(self, module: Module, file: Path) -> None:
        """Let a file that was written from nothing take the module's place; raises `FileError` where there is none."""
        if not file.is_file():
            raise FileError(f"{file}: no such file")
        names = files_of(module) or (module.path,)
        if len(names) > 1:
            raise TinyTorchError(f"module {key(module)} has {len(names)} files, so one file cannot take its place")
        path = Path(os.path.relpath(file.absolute(), self.root)).as_posix()
        state = self.progress["modules"].setdefault(key(module), {"passed": {}, "hints": {}, "solutions": []})
        state.update(files={names[0]: path})

    def files(self, module: Module) -> dict[str, Path]:
        """The learner's files of a module, by the dotted names of the modules whose place they take."""
        noted = self.state(module).get("files", {})
        own = {name: f"{self.folder(module).name}/{name.rpartition('.')[2]}.py" for name in files_of(module)}
        return {name: self.root / str(noted.get(name, file)) for name, file in own.items()}

    def paths(self, module: Module) -> list[Path]:
        """The learner's files of a module that was started."""
        return list(self.files(module).values()) if self.state(module) else []

    def digest(self, module: Module) -> str:
        """A name for the present text of the learner's files."""
        digest = hashlib.sha256()
        for path in self.paths(module):
            digest.update(path.read_bytes() if path.is_file() else b"\0")
        return digest.hexdigest()[:16]

    def note(self, module: Module, results: dict[str, bool]) -> None:
        """Keep which exercises passed with the files as they are now."""
        state = self.state(module)
        names = {exercise.name for exercise in exercises_of(module)}  # some may have had another name before
        state["passed"] = {name: passed for name, passed in {**state["passed"], **results}.items() if name in names}
        state["digest"] = self.digest(module)
        self.save()

    def passed(self, module: Module) -> list[str]:
        """The exercises of a module that passed with the learner's own code."""
        return [name for name, passed in self.state(module).get("passed", {}).items() if passed]

    def changed(self, module: Module) -> bool:
        """Whether the learner's files changed since they were checked."""
        state = self.state(module)
        return "digest" in state and state["digest"] != self.digest(module)


def brought_up(progress: dict[str, Any]) -> dict[str, Any]:
    """Progress as this version writes it: what an older version did not keep yet is there, and empty.

    >>> brought_up({"modules": {"02": {"passed": {"relu": True}, "use": "mine"}}})["modules"]["02"]["hints"]
    {}
    """
    modules = {}
    for name, state in progress.get("modules", {}).items():
        if isinstance(state, dict):
            modules[name] = {"passed": {}, "hints": {}, "solutions": [], "use": "mine", "files": {}, **state}
    written = progress.get("format", FORMAT)
    return {**progress, "format": written if isinstance(written, int) else FORMAT, "modules": modules}


def key(module: Module) -> str:
    """A module's number in two digits.

    >>> key(Module(2, "activations", 1, "", "tt_core.activations"))
    '02'
    """
    return f"{module.number:02}"


def blanked(module: Module, name: str) -> str:
    """The text of one file as a learner gets it: without the bodies of the module's exercises."""
    here = [exercise for exercise in exercises_of(module) if exercise.file == name]
    helpers = [helper for exercise in here for helper in exercise.helpers]
    return blank(reference_text(name), [exercise.name for exercise in here], helpers)


def reference_text(name: str) -> str:
    """The framework's own text of a Python module, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise TinyTorchError(f"{name} is not installed")
    return Path(spec.origin).read_text(encoding="utf-8")
