"""Grades many workspaces: runs the checks over each in a process of its own, and writes tables and a page.

The points depend on the learner's files alone. What a progress file says is ignored.
"""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from tt_core.command.common import PathOption, examples, show_each_line
from tt_core.command.journey import Module
from tt_core.course.commands import in_the_framework, installed
from tt_core.course.exercises import exercises_of, files_of
from tt_core.course.folder import MARK, key
from tt_core.course.imports import wrong_imports
from tt_core.course.judge import Verdict, judge
from tt_core.engine.errors import ArgumentError, FileError
from tt_core.engine.files import check_folder, make_folder, write_atomic


@dataclass
class Grade:
    """What came out for one workspace."""

    name: str
    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)
    """By module number."""
    flags: list[str] = field(default_factory=list)
    """What a teacher should look at."""

    def points(self, number: str) -> int:
        """The points of one module."""
        return sum(verdict.points for verdict in self.verdicts.get(number, ()) if verdict.passed)

    @property
    def total(self) -> int:
        """The points of all modules."""
        return sum(map(self.points, self.verdicts))


def grade(workspace: Path, modules: Sequence[Module], limit: float = 10.0) -> Grade:
    """Check the modules in one workspace, whatever state it is in."""
    result = Grade(workspace.name)
    workspace = root_of(workspace)
    if workspace.name != result.name:
        result.flags.append(f"graded the workspace in the folder {workspace.name}/")
    for module in modules:
        files, unsafe = submitted(workspace, module)
        result.flags += unsafe
        for name, file in files.items():
            result.flags += flags_of(file, name, module)
        verdicts = list(judge(module, files, limit=limit))
        result.verdicts[key(module)] = verdicts
        result.flags += [f"{key(module)} {v.name}: opened the framework's file" for v in verdicts if v.looked_up]
    if not any(submitted(workspace, module)[0] for module in modules):
        result.flags.append("has no file of these modules")
    return result


def root_of(folder: Path) -> Path:
    """The workspace in a learner's folder: itself, or the only folder in it that is one, as an archive may hold it.

    >>> root_of(Path("no-such-folder")).name
    'no-such-folder'
    """
    inside = [path for path in folder.glob(f"*/{MARK}") if not path.parent.is_symlink()]
    return inside[0].parent if len(inside) == 1 and not (folder / MARK).exists() else folder


def submitted(workspace: Path, module: Module) -> tuple[dict[str, Path], list[str]]:
    """The learner's files of a module that lie inside of the workspace, and a flag for each that does not."""
    files, flags = {}, []
    root = workspace.resolve()
    for name in files_of(module):
        file = workspace / f"{key(module)}_{module.name}" / f"{name.rpartition('.')[2]}.py"
        if file.exists() and not file.resolve().is_relative_to(root):
            flags.append(f"{file.relative_to(workspace)} is a link that leads out of the workspace")
        elif file.is_file():
            files[name] = file
    return files, flags


def flags_of(file: Path, name: str, module: Module) -> list[str]:
    """What a teacher should look at in a file: that Python cannot read it, or imports that it must not have."""
    try:
        found = wrong_imports(file.read_text(encoding="utf-8"), module, name, installed())
    except SyntaxError as error:
        return [f"{file.name}, line {error.lineno}: {error.msg}"]
    except UnicodeDecodeError:
        return [f"{file.name} is not UTF-8"]
    except (OSError, ValueError, RecursionError, MemoryError):
        return [f"{file.name} cannot be read"]
    return [f"{file.name} {reference}" for reference in found]


def grade_all(workspaces: Sequence[Path], modules: Sequence[Module], jobs: int, limit: float) -> list[Grade]:
    """Grade the workspaces, `jobs` of them at a time; prints a line for each."""

    def one(workspace: Path) -> Grade:
        result = grade(workspace, modules, limit)
        most = sum(exercise.points for module in modules for exercise in exercises_of(module))
        click.echo(
            f"{result.name:<30} {result.total:>4} of {most}{'  ' + '; '.join(result.flags) if result.flags else ''}"
        )
        return result

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, workspaces))


# --- results


