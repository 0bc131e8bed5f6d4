"""Module 20, capstone: the command `tinygpt info`."""

from __future__ import annotations

from pathlib import Path

import click

from tinygpt.commands.options import NamesOptions, examples, run_argument
from tt_core.engine.errors import TinyTorchError


@click.command("info", cls=NamesOptions, epilog=examples("tinygpt info", "tinygpt info runs/my-run"))
@run_argument
def command(run_folder: Path | None) -> None:
    """Say what a run holds: model, options, last figures."""
    from tinygpt.runs import RunFolder

    folder = RunFolder.open(run_folder)
    config = folder.read_config()
    parts = {"model": config} if "model_type" in config else config  # in Hugging Face's format, all is of the model
    click.echo(f"run: {folder.path}")
    for part in ("model", "training", "corpus", "versions"):
        entries = parts.get(part, {})
        if not isinstance(entries, dict):
            raise TinyTorchError(f"{folder.config} is damaged: {part} is no object")
        told = ", ".join(f"{name}={value}" for name, value in entries.items() if value is not None)
        click.echo(f"{part}: {told or 'unknown'}")
    click.echo(f"last figures: {folder.last_figures() or 'none'}")
