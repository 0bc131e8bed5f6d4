"""Writes a course for a teacher: handouts with exercises, the instructor's copy, and the checks."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import click

from tt_core.command.common import PathOption, examples
from tt_core.command.journey import Module
from tt_core.course.blanks import solution
from tt_core.course.commands import installed
from tt_core.course.exercises import Exercise, exercises_of, files_of
from tt_core.course.folder import Workspace, key, reference_text
from tt_core.course.grading import modules_of
from tt_core.engine.errors import FileError, TinyTorchError
from tt_core.engine.files import check_folder, make_folder, write_atomic


@click.command(
    "export-course",
    epilog=examples("tt export-course course", "tt export-course course --modules 01-07 --notebooks"),
)
@click.argument("folder", type=PathOption())
@click.option("--modules", "chosen", help="numbers, such as 01-07 [default: all with exercises]")
@click.option("--notebooks", is_flag=True, help="write handouts as notebooks too (needs jupytext)")
def command(folder: Path, chosen: str | None, notebooks: bool) -> None:
    """Write the files of a course into FOLDER.

    `handouts/` is a workspace for learners, `instructor/` has solutions and hints, `checks/` has the
    programs of the checks.
    """
    modules = modules_of(chosen, [module for module in installed() if exercises_of(module)])
    if folder.exists() and any(folder.iterdir()):
        raise FileError(f"{folder} is not empty; name a new folder")
    check_folder(folder)
    handouts = Workspace.create(folder / "handouts")
    for module in modules:
        handouts.start(module)
        for path, text in instructors_files(module).items():
            target = folder / "instructor" / path
            make_folder(target.parent)
            write_atomic(target, text.encode())
        spec = importlib.util.find_spec(f"{module.path.partition('.')[0]}.exercises.{module.name}")
        if spec and spec.origin:
            make_folder(folder / "checks")
            write_atomic(folder / "checks" / f"{key(module)}_{module.name}.py", Path(spec.origin).read_bytes())
        if notebooks:
            write_notebooks(handouts, module)
    exercises = sum(len(exercises_of(module)) for module in modules)
    click.echo(f"wrote {folder}: {len(modules)} modules with {exercises} exercises")


def instructors_files(module: Module) -> dict[str, str]:
    """The framework's files of a module, and a page with the hints, points and solutions of its exercises."""
    name = f"{key(module)}_{module.name}"
    files = {f"{name}/{file.rpartition('.')[2]}.py": reference_text(file) for file in files_of(module)}
    exercises = exercises_of(module)
    points = sum(exercise.points for exercise in exercises)
    head = f"# {key(module)} {module.name}: {module.capability}\n\nIt builds {module.builds}. {points} points.\n"
    files[f"{name}/README.md"] = head + "".join(_page(exercise) for exercise in exercises)
    return files


def _page(exercise: Exercise) -> str:
    hints = "".join(f"{number}. {hint}\n" for number, hint in enumerate(exercise.hints, 1))
    checks = "".join(f"- {' '.join((check.__doc__ or '').split())}\n" for check in exercise.checks)
    texts = [solution(reference_text(exercise.file), name) for name in (*exercise.helpers, exercise.name)]
    code = "\n\n".join(texts)
    title = f"\n## {exercise.name} ({exercise.points} points)\n\n"
    return f"{title}Hints:\n\n{hints}\nChecks:\n\n{checks}\n```python\n{code}\n```\n"


def write_notebooks(handouts: Workspace, module: Module) -> None:
    """Write each handout as a notebook beside the file, with a cell for each definition; needs jupytext."""
    try:
        import jupytext
    except ImportError:
        raise TinyTorchError("--notebooks needs the package jupytext: pip install jupytext") from None
    for path in handouts.paths(module):
        notebook = jupytext.reads(in_cells(path.read_text(encoding="utf-8")), fmt="py:percent")
        write_atomic(path.with_suffix(".ipynb"), jupytext.writes(notebook, fmt="ipynb").encode())


def in_cells(source: str) -> str:
    """A file in the percent format of notebooks: its docstring as text, then a cell for each definition.

    >>> print(in_cells('\"\"\"Title.\"\"\"\\nimport math\\ndef f(): ...'))
    # %% [markdown]
    # Title.
    <BLANKLINE>
    # %%
    import math
    <BLANKLINE>
    # %%
    def f(): ...
    <BLANKLINE>
    """
    tree, lines = ast.parse(source), source.splitlines()
    starts = [_first_line(node) for node in tree.body]
    definitions = [start for node, start in zip(tree.body, starts, strict=True) if isinstance(node, _DEFINITIONS)]
    docstring = ast.get_docstring(tree)
    first = (tree.body[0].end_lineno or 0) if docstring else 0
    bounds = sorted({first, *(start for start in definitions if start > first), len(lines)})
    cells = ["\n".join(lines[a:b]).strip("\n") for a, b in pairwise(bounds)]
    title = "".join(f"# {line}".rstrip() + "\n" for line in (docstring or "").splitlines())
    text = [f"# %% [markdown]\n{title}"] if docstring else []
    return "\n".join([*text, *(f"# %%\n{cell}\n" for cell in cells if cell)])


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _first_line(node: ast.stmt) -> int:
    """The line before a statement with its decorators, counted from 0."""
    decorators: Sequence[ast.expr] = getattr(node, "decorator_list", ())
    return min([node.lineno, *(decorator.lineno for decorator in decorators)]) - 1
