"""Part of module 14: `tt profile -- COMMAND`: runs a command in this process under the profiler, and shows the result.

A command is one of ours (`tt`, `tinygpt`) or Python's: `python script.py`, `python -m module`. What it prints and its
exit code stay its own; the report comes after it, also when it fails or is interrupted.
"""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path

import click

from tt_core.engine.errors import FileError, did_you_mean
from tt_core.engine.files import make_folder, write_atomic
from tt_core.engine.hookspecs import hookimpl
from tt_perf.profiling.averages import microseconds, size
from tt_perf.profiling.profiler import Profiler
from tt_perf.profiling.watching import ProfilerError

OURS = ("tt", "tinygpt")
_PYTHON = "python"
_LONG = 0.05  # of the whole time: a beginning worth a line of the report


def profile_command(command: Sequence[str], out: Path, rows: int, memory: bool, stack: bool) -> int:
    """Run `command`, write pictures to the folder `out`, print tables of `rows` rows; returns the exit code.

    Raises `ProfilerError` for a command that cannot be run here, `FileError` for a script that is not there.
    """
    run = _runner(command)
    profiler = _Silent(profile_memory=memory, with_stack=stack)
    with profiler:
        code = _exit_code(run)
    report(profiler, out, rows)
    return code


class _Silent(Profiler):
    """A profiler whose report the measured command does not print."""

    @hookimpl
    def tt_report(self) -> str | None:
        return None


def report(profiler: Profiler, out: Path, rows: int) -> None:
    """Print the table, the verdicts and the peak of memory, and write the files."""
    if not profiler.entries():
        click.echo("no op and no layer of the framework ran, so there is nothing to show", err=True)
        return
    table = profiler.key_averages(group_by_stack_n=int(profiler.with_stack))
    click.echo(table.table(sort_by="self_cpu_time_total", row_limit=rows))
    recording = profiler._read()
    if recording.ns_before > _LONG * recording.ns:
        begun, whole = microseconds(recording.ns_before / 1e3), microseconds(recording.ns / 1e3)
        click.echo(f"The first op began after {begun} of {whole}; until then the program read and prepared.")
    verdicts = profiler.verdicts()
    if verdicts:
        click.echo(f"\nWhat bounds each op, on this machine with {verdicts[0].machine}:")
        seconds = sum(each.seconds for each in verdicts)
        for each in verdicts[:rows]:
            click.echo(f"{each.seconds / seconds:6.1%}  {each}")
    if profiler.memory is not None and profiler.memory.samples:
        click.echo(f"\nTensors held {size(profiler.memory.peak.total)} at most")
    click.echo(f"written: {', '.join(str(path) for path in write_pictures(profiler, out))}")
    if recording.dropped:
        click.echo(f"the trace holds the last {len(recording.events):,} events; {recording.dropped:,} came before")


def write_pictures(profiler: Profiler, out: Path) -> list[Path]:
    """Write trace, stacks and pictures into the folder `out`; returns their paths."""
    folder = make_folder(out)
    pictures: dict[str, Callable[[], str]] = {"flame.svg": profiler.flame_graph}
    if any(each.flops and each.bytes_moved for each in profiler.verdicts()):
        pictures["roofline.svg"] = profiler.roofline
    if profiler.memory is not None and profiler.memory.samples:
        pictures["memory.svg"] = profiler.memory_timeline
    for name, draw in pictures.items():
        write_atomic(folder / name, draw().encode())
    profiler.export_chrome_trace(folder / "trace.json")
    profiler.export_stacks(folder / "stacks.txt")
    return [folder / name for name in (*pictures, "trace.json", "stacks.txt")]


def _runner(command: Sequence[str]) -> Callable[[], object]:
    """A function that runs the command; raises for one that cannot be run, before anything is measured."""
    name, *arguments = command
    program = Path(name).name.removesuffix(".exe")
    if program in OURS:
        found = {entry.name: entry for entry in entry_points(group="console_scripts") if entry.name == program}
        if program not in found:
            raise ProfilerError(f"profile: {program} is not installed in this environment")
        return lambda: found[program].load()(arguments)
    if name.endswith(".py"):
        return _script(name, arguments)
    if not program.startswith(_PYTHON):
        near = did_you_mean(program, [*OURS, "python script.py"])
        raise ProfilerError(f"profile: cannot run {name!r:.60} in this process; {near}")
    if arguments[:1] == ["-m"] and len(arguments) > 1:
        return lambda: _with_arguments(arguments[1:], lambda: runpy.run_module(arguments[1], None, "__main__", True))
    if not arguments or arguments[0].startswith("-"):
        raise ProfilerError("profile: python needs a script, or -m and a module; its other options have no effect here")
    return _script(arguments[0], arguments[1:])


def _script(path: str, arguments: list[str]) -> Callable[[], object]:
    if not os.path.isfile(path):
        raise FileError(f"profile: {path}: no such file")
    return lambda: _with_arguments([path, *arguments], lambda: runpy.run_path(path, run_name="__main__"), path)


def _with_arguments(arguments: list[str], run: Callable[[], object], script: str | None = None) -> object:
    """Run with `sys.argv` and `sys.path` as Python sets them for a program."""
    before = sys.argv, sys.path[:]
    sys.argv = list(arguments)
    sys.path.insert(0, os.getcwd() if script is None else os.path.dirname(os.path.abspath(script)))
    try:
        run()
        return 0
    finally:
        sys.argv, sys.path[:] = before


def _exit_code(run: Callable[[], object]) -> int:
    """The program's exit code; its error is printed as Python prints it."""
    try:
        code = run()
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        return 1
    if isinstance(code, str):
        click.echo(code, err=True)
        return 1
    return int(code) if isinstance(code, int) else 0
