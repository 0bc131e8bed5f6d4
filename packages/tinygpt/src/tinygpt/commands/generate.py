"""Module 20, capstone: the command `tinygpt generate`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from tinygpt.commands.options import NamesOptions, examples, path_option, run_argument
from tt_core.command.common import plugin_option, reported, threads_option
from tt_core.engine.plugins import use


@click.command(
    "generate",
    cls=NamesOptions,
    epilog=examples(
        "tinygpt generate --prompt 'The' --temperature 0.8", "tinygpt generate runs/my-run --prompt 'The' -n 3 --json"
    ),
)
@run_argument
@click.option("--prompt", default="\n", help="text to continue")
@click.option("--max-new-tokens", default=200, show_default=True, type=click.IntRange(min=1))
@click.option("--temperature", default=0.8, show_default=True, type=float, help="0 takes the likeliest token")
@click.option("--top-k", type=int, help="choose among the k likeliest tokens")
@click.option("--top-p", type=float, help="choose among the likeliest tokens of this total probability")
@click.option("--repetition-penalty", default=1.0, show_default=True, type=float)
@click.option("--stop", multiple=True, help="end at this text")
@click.option("--seed", type=click.IntRange(min=0), help="write the same again")
@click.option(
    "--prompt-cache", type=path_option, metavar="FILE", help="keep what was read here, to go on from it later"
)
@plugin_option
@threads_option
def command(
    run_folder: Path | None, prompt: str, plugins: tuple[str, ...], prompt_cache: Path | None, **options: Any
) -> None:
    """Continue a prompt with a trained model.

    RUN is a run folder, or a folder in Hugging Face's format; by default the newest run with a model.
    """
    with use(*plugins, report=False), reported():
        from tinygpt.capstone.capstone import TinyGPT
        from tt_perf.memoization import prompt_cached

        gpt = TinyGPT.load(run_folder)
        with nullcontext() if prompt_cache is None else prompt_cached(prompt_cache, gpt.model):
            pieces = gpt.generate(prompt, **options)
            click.echo(prompt.lstrip("\n"), nl=False)
            for text in pieces:
                click.echo(text, nl=False)  # which flushes: the text appears as it comes
            click.echo()
