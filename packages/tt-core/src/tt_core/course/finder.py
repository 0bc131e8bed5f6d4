"""Puts a learner's files in the place of the framework's modules, by an import finder. Uses only the standard library.

`tt_core` looks at the environment as it is imported: where TT_WORKSPACE names a workspace, the finder comes first on
`sys.meta_path`, and `import tt_core.activations` reads the learner's file. Nothing is patched, and nothing is copied
into the installed packages. Processes that the learner's program starts inherit the environment, so they do the same.
"""

from __future__ import annotations

import ast
import json
import opcode
import os
import sys
from collections.abc import Callable, Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

WORKSPACE = "TT_WORKSPACE"
"""The variable that names the workspace's folder."""
FILES = "TT_WORKSPACE_FILES"
"""A JSON object of module names and files, which are used in place of those that the progress file names."""
TUNED = "TT_WORKSPACE_TUNED"
"""Set to 1, the framework's tuned kernels run in place of the learner's formulas."""
PROGRESS = "progress.json"


class WorkspaceError(ImportError):
    """A learner's file that cannot be imported, in one line."""


def files_in_use(workspace: Path) -> dict[str, Path]:
    """The learner's files by the dotted names of the modules whose place they take."""
    modules = read_progress(workspace).get("modules", {}).values()
    used = [state.get("files", {}) for state in modules if state.get("use") == "mine"]
    return {name: workspace / file for files in used for name, file in files.items()}


