"""Module 20, capstone: the command `tinygpt shrink`."""

from __future__ import annotations

from pathlib import Path

import click

from tinygpt.commands.options import NamesOptions, examples, path_option, run_argument, say
from tt_core.command.common import plugin_option, reported, threads_option
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.plugins import use

share = click.FloatRange(0, 1, max_open=True)


@click.command(
    "shrink",
    cls=NamesOptions,
    epilog=examples(
        "tinygpt shrink runs/my-run --neurons 0.5", "tinygpt shrink runs/my-run --neurons 0.25 --heads 0.25 --out small"
    ),
)
@run_argument
@click.option("--neurons", type=share, default=0.5, show_default=True, help="share of the MLPs' neurons to remove")
@click.option("--heads", type=share, default=0.0, show_default=True, help="share of the attention heads to remove")
@click.option("--out", type=path_option, help="the new folder [default: RUN-shrunk]")
@plugin_option
@threads_option
def command(run_folder: Path | None, neurons: float, heads: float, out: Path | None, plugins: tuple[str, ...]) -> None:
    """Remove a model's least important neurons and heads.

    The smaller model is written to a new folder. Prints bytes and time. RUN is a run folder, or a folder in Hugging
    Face's format; by default the newest run with a model.
    """
    amounts = {kind: amount for kind, amount in (("neurons", neurons), ("heads", heads)) if amount}
    if not amounts:
        raise TinyTorchError("nothing to remove: give --neurons or --heads a share above 0")
    with use(*plugins, report=False), reported():
        from tinygpt.capstone.compress import shrink as job

        say(f"let it write: tinygpt generate {job(run_folder, amounts, out, say).path}")
