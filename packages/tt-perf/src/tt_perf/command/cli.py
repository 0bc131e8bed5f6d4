"""What Act V adds to the command `tt`: the rows of its modules, `tt profile`, `tt compare`, `tt jit`, `tt olympics`.

Imports nothing heavy.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tt_core.command.common import PathOption, examples, show_each_line, threads_option
from tt_core.command.journey import Milestone, Module, deferred
from tt_core.engine.errors import FileError, TinyTorchError
from tt_core.engine.files import check_folder, in_order, make_folder, write_atomic
from tt_core.engine.hookspecs import hookimpl

if TYPE_CHECKING:
    from tt_core.samples import Samples


class ActPlugin:
    """Answers the hooks that list the journey."""

    @hookimpl
    def tt_modules(self) -> list[Module]:
        return [
            Module(
                14,
                "profiling",
                5,
                "find where time and memory go",
                "tt_perf.profiling",
                "a profiler by op and layer, FLOPs, memory, a roofline",
                "the bottleneck is rarely where one thinks",
                "before anything is made faster, it is measured",
            ),
            Module(
                15,
                "quantization",
                5,
                "store weights as small integers",
                "tt_perf.quantization",
                "8-bit and 4-bit weights, calibration",
                "a quarter of the bytes costs little accuracy if the scale is right",
                "weights fill the memory, and few of their bits matter",
            ),
            Module(
                16,
                "compression",
                5,
                "remove what a model does not need",
                "tt_perf.compression",
                "pruning, low rank, distillation",
                "zeros in a dense array save nothing; removed rows save time and bytes",
                "most of a trained model can go",
            ),
            Module(
                17,
                "memoization",
                5,
                "cache what was computed",
                "tt_perf.memoization",
                "a cache of keys and values, memoized ops",
                "generation goes from quadratic to linear, and a stale cache is a wrong answer",
                "each new token repeats the work of all tokens before it",
            ),
            Module(
                18,
                "acceleration",
                5,
                "compile loops to vector instructions",
                "tt_perf.acceleration",
                "plain loops, compiled loops, blocks that stay in the cache, threads",
                "the same formula runs ten times as fast where data stays in the cache",
                "NumPy reads and writes memory once for each operation",
            ),
            Module(
                19,
                "benchmarking",
                5,
                "measure without fooling myself",
                "tt_perf.benchmarking",
                "timers, intervals, comparisons in turn, the Torch Olympics",
                "a difference without an interval is noise",
                "claims of speed need proof",
            ),
        ]

    @hookimpl
    def tt_samples(self) -> dict[str, Samples]:
        from tt_perf.samples import SAMPLES

        return SAMPLES

    @hookimpl
    def tt_milestones(self) -> list[Milestone]:
        run = deferred("tt_perf.command.milestones:systems")
        takes = (
            "makes a GPT and a network of pictures 4 times smaller and faster, and measures it: 2 minutes on two cores"
        )
        title = "A trained model becomes a system: small, fast, and no worse"
        return [Milestone("systems", 2024, title, 5, run, takes)]

    @hookimpl
    def tt_commands(self, cli: click.Group) -> None:
        cli.add_command(profile)
        cli.add_command(kernels)
        cli.add_command(jit)
        cli.add_command(compare)
        cli.add_command(olympics)


plugin = ActPlugin()


@click.group(epilog=examples("tt jit warm"))
def jit() -> None:
    """Manage the kernels that the plugin jit compiles."""


@jit.command(epilog=examples("tt jit warm"))
def warm() -> None:
    """Compile all kernels of the plugin jit now.

    Numba keeps them on disk, so that no later run waits for the compiler.
    """
    from tt_perf.acceleration.compiling import warm as compile_all

    click.echo(compile_all())


def _sets(plugins: Sequence[str]) -> list[list[str]]:
    """Each `--plugin` is a contestant; `jit+kv-cache` is one with both."""
    return [names.split("+") for names in plugins]


contestants = click.option(
    "--plugin", "plugins", multiple=True, metavar="NAME", help="a contestant beside no plugin; NAME+NAME for several"
)
rounds = click.option("--rounds", type=click.IntRange(5, 1000), default=15, show_default=True, help="turns of each")
own_model = click.option("--model", type=PathOption(), help="a model of yours, written by olympic_task.save_model")


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog=examples("tt profile -- tinygpt train --preset tiny", "tt profile --out report -- python train.py"),
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--out", type=PathOption(), default=Path("profile"), show_default=True, help="folder for the pictures")
@click.option("--rows", type=click.IntRange(1, 1000), default=15, show_default=True, help="rows of each table")
@click.option("--memory/--no-memory", default=True, show_default=True, help="watch what tensors hold")
@click.option("--stack/--no-stack", default=True, show_default=True, help="tell source lines apart")
def profile(command: tuple[str, ...], out: Path, rows: int, memory: bool, stack: bool) -> None:
    """Run COMMAND under the profiler.

    COMMAND is a command of tt or tinygpt, `python script.py`, or `python -m module`. Prints what took the time and what
    bounds it, and writes a flame graph, a roofline, a memory timeline and a trace.
    """
    from tt_perf.profiling.running import profile_command

    check_folder(out)
    code = profile_command(command, out, rows, memory, stack)
    if code:
        raise click.exceptions.Exit(code)


@click.command(epilog=examples("tt kernels", "tt kernels matmul layer_norm --size 256"))
@click.argument("ops", nargs=-1, metavar="[OP]...")
@click.option("--plugin", "plugins", multiple=True, metavar="NAME", help="whose kernels [default: naive, jit, capture]")
@click.option("--size", type=click.IntRange(16, 4096), default=128, show_default=True, help="of the usual calls")
@click.option("--rounds", type=click.IntRange(1, 1000), default=15, show_default=True, help="turns of each form")
@click.option("--json", "path", type=PathOption(), metavar="FILE", help="write the table as JSON")
@threads_option
def kernels(ops: tuple[str, ...], plugins: tuple[str, ...], size: int, rounds: int, path: Path | None) -> None:
    """Compare the implementations of each OP.

    These are naive loops, the formula, NumPy's kernel and the compiled one; the table has time, limit and error.
    """
    import tt_perf  # noqa: F401 - registers the ops of all acts
    from tt_perf.command.kernels import compare_kernels

    if path is not None:
        check_folder(path.parent)

    def measured(names: Sequence[str]) -> Iterator[str]:
        if not sys.stderr.isatty():
            yield from names
            return
        with click.progressbar(names, label="measuring", file=sys.stderr, item_show_func=lambda name: name) as bar:
            yield from bar

    table = compare_kernels(ops, plugins or None, size, rounds, through=measured)
    click.echo(str(table))
    if path is not None:
        table.save(path)


@click.command(epilog=examples("tt compare", "tt compare mlp-step --plugin jit --plugin jit+capture"))
@click.argument("job", required=False)
@contestants
@rounds
@click.option("--out", type=PathOption(), help="folder for comparison.json and distribution.svg")
@threads_option
def compare(job: str | None, plugins: tuple[str, ...], rounds: int, out: Path | None) -> None:
    """Measure a job without plugins and with each one.

    The measurements take turns. Without JOB, the built-in jobs are listed.
    """
    from tt_perf.benchmarking.charts import comparison_chart
    from tt_perf.benchmarking.jobs import JOBS, compare_plugins

    if job is None:
        for known in JOBS.values():
            click.echo(f"{known.name:<10} {known.what}")
        return
    if out is not None:
        check_folder(out)
    result = compare_plugins(job, _sets(plugins), rounds=rounds)
    click.echo(str(result))
    if out is not None:
        result.save(make_folder(out) / "comparison.json")
        write_atomic(out / "distribution.svg", comparison_chart(result, job).encode())


@click.group(epilog=examples("tt olympics run --plugin jit", "tt olympics board results"))
def olympics() -> None:
    """Rank plugins by speed and size: the Torch Olympics.

    A plugin enters the ranking only if its results are right.
    """


@olympics.command("run", epilog=examples("tt olympics run", "tt olympics run --plugin jit --plugin int8"))
@contestants
@own_model
@rounds
@click.option("--out", type=PathOption(), default=Path("olympics"), show_default=True, help="folder for the result")
@threads_option
def run_olympics(plugins: tuple[str, ...], model: Path | None, rounds: int, out: Path) -> None:
    """Hold all events and write a result file."""
    from tt_perf.benchmarking.olympics import run
    from tt_perf.benchmarking.results import podium

    check_folder(out)
    show_each_line()
    result = run(_sets(plugins), model, rounds, click.echo)
    click.echo("\n".join(podium({entry.name: entry for entry in result.entries}, result.entries[0])))
    path = make_folder(out) / time.strftime("result-%Y%m%d-%H%M%S.json")
    result.save(path)
    click.echo(f"the result is {path}; tt olympics verify {path} measures it again")


@olympics.command(
    "verify", epilog=examples("tt olympics verify result.json", "tt olympics verify result.json --rounds 30")
)
@click.argument("file", type=PathOption())
@own_model
@rounds
def verify_result(file: Path, model: Path | None, rounds: int) -> None:
    """Measure a result FILE again.

    The exit code is 1 if the file was edited or its figures do not hold.
    """
    from tt_perf.benchmarking.olympics import verify

    show_each_line()
    differences = verify(file, model, rounds, click.echo)
    if differences:
        raise TinyTorchError(f"{file} does not hold: {'; '.join(differences)}")
    click.echo(f"{file} holds")


@olympics.command("board", epilog=examples("tt olympics board", "tt olympics board results"))
@click.argument("folder", type=PathOption(), default=Path("olympics"))
def show_board(folder: Path) -> None:
    """Rank all results in FOLDER, and write leaderboard.svg there."""
    from tt_perf.benchmarking.results import leaderboard

    if not os.path.isdir(folder):
        raise FileError(f"{folder}: no such folder")
    lines, picture = leaderboard(in_order(folder.glob("*.json")))
    click.echo("\n".join(lines))
    write_atomic(folder / "leaderboard.svg", picture.encode())