def as_csv(grades: Sequence[Grade], modules: Sequence[Module]) -> str:
    """A row for each workspace: points of each module, total, flags."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *(f"{key(m)} {m.name}" for m in modules), "total", "flags"])
    for one in grades:
        writer.writerow([one.name, *(one.points(key(m)) for m in modules), one.total, "; ".join(one.flags)])
    return text.getvalue()


def as_gradescope(one: Grade) -> dict[str, Any]:
    """One workspace in the format of Gradescope's results.json.

    Source: https://gradescope-autograders.readthedocs.io/en/latest/specs/
    """
    tests = [
        {
            "name": f"{number} {verdict.name}",
            "score": verdict.points if verdict.passed else 0,
            "max_score": verdict.points,
            "status": "passed" if verdict.passed else "failed",
            "output": "\n".join(verdict.lines),
        }
        for number, verdicts in one.verdicts.items()
        for verdict in verdicts
    ]
    return {"score": one.total, "output": "\n".join(one.flags), "tests": tests}


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Grades</title><style>
:root {{ color-scheme: light dark; }} .wide {{ overflow-x: auto; }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }} th, td {{ border-bottom: 1px solid #8884; padding: .3rem .6rem; }}
td, th {{ text-align: right; }} td:first-child, th:first-child, td:last-child, th:last-child {{ text-align: left; }}
td:first-child {{ white-space: nowrap; }} td:last-child {{ min-width: 12rem; }}
summary {{ cursor: pointer; }} pre {{ white-space: pre-wrap; background: #8881; padding: .6rem; }}
</style></head><body><h1>Grades</h1>
<div class="wide"><table><tr><th>workspace</th>{heads}<th>total of {most}</th><th>look at</th></tr>
{rows}</table></div>
<h2>Details</h2>
{details}
</body></html>
"""


def as_page(grades: Sequence[Grade], modules: Sequence[Module]) -> str:
    """All results as one page of HTML, without scripts."""
    most = sum(exercise.points for module in modules for exercise in exercises_of(module))
    return _PAGE.format(
        heads="".join(f"<th>{key(m)} {html.escape(m.name)}</th>" for m in modules),
        most=most,
        rows="\n".join(_row(one, modules) for one in grades),
        details="\n".join(_details(one, most) for one in grades),
    )


def _row(one: Grade, modules: Sequence[Module]) -> str:
    cells = [one.name, *(str(one.points(key(m))) for m in modules), str(one.total), "; ".join(one.flags)]
    return f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"


def _details(one: Grade, most: int) -> str:
    lines = []
    for number, verdicts in one.verdicts.items():
        for verdict in verdicts:
            lines.append(f"{'pass' if verdict.passed else 'FAIL'}  {number} {verdict.name}\n")
            lines += [f"      {line}\n" for line in verdict.lines]
    head = f"{html.escape(one.name)}: {one.total} of {most}"
    return f"<details><summary>{head}</summary><pre>{html.escape(''.join(lines))}</pre></details>"


# --- the command


@click.command(
    "grade", epilog=examples("tt grade submissions", "tt grade submissions --modules 01-07 --jobs 4 --out results.csv")
)
@click.argument("folder", type=PathOption())
@click.option("--out", type=PathOption(), default=Path("results.csv"), help="table of points [default: results.csv]")
@click.option("--modules", "chosen", help="numbers, such as 01-04 or 02,05 [default: all with exercises]")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="workspaces at a time")
@click.option("--limit", type=click.FloatRange(0.1), default=10.0, show_default=True, help="seconds an exercise")
def command(folder: Path, out: Path, chosen: str | None, jobs: int, limit: float) -> None:
    """Grade every workspace in FOLDER.

    Writes a table, a page, and for each workspace a file in Gradescope's format.

    Each exercise runs in a process with limits on time, memory, files and processes, which can neither write outside of
    a folder of its own nor use the network.
    """
    in_the_framework()
    show_each_line()
    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder")
    workspaces = sorted(path for path in folder.iterdir() if path.is_dir())
    if not workspaces:
        raise FileError(f"{folder} holds no folders; put each learner's workspace into one of its own")
    modules = modules_of(chosen, [module for module in installed() if exercises_of(module)])
    check_folder(out.parent)
    grades = grade_all(workspaces, modules, jobs, limit)
    write_atomic(out, as_csv(grades, modules).encode())
    write_atomic(out.with_suffix(".html"), as_page(grades, modules).encode())
    details = make_folder(out.with_suffix(""))
    for one in grades:
        write_atomic(details / f"{one.name}.json", json.dumps(as_gradescope(one), indent=1).encode())
    click.echo(f"wrote {out}, {out.with_suffix('.html')} and {details}/ for {len(grades)} workspaces")


def modules_of(chosen: str | None, modules: Sequence[Module]) -> list[Module]:
    """The modules that a text such as `01-04,07` names; raises `ArgumentError`.

    >>> two = Module(2, "activations", 1, "", "tt_core.activations")
    >>> modules_of("01-03", [two]) == modules_of(None, [two]) == [two]
    True
    """
    if chosen is None:
        return list(modules)
    numbers: set[int] = set()
    for part in chosen.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            raise ArgumentError(f"modules {chosen!r}: pass numbers, such as 01-04 or 02,05")
        numbers |= set(range(int(first), int(last or first) + 1))
    found = [module for module in modules if module.number in numbers]
    if not found:
        raise ArgumentError(f"modules {chosen!r}: none of them is installed and has exercises")
    return found
