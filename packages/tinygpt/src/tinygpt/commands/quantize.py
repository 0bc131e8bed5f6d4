"""Module 20, capstone: the command `tinygpt quantize`."""

from __future__ import annotations

from pathlib import Path

import click

from tinygpt.commands.options import NamesOptions, examples, path_option, run_argument, say
from tt_core.command.common import plugin_option, reported, threads_option
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.plugins import use


@click.command(
    "quantize",
    cls=NamesOptions,
    epilog=examples(
        "tinygpt quantize runs/my-run --int8", "tinygpt quantize runs/my-run --int4 --group-size 32 --out small"
    ),
)
@run_argument
@click.option("--int8", is_flag=True, help="8 bits, a quarter of the bytes [default]")
@click.option("--int4", is_flag=True, help="4 bits, a seventh of the bytes")
@click.option("--group-size", type=int, help="weights that share a scale, for --int4: 32, 64 or 128 [default: 64]")
@click.option("--out", type=path_option, help="the new folder [default: RUN-int8 or RUN-int4]")
@plugin_option
@threads_option
def command(
    run_folder: Path | None,
    int8: bool,
    int4: bool,
    group_size: int | None,
    out: Path | None,
    plugins: tuple[str, ...],
) -> None:
    """Store a model's weights as small integers in a new folder.

    Prints bytes, error and time. RUN is a run folder, or a folder in Hugging Face's format; by default the newest run
    with a model.
    """
    if int8 and int4:
        raise TinyTorchError("give one of --int8 and --int4")
    with use(*plugins, report=False), reported():
        from tinygpt.capstone.compress import quantize as job

        say(f"let it write: tinygpt generate {job(run_folder, 4 if int4 else 8, group_size, out, say).path}")
