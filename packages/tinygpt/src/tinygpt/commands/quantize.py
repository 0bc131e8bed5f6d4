"""Module 20, capstone: the command `tinygpt quantize`."""

from __future__ import annotations

from pathlib import Path

import click

from tinygpt.commands.options import NamesOptions, examples, path_option, run_argument, say
from tt_core.command.common import plugin_option, reported, threads_option
from tt_core.engine.plugins import use


@click.command(
    "quantize",
    cls=NamesOptions,
    epilog=examples(
        "tinygpt quantize runs/my-run --int8", "tinygpt quantize runs/my-run --int4 --group-size 32 --out small"
    ),
)
@run_argument
@click.option("--int8", "bits", flag_value=8, type=int, default=8, help="8 bits, a quarter of the bytes [default]")
@click.option("--int4", "bits", flag_value=4, type=int, help="4 bits, a seventh of the bytes")
@click.option("--group-size", type=int, help="weights that share a scale, for --int4: 32, 64 or 128 [default: 64]")
@click.option("--out", type=path_option, help="the new folder [default: RUN-int8 or RUN-int4]")
@plugin_option
@threads_option
def command(
    run_folder: Path | None, bits: int, group_size: int | None, out: Path | None, plugins: tuple[str, ...]
) -> None:
    """Store a model's weights as small integers in a new folder.

    Prints bytes, error and time.
    """
    with use(*plugins, report=False), reported():
        from tinygpt.capstone.compress import quantize as job

        say(f"let it write: tinygpt generate {job(run_folder, bits, group_size, out, say).path}")
