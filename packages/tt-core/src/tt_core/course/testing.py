"""Helpers for tests of exercises: a module written with some bodies replaced, and the verdicts on it.

`CourseTests` holds the tests that are alike for all acts. This file is used by tests alone.
"""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tt_core.command.cli import load_acts
from tt_core.command.journey import Module
from tt_core.course.blanks import blank, definitions
from tt_core.course.commands import check_module, module_called
from tt_core.course.exercises import count_of, exercises_of
from tt_core.course.folder import Workspace, blanked, reference_text
from tt_core.course.judge import Verdict, judge
from tt_core.course.process import environment
from tt_core.course.sabotage import sabotages
from tt_core.engine.dispatch import Array


def written(workspace: Workspace, module: Module, bodies: Mapping[str, str]) -> None:
    """Write a module's files with these bodies, and the framework's own text for all other functions.

    A body may have several lines; they are indented as the function's own.
    """
    workspace.start(module)
    by_name = {exercise.name: exercise for exercise in exercises_of(module)}
    for name, path in workspace.files(module).items():
        here = [body for body in bodies if by_name[body].file == name]
        text = blank(reference_text(name), here)
        for exercise in here:
            text = _with_body(text, exercise, bodies[exercise])
        path.write_text(text, encoding="utf-8")


def _with_body(text: str, name: str, body: str) -> str:
    mark = f'raise NotImplementedError("{name}")  # your code here'
    indent = next(line for line in text.splitlines() if mark in line).partition("raise")[0]
    return text.replace(mark, body.replace("\n", f"\n{indent}"))


def verdicts(workspace: Workspace, module: Module, names: Iterable[str] = (), limit: float = 10) -> dict[str, Verdict]:
    """The verdicts on the exercises of a module by name, or on those alone."""
    return {verdict.name: verdict for verdict in judge(module, workspace.files(module), list(names) or None, limit)}


def failures(workspace: Workspace, module: Module) -> dict[str, list[str]]:
    """The exercises that do not pass, with the lines of the verdict."""
    return {name: verdict.lines for name, verdict in verdicts(workspace, module).items() if not verdict.passed}


def described_badly(module: Module) -> list[str]:
    """Exercises that are not in their file, or lack a docstring, a hint, points or a described check; empty if none.

    And helpers that the file needs without the exercise, which would be undefined there.
    """
    found = []
    for exercise in exercises_of(module):
        names = dict(definitions(ast.parse(reference_text(exercise.file))))
        complete = all(exercise.hints) and exercise.points > 0 and bool(exercise.checks)
        described = all(check.__doc__ for check in exercise.checks)
        told = exercise.name in names and ast.get_docstring(names[exercise.name])  # what is left of it by `tt start`
        if not ({exercise.name, *exercise.helpers} <= names.keys() and told and complete and described):
            found.append(exercise.name)
        found += [helper for helper in exercise.helpers if _is_used(helper, blanked(module, exercise.file))]
    return found


def _is_used(name: str, source: str) -> bool:
    """Whether a name without its class occurs in a file."""
    called = name.rpartition(".")[2]
    return any(called in (getattr(node, "id", ""), getattr(node, "attr", "")) for node in ast.walk(ast.parse(source)))


def missed(workspace: Workspace, module: Module, wrong: Mapping[str, Sequence[str]]) -> list[str]:
    """Of wrong bodies by exercise, those that pass, fail without a line that says why, or use a name that is gone.

    At most one function of each file is wrong at a time. Two that are wrong may cancel each other, as two opposite
    signs do, so a body that passes in company is tried alone.
    """
    by_file: dict[str, list[tuple[str, str]]] = {}
    for exercise in exercises_of(module):
        by_file.setdefault(exercise.file, []).extend((exercise.name, body) for body in wrong.get(exercise.name, ()))
    found = []
    for tried in itertools.zip_longest(*by_file.values()):
        bodies = dict(pair for pair in tried if pair is not None)
        passing = _not_blamed(workspace, module, bodies)
        alone = [name for name in passing if _not_blamed(workspace, module, {name: bodies[name]})]
        found += [f"{name}: {bodies[name]}" for name in alone]
    return found


