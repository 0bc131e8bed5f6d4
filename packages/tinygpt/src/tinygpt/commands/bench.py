"""Module 20, capstone: the command `tinygpt bench`."""

from __future__ import annotations

from pathlib import Path

import click

from tinygpt.commands.options import NamesOptions, examples, print_json, run_argument, say
from tt_core.command.common import plugin_option, reported, threads_option


@click.command(
    "bench",
    cls=NamesOptions,
    epilog=examples("tinygpt bench runs/my-run", "tinygpt bench runs/my-run --plugin kv-cache --plugin jit"),
)
@run_argument
@click.option(
    "--prompt-tokens", type=click.IntRange(min=1), help="tokens to read [default: 64, or half of the context]"
)
@click.option(
    "--new-tokens", type=click.IntRange(min=1), help="tokens to write [default: 32, or a quarter of the context]"
)
@click.option(
    "--rounds",
    default=9,
    show_default=True,
    type=click.IntRange(5, 1000),
    help="how often each measurement is repeated",
)
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
@plugin_option
@threads_option
def command(
    run_folder: Path | None,
    prompt_tokens: int | None,
    new_tokens: int | None,
    rounds: int,
    as_json: bool,
    plugins: tuple[str, ...],
) -> None:
    """Measure how fast a model reads and writes.

    With plugins, the model is measured without and with them, in turn. RUN is a run folder, or a folder in Hugging
    Face's format; by default the newest run with a model.
    """
    with reported():
        from tinygpt.capstone.bench import bench as job

        tell = (lambda line: None) if as_json else say
        found = job(run_folder, plugins, prompt_tokens, new_tokens, rounds, tell)
        if as_json:
            print_json({s.name: {"read_seconds": s.read, "write_seconds": s.write} for s in found})
