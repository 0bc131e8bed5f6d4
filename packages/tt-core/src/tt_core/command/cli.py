"""The command `tt`: the journey, its milestones, and the plugins. Later acts add subcommands with `tt_commands`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from tt_core.command.common import PathOption, examples, plugin_option, reported, run, show_each_line, threads_option
from tt_core.command.journey import Milestone, Module, TryIt, deferred
from tt_core.course.commands import add_to as add_course_to
from tt_core.course.commands import milestones, note_milestone, on_formulas, on_learners_code
from tt_core.engine.errors import ArgumentError, FileError, PluginError, TinyTorchError
from tt_core.engine.files import check_folder
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.later import absent_thing
from tt_core.engine.plugins import ACTS_GROUP, available, load, manager, use

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from rich.table import Table


SECTIONS = {
    "The course": "journey init start next check watch hint solution reset use run milestone certificate doctor",
    "Teaching": "grade export-course",
}
"""Commands by the headings under which `tt --help` lists them; all others come last."""


class Sections(click.Group):
    """A group whose help lists the commands under headings, in the order of their use."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            advice = absent_thing("command", args[0], ())
            if advice.startswith("Act"):
                raise TinyTorchError(f"no command is called {args[0]}; {advice}") from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        left = [name for name in self.list_commands(ctx) if not self.commands[name].hidden]
        width = max(map(len, left))
        for heading, names in (*SECTIONS.items(), ("Tools", " ".join(left))):
            rows = [(name, self.commands[name]) for name in names.split() if name in left]
            left = [name for name in left if name not in names.split()]
            with formatter.section(heading):
                limit = formatter.width - width - 4
                formatter.write_dl([(name.ljust(width), command.get_short_help_str(limit)) for name, command in rows])


