"""Checks a learner's functions. The verdict is made here, in a process that never imports the learner's code.

A child process runs the learner's functions (`child`) and sends back what they returned. The same checks run here on
the framework's code, and the two records are compared. So a function that prints PASSED, ends the process, patches
NumPy or returns an object that equals everything earns nothing; an endless loop costs the time limit of one exercise.
"""

from __future__ import annotations

import ast
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tt_core.command.journey import Module
from tt_core.course import child
from tt_core.course.blanks import definitions
from tt_core.course.compare import explained
from tt_core.course.exercises import Exercise, exercises_of
from tt_core.course.process import Child, Failed, Record
from tt_core.course.trial import Raised, Seen, attempt
from tt_core.engine.plugins import use

LIMIT = 10.0
"""Seconds that one exercise may take."""


@dataclass
class Verdict:
    """What came out for one exercise."""

    name: str
    points: int
    passed: bool
    lines: list[str] = field(default_factory=list)
    """Why it did not pass, in terms of the exercise."""
    unwritten: bool = False
    """Whether it still raises NotImplementedError."""
    seconds: float | None = None
    """Time of one call of the learner's function, where it is measured."""
    reference: float | None = None
    """Time of the same call of the framework's formula."""
    looked_up: bool = False
    """Whether the learner's code opened the framework's file."""


def judge(
    module: Module, files: Mapping[str, Path], names: Sequence[str] | None = None, limit: float = LIMIT
) -> Iterator[Verdict]:
    """A verdict for each exercise of a module, in order; `names` for those alone.

    `files` are the learner's files by the dotted names of the modules whose place they take. The result depends on them
    and on nothing else in the workspace.
    """
    exercises = [x for x in exercises_of(module) if names is None or x.name in names]
    defined = {name: definitions_in(file) for name, file in files.items() if file.is_file()}
    waiting = []
    for exercise in exercises:
        found = defined.get(exercise.file, "there is no file of yours for it")
        if isinstance(found, str):
            yield Verdict(exercise.name, exercise.points, passed=False, lines=[found], unwritten=True)
        elif exercise.name not in found:
            line = f"your file does not define {exercise.name}, so the framework's would run; it earns no points"
            yield Verdict(exercise.name, exercise.points, passed=False, lines=[line], unwritten=True)
        else:
            waiting.append(exercise)
    seed = secrets.randbelow(1 << 31)
    while waiting:
        with Child(module, files, waiting, seed) as process:
            for exercise in list(waiting):
                waiting.remove(exercise)
                verdict, alive = _verdict(exercise, process, seed, limit)
                yield verdict
                if not alive:  # the next exercises get a new process
                    break


def definitions_in(file: Path) -> set[str] | str:
    """The functions and classes that a learner's file defines, or why it cannot be read."""
    try:
        return {name for name, _ in definitions(ast.parse(file.read_text(encoding="utf-8")))}
    except SyntaxError as error:
        return f"{file.name}, line {error.lineno}: {error.msg}"
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        return f"cannot read {file.name}: {error}"


def _verdict(exercise: Exercise, process: Child, seed: int, limit: float) -> tuple[Verdict, bool]:
    """The verdict on one exercise, and whether the process can go on."""
    verdict = Verdict(exercise.name, exercise.points, passed=False)
    record = Record()
    try:
        ended = process.collect(exercise.name, record, limit)
    except Failed as failure:
        verdict.lines = [str(failure)]
        if record.check is None:
            return verdict, False
        found = _first_difference(exercise, record, seed)
        verdict.lines = [*found[:2], str(failure)] if found else verdict.lines
        return verdict, False
    verdict.lines = _first_difference(exercise, record, seed)
    verdict.unwritten = any(r is not None and _unwritten(r) == exercise.name for r in record.raised)
    verdict.looked_up = record.looked_up
    if record.looked_up and not verdict.lines:
        verdict.lines = ["your code opened the framework's own file of this module; write the function yourself"]
    verdict.passed = ended and not verdict.lines
    verdict.seconds = record.seconds
    if verdict.passed and exercise.timed:
        with use("formula"):
            verdict.reference = child.seconds_of(exercise.timed)
    return verdict, ended


def _first_difference(exercise: Exercise, record: Record, seed: int) -> list[str]:
    """The first thing that differs from the framework's record, explained; empty where nothing does."""
    for number, check in enumerate(exercise.checks):
        expected: list[Seen] = []
        failed = attempt(check, seed, expected.append)
        if failed is not None:
            raise RuntimeError(f"check {check.__name__} of {exercise.name} fails on the framework: {failed}")
        got = record.seen[number] if number < len(record.seen) else []
        title = " ".join((check.__doc__ or check.__name__).split())
        for wanted, found in zip(expected, got, strict=False):
            difference = explained(wanted, found)
            if difference:
                return [title, *difference]
        raised = record.raised[number] if number < len(record.raised) else None
        if raised is not None:
            return [title, *_told(raised, exercise.name)]
        if len(got) < len(expected):
            return [title, f"called    {expected[len(got)].call}", "expected  a result"]
    return []


def _unwritten(raised: Raised) -> str:
    """The name of the exercise that `tt start` left to be written and that was called; "" for any other error."""
    named = raised.kind == "NotImplementedError" and raised.message.replace(".", "").isidentifier()
    return raised.message if named else ""


def _told(raised: Raised, exercise: str) -> list[str]:
    if _unwritten(raised) == exercise:
        return ["not written yet"]
    if name := _unwritten(raised):
        return [f"it needs {name}, which is not written yet"]
    where = f" ({raised.place})" if raised.place else ""
    lines = [f"called    {raised.call}"] if raised.call else []
    lines.append(f"raised    {raised.kind}: {raised.message}{where}")
    return [*lines, *([f"look at   {raised.why}"] if raised.why else [])]