def read_progress(workspace: Path) -> dict[str, Any]:
    """The progress file, or the copy beside it where the file is damaged; empty where both are."""
    for name in (PROGRESS, f"{PROGRESS}.bak"):
        try:
            progress = json.loads((workspace / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(progress, dict) and isinstance(progress.get("modules"), dict):
            return progress
    return {}


class LearnersFiles(MetaPathFinder):
    """Finds the learner's file for each module name in `files`."""

    def __init__(self, files: dict[str, Path]) -> None:
        self.files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The learner's file, or None for the finders that come after this one."""
        file = self.files.get(fullname)
        if file is None:
            return None
        framework = PathFinder.find_spec(fullname, path)
        return spec_from_file_location(fullname, file, loader=_Loader(fullname, str(file), framework))


class _Loader(SourceFileLoader):
    """Runs a learner's file; the public names that it lacks come from the framework's, with a notice."""

    def __init__(self, name: str, path: str, framework: ModuleSpec | None) -> None:
        super().__init__(name, path)
        self.framework = framework

    def exec_module(self, module: ModuleType) -> None:
        try:
            super().exec_module(module)
        except WorkspaceError:  # another file of the learner's, which the message names
            raise
        except Exception as error:
            raise WorkspaceError(f"{self.path}: {_told(error, self.path)}") from error
        if self.framework is not None and self.framework.origin and self._lacks_something(module):
            self._complete(module, Path(self.framework.origin))

    def _lacks_something(self, module: ModuleType) -> bool:
        """Whether the framework's compiled file binds a public name that the learner's does not.

        Parsing its text takes 2 ms a file, and this a tenth of that.
        """
        loader = self.framework.loader if self.framework else None
        code = loader.get_code(self.name) if isinstance(loader, SourceFileLoader) else None
        if code is None:
            return True
        return any(not name.startswith("_") for name in bound_by(code) - vars(module).keys())

    def _complete(self, module: ModuleType, framework: Path) -> None:
        """Run those statements of the framework's file that define what the learner's file lacks."""
        tree = ast.parse(framework.read_text(encoding="utf-8"))
        lacking = {name for statement in tree.body for name in defined(statement)} - vars(module).keys()
        own = {name for s in tree.body if not isinstance(s, ast.Import | ast.ImportFrom) for name in defined(s)}
        public = sorted(name for name in lacking & own if not name.startswith("_"))
        if not public:
            return
        tree.body = [s for s in tree.body if _needed(s, lacking)]
        exec(compile(tree, str(framework), "exec"), vars(module))  # noqa: S102 - the framework's own file
        print(f"{self.path} does not define {', '.join(public)}; the framework's are used", file=sys.stderr)


def _needed(statement: ast.stmt, lacking: set[str]) -> bool:
    if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
        return True
    return bool(set(defined(statement)) & lacking)


def defined(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top of a file binds.

    >>> [
    ...     list(defined(statement))
    ...     for statement in ast.parse("import os.path as p, re\\ndef f(): ...\\nx, y = 1, 2").body
    ... ]
    [['p', 're'], ['f'], ['x', 'y']]
    """
    if isinstance(statement, ast.Import | ast.ImportFrom):
        yield from ((alias.asname or alias.name.partition(".")[0]) for alias in statement.names)
    elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))


def _told(error: Exception, path: str) -> str:
    """An error in a learner's file as one line with its place."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{f'line {line}: ' if line else ''}{type(error).__name__}: {error}"


def bound_by(code: CodeType) -> set[str]:
    """The names that the code of a file binds at its top, other than by imports, read from the bytecode.

    >>> sorted(bound_by(compile("import re\\nfrom os import sep\\ndef f(): y = 1\\nx.z = w = 2", "", "exec")))
    ['f', 'w']
    """
    found, argument, before = set(), 0, -1
    for operation, low in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        argument = argument << 8 | low
        if operation == opcode.EXTENDED_ARG:
            continue
        if operation == opcode.opmap["STORE_NAME"] and before not in _IMPORTS:
            found.add(code.co_names[argument])
        argument, before = 0, operation
    return found


_IMPORTS = (opcode.opmap["IMPORT_NAME"], opcode.opmap["IMPORT_FROM"])


active: LearnersFiles | None = None
"""The finder at work in this process."""


def activate() -> None:
    """Put the finder first where the environment names a workspace; once in a process."""
    global active
    folder = os.environ.get(WORKSPACE)
    if folder and active is None:
        given = json.loads(os.environ.get(FILES, "null"))
        files = files_in_use(Path(folder)) if given is None else {name: Path(file) for name, file in given.items()}
        active = LearnersFiles(files)
        sys.meta_path.insert(0, active)
        sys.excepthook = _one_line


def unwritten(error: BaseException | None) -> BaseException | None:
    """The NotImplementedError that was raised first of those that led to `error`, or None.

    >>> try:
    ...     try:
    ...         raise NotImplementedError("add")
    ...     except NotImplementedError as error:
    ...         raise ValueError("the plugin failed") from error
    ... except ValueError as error:
    ...     unwritten(error)
    NotImplementedError('add')
    """
    while error is not None and not isinstance(error, NotImplementedError):
        error = error.__cause__
    return error


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the line of a `WorkspaceError`, and that of an exercise that is not written yet, without a traceback."""
    missing = unwritten(error)
    file = _last_file(missing)
    if issubclass(kind, WorkspaceError):
        print(f"error: {error}", file=sys.stderr)
    elif active and file in {str(path) for path in active.files.values()}:
        number = Path(file).parent.name[:2]  # of the folder, such as 02_activations
        how = f"tt use reference {number if number.isdigit() else 'MODULE'}"
        print(f"error: {missing} is not written yet ({file}); write it, or use the framework's: {how}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _last_file(error: BaseException | None) -> str:
    """The file in which an error was raised."""
    trace = error.__traceback__ if error else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename if trace else ""


def moved(old: str | None, new: str | None) -> bool:
    """Whether two files of one module of the journey define the same thing since the learner's is older than a move.

    One of the two dotted names is that of a learner's file, and the other that of a file of the framework.

    >>> moved("tt_data.spatial.pooling", "tt_data.spatial.pooling_indices")  # no learner's file is in use
    False
    """
    if active is None or not old or not new or (old in active.files) == (new in active.files):
        return False
    return old.split(".")[:2] == new.split(".")[:2]


def runs_as_written(function: Callable[..., Any]) -> bool:
    """Whether a function comes from a learner's file, and so runs itself in place of the framework's tuned kernel."""
    return active is not None and function.__module__ in active.files and os.environ.get(TUNED) != "1"


activate()  # here, since `tt_core` imports this file before all others