@click.group(cls=Sections, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tt-core")
def cli() -> None:
    """TinyTorch in six acts: the journey, its milestones, and the plugins."""


@cli.group(invoke_without_command=True, epilog=examples("tt plugins", "tt plugins check jit"))
@click.pass_context
def plugins(context: click.Context) -> None:
    """List the installed plugins.

    The columns are name, distribution, version, hooks and state.
    """
    if context.invoked_subcommand is not None:
        return
    manager.load_pending()  # what TT_PLUGINS names, which otherwise waits for the first op or question
    table = _table("name", "distribution", "version", "hooks", "state")
    for name, entry in available().items():
        dist = entry.dist
        hooks, state = _hooks_and_state(entry)
        table.add_row(name, dist.name if dist else "", dist.version if dist else "", hooks, state)
    _show(table)


@plugins.command(epilog=examples("tt plugins check jit", "tt plugins check formula"))
@click.argument("name")
def check(name: str) -> None:
    """Compare a plugin's kernels with the framework's.

    Compares values on random inputs, and speed. The exit code is 1 if values differ.
    """
    from tt_core.command.checking import check as compared

    for entry in available(
        ACTS_GROUP
    ).values():  # a plugin may bring kernels for the ops of acts that it does not import
        importlib.import_module(entry.module.partition(".")[0])
    rows = compared(name)
    for row in rows:
        click.echo(row)
    if not rows:
        click.echo(f"{name} replaces no kernel")
    different = sum(bool(row.difference) for row in rows)
    if different:
        raise TinyTorchError(f"{name}: {different} of {len(rows)} kernels differ from the framework's")


def _hooks_and_state(entry: EntryPoint) -> tuple[str, str]:
    """The hooks a plugin answers and whether it is plugged in; for one that does not load, its error."""
    try:
        plugin = load(entry)
    except PluginError as error:
        return "", str(error)
    answered = [name for name in dir(plugin) if manager.parse_hookimpl_opts(plugin, name) is not None]
    return " ".join(answered), "active" if manager.has_plugin(entry.name) else "available"


@cli.command(epilog=examples("tt milestone perceptron", "tt milestone mlp --data-dir data --plugin jit"))
@click.argument("name")
@click.option(
    "--data-dir",
    type=PathOption(),
    default=lambda: os.environ.get("TT_DATA_HOME") or None,
    help="folder with data sets, such as mnist/ [default: $TT_DATA_HOME]",
)
@click.option("--out", type=PathOption(), default=Path("milestones"), help="folder for pictures")
@click.option(
    "--tuned", is_flag=True, help="in a workspace: the framework's tuned kernels run in place of your formulas"
)
@plugin_option
@threads_option
def milestone(name: str, data_dir: Path | None, out: Path, tuned: bool, plugins: tuple[str, ...]) -> None:
    """Run a milestone of the journey, and print its result.

    In a workspace it runs on your code for the modules that you have written.
    """
    known = {milestone.name: milestone for milestone in milestones()}
    if name not in known:
        raise TinyTorchError(f"no milestone is called {name}; {absent_thing('milestone', name, known)}")
    chosen = known[name]
    given = click.get_current_context().get_parameter_source("data_dir") is ParameterSource.COMMANDLINE
    if given and data_dir is not None and not os.path.isdir(data_dir):  # a folder in TT_DATA_HOME is made by a download
        raise FileError(f"--data-dir {data_dir}: no such folder")
    check_folder(out)  # now, and not when the training is done
    on_learners_code(tuned)
    with use(*plugins, report=False), reported():
        show_each_line()
        click.echo(f"{chosen.year}: {chosen.title}")
        if chosen.takes:
            click.echo(f"  {chosen.takes}")
        if "minute" in chosen.takes and on_formulas():
            click.echo("  your formulas may take many times as long; with --tuned, the framework's kernels run instead")
        tried = chosen.run(data_dir=None if data_dir is None else Path(data_dir), out=out)
        note_milestone(chosen.name)
        if tried is not None and sys.stdin.isatty() and sys.stdout.isatty():
            offer(tried)


def offer(tried: TryIt) -> None:
    """Let the user try the model, until an empty line."""
    while text := click.prompt(f"try it: {tried.question} (Enter ends)", default="", show_default=False).strip():
        try:
            click.echo(tried.answer(text))
        except ArgumentError as error:
            click.echo(str(error))


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _show(table: Table) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 120  # Rich takes a file or a pipe for 80 wide
    console.print(table)
    console.print()


class Act1Plugin:
    """What Act I itself brings to the journey."""

    @hookimpl
    def tt_modules(self) -> list[Module]:
        return [
            Module(
                1,
                "tensor",
                1,
                "manipulate tensors",
                "tt_core.tensor",
                "arithmetic, matrix products, reshape, slicing, broadcasting",
                "memory layout decides later speed: a view costs nothing, a copy costs the whole array",
                "everything after this module is made of arrays",
            ),
            Module(
                2,
                "activations",
                1,
                "add nonlinearity",
                "tt_core.activations",
                "ReLU, sigmoid, tanh, GELU, softmax",
                "functions that look alike differ in cost and in numerical stability",
                "without them, any number of layers is one matrix",
            ),
            Module(
                3,
                "layers",
                1,
                "build network layers",
                "tt_core.layers",
                "Linear, LayerNorm, Dropout, one interface for all of them",
                "complex systems are simple parts with one interface",
                "a model needs parameters that it can name and save",
            ),
            Module(
                4,
                "losses",
                1,
                "measure loss",
                "tt_core.losses",
                "mean squared error, cross entropy, contrastive losses",
                "the loss shapes the landscape that training walks",
                "one number has to say how wrong a model is",
            ),
        ]

    @hookimpl
    def tt_milestones(self) -> list[Milestone]:
        run = deferred("tt_core.command.milestones:perceptron")
        title = "Rosenblatt's perceptron learns to tell two classes apart"
        takes = "separates 100 points by a line, then judges 1,000 new ones: one second"
        return [Milestone("perceptron", 1957, title, 1, run, takes)]


plugin = Act1Plugin()

add_course_to(cli)


def load_acts() -> None:
    """Plug in what each installed act adds to the command; one that does not load is named and skipped."""
    if not manager.has_plugin("act-1"):
        manager.register(plugin, "act-1")
    for name, entry in available(ACTS_GROUP).items():
        try:
            if not manager.has_plugin(f"act-{name}"):
                manager.register(_load_alone(entry), f"act-{name}")
        except PluginError as error:
            click.echo(f"warning: {error}; skipped", err=True)
    manager.answers("tt_commands", cli=cli)


def _load_alone(entry: EntryPoint) -> object:
    """An act's plugin out of its light module, without the package around it, which takes 0.1 to 0.4 s to import."""
    package, *folders = entry.module.split(".")[:-1] or [entry.module]
    if package not in sys.modules:
        around = importlib.util.find_spec(package)
        places = (around and around.submodule_search_locations) or []
        spec = PathFinder.find_spec(entry.module, [os.path.join(place, *folders) for place in places])
        if spec is not None and spec.loader is not None:
            module = sys.modules[entry.module] = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
            except Exception:
                del sys.modules[entry.module]  # `load` finds the error again and names the plugin
    return load(entry)


def main(arguments: list[str] | None = None) -> int:
    """The command `tt`."""
    load_acts()
    return run(cli, "tt", arguments)


if __name__ == "__main__":
    sys.exit(main())
