"""The course's commands of `tt`: init, start, check, hint, solution, reset, next, use, run, watch."""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tt_core.command.common import PathOption, examples, plugin_option, show_each_line, threads_option
from tt_core.command.journey import Milestone, Module
from tt_core.course import finder
from tt_core.engine.errors import FileError, TinyTorchError
from tt_core.engine.later import absent_thing
from tt_core.engine.plugins import use as use_plugins
from tt_core.engine.threads import get_num_threads

if TYPE_CHECKING:
    from tt_core.course.exercises import Exercise
    from tt_core.course.folder import Workspace
    from tt_core.course.judge import Verdict


def installed() -> list[Module]:
    """The modules of the acts that are installed, in order."""
    from tt_core.engine.plugins import manager

    found = [module for answer in manager.answers("tt_modules") for module in answer]
    return sorted(found, key=lambda module: module.number)


def milestones() -> list[Milestone]:
    """The milestones of the acts that are installed, in order of their years."""
    from tt_core.engine.plugins import manager

    found = [milestone for answer in manager.answers("tt_milestones") for milestone in answer]
    return sorted(found, key=lambda milestone: milestone.year)


def module_called(name: str) -> Module:
    """The module of a number or name, such as `2`, `02` or `activations`; raises `TinyTorchError` for another."""
    modules = installed()
    for module in modules:
        if name in (module.name, str(module.number), f"{module.number:02}"):
            return module
    known = [module.name for module in modules]
    raise TinyTorchError(f"no module is called {name}; {absent_thing('module', name.zfill(2), known)}")


class ModuleArgument(click.ParamType):  # type: ignore[type-arg] # generic since click 8.2
    """A module by its number or name."""

    name = "module"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Module:
        return value if isinstance(value, Module) else module_called(str(value))


MODULE = ModuleArgument()


@click.command(epilog=examples("tt init my-journey", "tt init"))
@click.argument("folder", type=PathOption(), required=False)
def init(folder: Path | None) -> None:
    """Make a workspace, the folder in which you write your modules.

    Without FOLDER, the current folder becomes one; it must be empty then.
    """
    from tt_core.course.folder import MARK, Workspace

    here = Path.cwd()
    if folder is None and any(here.iterdir()) and not (here / MARK).exists():
        raise TinyTorchError("this folder is not empty; make a new one: tt init my-journey")
    workspace = Workspace.create(folder or here)
    first = next((module for module in installed() if _exercises(module)), None)
    click.echo(f"made {workspace.root}")
    if first:
        go = f"cd {workspace.root} && " if folder else ""
        click.echo(f"begin with: {go}tt start {first.number:02}")


@click.command(epilog=examples("tt start 02", "tt start activations"))
@click.argument("module", type=MODULE)
def start(module: Module) -> None:
    """Write a module's files, with functions for you to write.

    They go into the module's folder of the workspace. Files that are there already are kept.
    """
    from tt_core.course.folder import Workspace, key

    workspace = Workspace.find()
    written = workspace.start(module)
    for path in written:
        click.echo(f"wrote {_shown(path)}")
    for path in [path for path in workspace.paths(module) if path not in written]:
        click.echo(f"kept {_shown(path)} (to begin again: tt reset {key(module)})")
    for line in table(module):
        click.echo(line)
    click.echo(f"then: tt check {key(module)}")


def table(module: Module, passed: Sequence[str] = ()) -> Iterator[str]:
    """The exercises of a module with their points, under the files that hold them where these are several."""
    from tt_core.course.exercises import files_of

    files = files_of(module)
    for file in files:
        if len(files) > 1:
            yield f"{file.rpartition('.')[2]}.py"
        for exercise in _exercises(module):
            if exercise.file == file:
                mark = "  pass" if exercise.name in passed else ""
                yield f"  {exercise.name:<32} {exercise.points} points{mark}"


