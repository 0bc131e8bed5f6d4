"""Module 20, capstone: the command `tinygpt prune`."""

from __future__ import annotations

from pathlib import Path

import click

from tinygpt.commands.options import NamesOptions, examples, path_option, run_argument, say
from tt_core.command.common import plugin_option, reported, threads_option
from tt_core.engine.plugins import use


@click.command(
    "prune",
    cls=NamesOptions,
    epilog=examples("tinygpt prune runs/my-run --amount 0.5", "tinygpt prune runs/my-run --amount 0.5 --method wanda"),
)
@run_argument
@click.option(
    "--amount",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="share of the weights that become zero",
)
@click.option(
    "--method",
    type=click.Choice(["magnitude", "wanda", "random"]),
    default="magnitude",
    show_default=True,
    help="by size; by size times input (Wanda); at random",
)
@click.option("--out", type=path_option, help="the new folder [default: RUN-pruned]")
@plugin_option
@threads_option
def command(run_folder: Path | None, amount: float, method: str, out: Path | None, plugins: tuple[str, ...]) -> None:
    """Set a model's least important weights to zero.

    Zeros save neither bytes nor time; `tinygpt shrink` does. The pruned model is written to a new folder, with its
    loss on the held-out text before and after, if the folder names its text. RUN is a run folder, or a folder in
    Hugging Face's format; by default the newest run with a model.
    """
    with use(*plugins, report=False), reported():
        from tinygpt.capstone.compress import prune as job

        say(f"let it write: tinygpt generate {job(run_folder, amount, method, out, say).path}")