def _not_blamed(workspace: Workspace, module: Module, bodies: Mapping[str, str]) -> list[str]:
    """Of functions with these bodies, those that pass, fail without a line, or fail by a name that is gone."""
    written(workspace, module, bodies)
    found = verdicts(workspace, module, bodies).items()
    gone = {name for name, verdict in found if any(line.startswith("raised    NameError") for line in verdict.lines)}
    return [name for name, verdict in found if verdict.passed or name in gone or not verdict.lines]


def new_workspace(folder: Path) -> Workspace:
    """A workspace in a new folder."""
    return Workspace.create(folder / "journey")


class ModuleTests:
    """Tests that pytest calls once for each module."""

    modules: ClassVar[Mapping[str, Module]]

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Tell pytest the modules, and the bodies that are no solution."""
        if "module" in metafunc.fixturenames:
            metafunc.parametrize("module", self.modules.values(), ids=self.modules.keys())
        if "body" in metafunc.fixturenames:
            metafunc.parametrize("body", [None, "pass", "return None"])


class CourseTests(ModuleTests):
    """The tests that hold for the exercises of each act; a subclass in `tests/test_exercises.py` names its modules.

    `wrong` has plausible wrong bodies by module and exercise, at least six a module, and `right` other right ones.
    """

    wrong: ClassVar[Mapping[str, Mapping[str, Sequence[str]]]]
    right: ClassVar[Mapping[str, Mapping[str, str]]] = {}

    def test_every_exercise_is_in_its_file_with_hints_points_and_checks(self, module: Module) -> None:
        same(4 <= len(exercises_of(module)) <= 14, True)
        same(count_of(module), len(exercises_of(module)))
        same(described_badly(module), [])

    def test_the_frameworks_own_text_passes(self, module: Module, tmp_path: Path) -> None:
        workspace = new_workspace(tmp_path)
        load_acts()
        written(workspace, module, {})
        found = check_module(workspace, module, stop=False, quiet=True)
        same({verdict.name: verdict.lines for verdict in found if not verdict.passed}, {})
        same(len(found), len(exercises_of(module)))

    def test_what_is_not_written_fails_by_name(self, module: Module, body: str | None, tmp_path: Path) -> None:
        workspace = new_workspace(tmp_path)
        names = [exercise.name for exercise in exercises_of(module)]
        if body is None:
            workspace.start(module)
        else:
            written(workspace, module, dict.fromkeys(names, body))
        found = verdicts(workspace, module)
        same(list(found), names)
        same([name for name, verdict in found.items() if verdict.passed or not verdict.lines], [])

    def test_plausible_wrong_solutions_are_caught(self, module: Module, tmp_path: Path) -> None:
        wrong = self.wrong[module.name]
        same(sum(map(len, wrong.values())) >= 6, True)
        same(missed(new_workspace(tmp_path), module, wrong), [])

    def test_a_sample_of_sabotages_is_caught(self, module: Module, tmp_path: Path) -> None:
        exercises = exercises_of(module)
        sample = (exercises[0], exercises[len(exercises) // 2])
        wrong = {exercise.name: list(sabotages(exercise).values())[:2] for exercise in sample}
        same(missed(new_workspace(tmp_path), module, wrong), [])

    def test_other_right_solutions_pass(self, module: Module, tmp_path: Path) -> None:
        workspace = new_workspace(tmp_path)
        written(workspace, module, self.right.get(module.name, {}))
        same(failures(workspace, module), {})


class KnockoutTests(ModuleTests):
    """Each sabotage of each exercise makes its check fail; `nox -s knockouts` runs it, since it takes minutes."""

    harmless: ClassVar[Collection[tuple[str, str]]] = ()
    """Exercises and kinds of sabotage that change nothing, such as another order of what is in random order."""

    def test_each_sabotage_is_caught(self, module: Module, tmp_path: Path) -> None:
        bodies = {exercise.name: sabotages(exercise) for exercise in exercises_of(module)}
        for name, kind in self.harmless:
            bodies.get(name, {}).pop(kind, None)
        wrong = {name: list(each.values()) for name, each in bodies.items()}
        same(missed(new_workspace(tmp_path), module, wrong), [])


class MilestoneTests:
    """A milestone, made small, is reached on the framework's code, and missed when one exercise is sabotaged.

    `nox -s knockouts` runs these tests. A milestone takes minutes, and there are many sabotages, so `small` runs the
    milestone's own code on less data, for fewer steps, with a requirement that is lowered to match.
    """

    small: ClassVar[str]
    """Python text that ends without an error where the milestone is reached; `sys.argv[1]` is a seed."""
    needed: ClassVar[Mapping[str, Sequence[str]]]
    """By module: sabotages with which the milestone is missed, such as "relu zeros"."""
    unnoticed: ClassVar[Mapping[str, str]] = {}
    """Sabotages with which it is reached all the same, such as "04 cross_entropy half", and the reason."""

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Tell pytest the modules."""
        if "number" in metafunc.fixturenames:
            metafunc.parametrize("number", self.needed)

    def test_it_is_reached_on_the_frameworks_code(self, tmp_path: Path) -> None:
        same([seed for seed in range(3) if run_small(self.small, tmp_path, {}, seed)], [])

    def test_it_is_reached_on_a_learners_own_text(self, tmp_path: Path) -> None:
        load_acts()
        workspace, files = new_workspace(tmp_path), {}
        for module in map(module_called, self.needed):
            written(workspace, module, {})
            files.update(workspace.files(module))
        same(run_small(self.small, workspace.root, files), "")

    def test_it_is_missed_on_sabotages(self, number: str, tmp_path: Path) -> None:
        load_acts()
        module, workspace = module_called(number), new_workspace(tmp_path)
        same([each for each in self.needed[number] if _reached(self.small, workspace, module, each)], [])

    def test_what_goes_unnoticed_is_named(self, tmp_path: Path) -> None:
        load_acts()
        workspace = new_workspace(tmp_path)
        split = [each.partition(" ")[::2] for each in self.unnoticed]
        found = [_reached(self.small, workspace, module_called(number), each) for number, each in split]
        same(found, [True] * len(split))