@click.command(epilog=examples("tt check 02", "tt check 02 relu softmax --all"))
@click.argument("module", type=MODULE, required=False)
@click.argument("exercises", nargs=-1)
@click.option("--all", "every", is_flag=True, help="go on after the first exercise that does not pass")
@click.option("--json", "as_json", is_flag=True, help="print the verdicts as JSON")
def check(module: Module | None, exercises: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Check your functions of a module, from easy to hard.

    With EXERCISES, only these functions are checked; without MODULE, the module that you are working on. The exit code
    is 1 if a function fails.
    """
    in_the_framework()
    from tt_core.course.folder import Workspace, key

    show_each_line()
    workspace = Workspace.find()
    module = module or _current(workspace)
    for earlier in installed():
        if earlier.number < module.number and workspace.changed(earlier):
            try:
                _recheck(workspace, earlier)
            except TinyTorchError as error:  # its file cannot be checked; this module's can
                click.echo(f"{key(earlier)} {earlier.name} changed: {error}")
    names = [_exercise_called(name, workspace, [module])[1].name for name in exercises]
    verdicts = check_module(workspace, module, stop=not every and not as_json, quiet=as_json, names=names)
    passed = all(verdict.passed for verdict in verdicts) and len(verdicts) == len(names or _exercises(module))
    if as_json:
        import json

        click.echo(json.dumps([vars(verdict) for verdict in verdicts], indent=1))
    elif passed and not names:
        click.echo(f"{key(module)} {module.name}: all {len(verdicts)} exercises pass. I can {module.capability}.")
    if not passed:
        raise click.exceptions.Exit(1)


def _recheck(workspace: Workspace, module: Module) -> None:
    """Check an earlier module whose file changed; only what no longer passes is told."""
    before = set(workspace.passed(module))
    broken = before - {v.name for v in check_module(workspace, module, stop=False, quiet=True) if v.passed}
    for name in sorted(broken):
        click.echo(
            f"{module.number:02} {module.name} changed, and {name} no longer passes: tt check {module.number:02}"
        )


def check_module(
    workspace: Workspace, module: Module, stop: bool, quiet: bool = False, names: Sequence[str] = ()
) -> list[Verdict]:
    """Check a module, or some of its exercises, print each verdict, and note the results."""
    from tt_core.course.judge import judge

    _look_at_imports(workspace, module)
    verdicts = []
    for verdict in judge(module, workspace.files(module), names or None):
        verdicts.append(verdict)
        if not quiet:
            _print(verdict)
        if stop and not verdict.passed:
            if not quiet:
                click.echo(f"      {_where(workspace, module, verdict.name)}; a hint: tt hint {verdict.name}")
            break
    workspace.note(module, {verdict.name: verdict.passed for verdict in verdicts})
    return verdicts


def _look_at_imports(workspace: Workspace, module: Module) -> None:
    """Raise for files that are missing, do not parse, or import what comes later in the journey."""
    from tt_core.course.folder import key
    from tt_core.course.imports import wrong_imports

    workspace.started(module)
    for name, path in workspace.files(module).items():
        try:
            source = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise FileError(f"{_shown(path)} is gone; bring it back: tt start {key(module)}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"cannot read {_shown(path)}: {error}") from None
        try:
            found = wrong_imports(source, module, name, installed())
        except SyntaxError as error:
            raise TinyTorchError(f"{_shown(path)}, line {error.lineno}: {error.msg}") from None
        if found:
            raise TinyTorchError(f"{_shown(path)} {found[0]}; a module may use only what came before it")


def _where(workspace: Workspace, module: Module, name: str) -> str:
    """The file and the line at which a learner writes an exercise."""
    from tt_core.course.blanks import line_of

    exercise = next(exercise for exercise in _exercises(module) if exercise.name == name)
    path = workspace.files(module)[exercise.file]
    try:
        line = line_of(path.read_text(encoding="utf-8"), name)
    except (OSError, ValueError):
        line = None
    return f"in       {_shown(path)}{f', line {line}' if line else ''}"


def _print(verdict: Verdict) -> None:
    mark = click.style("pass", fg="green") if verdict.passed else click.style("FAIL", fg="red")
    speed = ""
    if verdict.seconds is not None and verdict.reference:
        speed = f"  {verdict.seconds * 1e3:.2f} ms; the framework's formula {verdict.reference * 1e3:.2f} ms"
    click.echo(f"{mark}  {verdict.name:<32} {verdict.points} points{speed}")
    for line in verdict.lines:
        click.echo(f"      {line}")


@click.command(epilog=examples("tt hint", "tt hint softmax"))
@click.argument("exercise", required=False)
def hint(exercise: str | None) -> None:
    """Show the next hint for an exercise.

    The first hints are small, the last is an outline. Without EXERCISE, the first exercise that does not pass yet is
    meant.
    """
    from tt_core.course.folder import Workspace

    workspace = Workspace.find()
    if exercise is None:
        module = _current(workspace)
        found = waiting(workspace, module) or _exercises(module)[-1]
    else:
        module, found = _exercise_called(exercise, workspace)
    click.echo(next_hint(workspace, module, found))


def next_hint(workspace: Workspace, module: Module, exercise: Exercise) -> str:
    """The next hint of an exercise, which is noted as shown."""
    hints = workspace.started(module)["hints"]
    shown = min(hints.get(exercise.name, 0) + 1, len(exercise.hints))
    hints[exercise.name] = shown
    workspace.save()
    return f"{exercise.name} {shown}/{len(exercise.hints)}  {exercise.hints[shown - 1]}"


def waiting(workspace: Workspace, module: Module) -> Exercise | None:
    """The first exercise of a module that has not passed; None where all have."""
    passed = workspace.passed(module)
    return next((exercise for exercise in _exercises(module) if exercise.name not in passed), None)


def with_exercises() -> Iterator[Module]:
    """The installed modules that have exercises, in order."""
    return (module for module in installed() if _exercises(module))


@click.command(epilog=examples("tt solution relu", "tt solution Linear.forward --yes"))
@click.argument("exercise")
@click.option("--yes", is_flag=True, help="do not ask")
def solution(exercise: str, yes: bool) -> None:
    """Show how the framework writes a function.

    Your progress notes that you looked.
    """
    from tt_core.course.blanks import solution as text_of
    from tt_core.course.folder import Workspace, reference_text

    workspace = Workspace.find()
    module, found = _exercise_called(exercise, workspace)
    if not yes:
        click.confirm(f"Show the solution of {found.name}? It will be noted in your progress.", abort=True)
    looked = workspace.started(module)["solutions"]
    if found.name not in looked:
        looked.append(found.name)
        workspace.save()
    for name in (*found.helpers, found.name):
        click.echo(text_of(reference_text(found.file), name))


@click.command(epilog=examples("tt reset 02", "tt reset 02 --yes"))
@click.argument("module", type=MODULE)
@click.option("--yes", is_flag=True, help="do not ask")
def reset(module: Module, yes: bool) -> None:
    """Begin a module again with empty exercises.

    Your files are kept in the folder `backup`.
    """
    from tt_core.course.folder import Workspace

    workspace = Workspace.find()
    workspace.started(module)
    if not yes:
        click.confirm(f"Replace your files of module {module.number:02}? They are kept in backup/.", abort=True)
    for path in workspace.start(module, again=True):
        click.echo(f"wrote {_shown(path)}")


@click.command("next", epilog=examples("tt next"))
def next_() -> None:
    """Say what to do next."""
    from tt_core.course.folder import Workspace, key

    workspace = Workspace.find()
    left = _left(workspace)
    open_acts = {module.act for module in left}
    reached = workspace.progress.get("milestones", {})
    ready = (each for each in milestones() if each.name not in reached and each.act not in open_acts)
    if milestone := next(ready, None):
        click.echo(f"act {milestone.act} is done; run its milestone on your code: tt milestone {milestone.name}")
    elif (module := _to_write(workspace, left)) is None:
        click.echo("every exercise of the installed acts passes; see: tt journey")
    elif not workspace.state(module):
        click.echo(f"begin module {key(module)} {module.name}: tt start {key(module)}")
    elif exercise := waiting(workspace, module):
        path = workspace.files(module).get(exercise.file, workspace.folder(module))
        click.echo(f"write {exercise.name} in {_shown(path)}, then: tt check {key(module)}")


def _left(workspace: Workspace) -> list[Module]:
    """The installed modules of which some exercise has not passed; their packages are not imported."""
    from tt_core.course.exercises import count_of

    return [module for module in installed() if len(workspace.passed(module)) < count_of(module)]


def _to_write(workspace: Workspace, left: Sequence[Module]) -> Module | None:
    """Of the modules that are left, the one to go on with: one that is started, or else the next, or None at the end.

    Someone may begin in the middle, with a module that a teacher handed out: then those before it come last.
    """
    first = min((module.number for module in installed() if workspace.state(module)), default=0)
    return min(left, key=lambda m: (not workspace.state(m), m.number < first, m.number), default=None)


@click.command(epilog=examples("tt use reference 02", "tt use mine 02 --file my_activations.py"))
@click.argument("whose", type=click.Choice(["mine", "reference"]))
@click.argument("module", type=MODULE)
@click.option("--file", type=PathOption(), help="a file of yours, written from nothing, that takes the module's place")
def use(whose: str, module: Module, file: Path | None) -> None:
    """Choose whose code runs for a module.

    `mine` is your file, `reference` the framework's.
    """
    from tt_core.course.folder import Workspace, key

    workspace = Workspace.find()
    if file is not None:
        workspace.adopt(module, file)
    workspace.started(module)["use"] = whose
    workspace.save()
    click.echo(
        f"{key(module)} {module.name}: {'your file' if whose == 'mine' else 'the framework'} is used from now on"
    )


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog=examples("tt run train.py", "tt run --plugin profiler tinygpt train --preset tiny"),
)
@click.option("--tuned", is_flag=True, help="let the framework's tuned kernels run in place of your formulas")
@plugin_option
@threads_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(command: tuple[str, ...], tuned: bool, plugins: tuple[str, ...]) -> None:
    """Run a program on your code.

    COMMAND is a Python file, or a command such as `tinygpt train`. Modules that you have not written come from the
    framework.
    """
    from tt_core.course.folder import Workspace

    workspace = Workspace.find()
    with use_plugins(*plugins, report=False):  # an error here for one that does not load
        click.echo(whose_code(workspace), err=True)
    raise click.exceptions.Exit(run_on(workspace, command, tuned, plugins))


def run_on(workspace: Workspace, command: Sequence[str], tuned: bool = False, plugins: Sequence[str] = ()) -> int:
    """Run a command with the learner's files in place, and with plugins; returns its exit code."""
    from tt_core.course.process import environment

    environ = {**environment(workspace.root, tuned=tuned), "TT_NUM_THREADS": str(get_num_threads())}
    wanted = [*filter(None, os.environ.get("TT_PLUGINS", "").split(",")), *plugins]
    if wanted:
        environ["TT_PLUGINS"] = ",".join(wanted)
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    name = command[0]
    if name.endswith(".py"):
        whole = [sys.executable, *command]
    elif name in ("python", "python3", sys.executable):
        whole = [sys.executable, *command[1:]]
    else:
        found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
        if found is None:
            raise TinyTorchError(f"no command is called {name}; pass a Python file, or a command such as tinygpt")
        whole = [found, *command[1:]]
    sys.stdout.flush()
    if os.name != "nt":
        os.execve(whole[0], whole, environ)
    return subprocess.run(whole, env=environ).returncode


def on_learners_code(tuned: bool = False) -> None:
    """Run this command on the learner's code where a workspace is around the current folder; else do nothing."""
    from tt_core.course.folder import Workspace

    if finder.active is not None:
        return
    try:
        workspace = Workspace.find()
    except TinyTorchError:
        return
    if finder.files_in_use(workspace.root):
        click.echo(whose_code(workspace), err=True)
        raise click.exceptions.Exit(
            run_on(workspace, [sys.executable, "-m", "tt_core.command.cli", *sys.argv[1:]], tuned)
        )


def on_formulas() -> bool:
    """Whether this process runs a learner's formulas in place of the framework's tuned kernels."""
    return finder.active is not None and bool(finder.active.files) and os.environ.get(finder.TUNED) != "1"


def note_milestone(name: str) -> None:
    """Keep that a milestone was reached on the learner's formulas, and with which of their modules."""
    from tt_core.course.folder import Workspace

    if finder.active is not None and finder.active.files and not on_formulas():
        click.echo("it ran with the framework's tuned kernels, so it is not noted as run on your code")
    elif finder.active is not None and finder.active.files:
        workspace = Workspace.find()
        workspace.progress.setdefault("milestones", {})[name] = sorted(finder.active.files)
        workspace.save()


def whose_code(workspace: Workspace) -> str:
    """Which modules run from the learner's files, in one line."""
    mine = [m for m in installed() if workspace.state(m).get("use") == "mine"]
    if not mine:
        return "yours: nothing yet; the framework's code runs"
    named = ", ".join(f"{m.number:02} {m.name}" for m in mine)
    return f"yours: {named}; all else is the framework's"


@click.command(epilog=examples("tt watch", "tt watch 02"))
@click.argument("module", type=MODULE, required=False)
def watch(module: Module | None) -> None:
    """Check a module each time you save it.

    Keys: n next, h hint, l list, r reset, q quit.
    """
    in_the_framework()
    from tt_core.course.folder import Workspace
    from tt_core.course.watching import watch as watched

    show_each_line()
    workspace = Workspace.find()
    watched(workspace, module or _current(workspace))


def _exercises(module: Module) -> tuple[Exercise, ...]:
    from tt_core.course.exercises import exercises_of

    return exercises_of(module)


def _exercise_called(
    name: str, workspace: Workspace, modules: Sequence[Module] | None = None
) -> tuple[Module, Exercise]:
    """The exercise of a name, such as `softmax`, `02.softmax`, or `forward` for `Linear.forward`.

    It is looked for in the modules that are started, then in all, whose packages take seconds to import.
    """
    every = installed() if modules is None else modules
    started = [module for module in every if workspace.state(module)]
    for some in (started, every):
        known: dict[str, tuple[Module, Exercise]] = {}
        pairs = [(module, exercise) for module in some for exercise in _exercises(module)]
        for short in (False, True):  # a whole name before a method's without its class
            for module, exercise in pairs:
                called = exercise.name.rpartition(".")[2] if short else exercise.name
                for alias in (called, f"{module.number:02}.{called}", f"{module.name}.{called}"):
                    known.setdefault(alias, (module, exercise))
        if name in known:
            return known[name]
    names = {exercise.name.rpartition(".")[2]: exercise.name for _, exercise in pairs}
    near = difflib.get_close_matches(name.rpartition(".")[2], names, 1)
    advice = f"did you mean {names[near[0]]}?" if near else "`tt start 02` lists those of module 02"
    raise TinyTorchError(f"no exercise is called {name}; {advice}")


def _current(workspace: Workspace) -> Module:
    """The first module that is started and not passed, or the last that is started."""
    started = [module for module in installed() if workspace.state(module)]
    if not started:
        raise TinyTorchError("no module is started; begin with: tt start 01")
    unfinished = [m for m in started if len(workspace.passed(m)) < len(_exercises(m))]
    return (unfinished or started[-1:])[0]


def in_the_framework() -> None:
    """Run the same command again without the learner's files where this process uses them: the judge must not."""
    if finder.active is None:
        return
    hidden = {finder.WORKSPACE, finder.FILES, finder.TUNED}
    root = os.environ[finder.WORKSPACE]
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run([sys.executable, "-m", "tt_core.command.cli", *sys.argv[1:]], env=environ, cwd=root)
    raise click.exceptions.Exit(done.returncode)


def _shown(path: Path) -> str:
    """A path as the user would write it from the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def add_to(cli: click.Group) -> None:
    """Add the commands to `tt`."""
    from tt_core.course.certificate import certificate
    from tt_core.course.doctor import doctor
    from tt_core.course.export import command as export_course
    from tt_core.course.grading import command as grade
    from tt_core.course.map import journey

    teaching = (grade, export_course)
    for command in (journey, doctor, init, start, check, hint, solution, reset, next_, use, run, watch, certificate):
        cli.add_command(command)
    for command in teaching:
        cli.add_command(command)
