"""Module 20, capstone: the command `tinygpt merge`."""

from __future__ import annotations

from pathlib import Path

import click

from tinygpt.commands.options import NamesOptions, examples, path_option, say
from tt_core.command.common import plugin_option, reported, threads_option
from tt_core.engine.plugins import use


@click.command(
    "merge", cls=NamesOptions, epilog=examples("tinygpt merge runs/talks", "tinygpt merge runs/talks --out merged")
)
@click.argument("adapter", type=path_option)
@click.option("--out", type=path_option, help="the new folder [default: ADAPTER-merged]")
@plugin_option
@threads_option
def command(adapter: Path, out: Path | None, plugins: tuple[str, ...]) -> None:
    """Put a LoRA adapter into the weights of its model.

    ADAPTER is a folder that `tinygpt finetune --lora` or PEFT wrote. The result is a folder in Hugging Face's format.
    Updates are added in float64 and rounded once; how much that changes is printed.
    """
    with use(*plugins, report=False), reported():
        from tinygpt.capstone.merging import merge as job

        say(f"let it write: tinygpt generate {job(adapter, out, say)}")
