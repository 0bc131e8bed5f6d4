"""Module 20, capstone: the command `tinygpt info`."""

from __future__ import annotations

from pathlib import Path

import click

from tinygpt.commands.options import NamesOptions, examples, run_argument


@click.command("info", cls=NamesOptions, epilog=examples("tinygpt info", "tinygpt info runs/my-run --layers"))
@run_argument
@click.option("--layers", is_flag=True, help="list all layers, with shapes, parameters, FLOPs and times")
def command(run_folder: Path | None, layers: bool) -> None:
    """Say what a run holds: model, options, size, last figures.

    RUN is a run folder, or a folder in Hugging Face's format; by default the newest run.
    """
    from tinygpt.capstone.facts import about
    from tinygpt.runs import RunFolder

    for line in about(RunFolder.open(run_folder), layers):
        click.echo(line)