def _reached(small: str, workspace: Workspace, module: Module, sabotage: str) -> bool:
    """Whether a small milestone is reached on a module with a sabotage, such as "relu zeros"."""
    name, _, kind = sabotage.partition(" ")
    exercise = next(exercise for exercise in exercises_of(module) if exercise.name == name)
    written(workspace, module, {name: sabotages(exercise)[kind]})
    return not run_small(small, workspace.root, workspace.files(module))


def run_small(small: str, folder: Path, files: Mapping[str, Path], seed: int = 0) -> str:
    """The last line of what a small milestone says of why it is not reached with these files; "" where it is."""
    environ = {**environment(folder, files), "TT_NUM_THREADS": "1"}
    command = [sys.executable, "-c", small, str(seed)]
    done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, encoding="utf-8", timeout=900)
    return "" if done.returncode == 0 else (done.stderr.strip() or "ended without a word").splitlines()[-1]


class Stripes:
    """Noisy stripes at a random place, in one of four directions: pictures (3, 32, 32) for a milestone made small.

    >>> image, direction = Stripes(count=5, seed=1)[0]
    >>> image.shape, bool(0 <= direction < 4)
    ((3, 32, 32), True)
    """

    def __init__(self, count: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.classes = rng.integers(0, 4, count)
        angle, place = self.classes[:, None, None] * np.pi / 4, rng.uniform(0, 2 * np.pi, (count, 1, 1))
        y, x = np.mgrid[:32, :32]
        waves = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 0.8 + place)[:, None]
        self.images = (0.5 + 0.2 * waves + rng.normal(0, 0.1, (count, 3, 32, 32))).astype(np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Array, int]:
        return self.images[index], self.classes[index]


def same(found: object, expected: object) -> None:
    """Fail a test where two values differ; pytest explains `assert` in files of tests alone, and this is none."""
    if found != expected:
        raise AssertionError(f"{found!r}, expected {expected!r}")
