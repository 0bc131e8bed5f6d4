"""Module 20, capstone: the command `tinygpt generate`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from tinygpt.commands.options import NamesOptions, examples, path_option, print_json, run_argument, sampling_options
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
@sampling_options
@click.option("-n", "--samples", default=1, show_default=True, type=click.IntRange(1, 10_000), help="texts to write")
@click.option("--json", "as_json", is_flag=True, help="one object a line: prompt, text, tokens, finish_reason")
@click.option(
    "--prompt-cache", type=path_option, metavar="FILE", help="saves the cache of the text, to continue from it later"
)
@plugin_option
@threads_option
def command(
    run_folder: Path | None,
    prompt: str,
    plugins: tuple[str, ...],
    prompt_cache: Path | None,
    samples: int,
    as_json: bool,
    seed: int | None,
    **options: Any,
) -> None:
    """Continue a prompt with a trained model.

    RUN is a run folder, or a folder in Hugging Face's format; by default the newest run with a model. Sample number i
    is written with seed + i - 1.
    """
    with use(*plugins, report=False), reported():
        from tinygpt.capstone.capstone import TinyGPT
        from tt_perf.memoization import prompt_cached

        gpt = TinyGPT.load(run_folder)
        with nullcontext() if prompt_cache is None else prompt_cached(prompt_cache, gpt.model):
            for number in range(samples):
                pieces = gpt.generate(prompt, seed=None if seed is None else seed + number, **options)
                if as_json:
                    _print_object(prompt, list(pieces), options["max_new_tokens"])
                else:
                    _print_text(prompt, pieces, number)


def _print_text(prompt: str, pieces: Iterator[str], number: int) -> None:
    if number:
        click.echo("---")
    click.echo(prompt.lstrip("\n"), nl=False)
    for text in pieces:
        click.echo(text, nl=False)  # which flushes: the text appears as it comes
    click.echo()


def _print_object(prompt: str, pieces: list[str], most: int) -> None:
    tokens = len(pieces) - 1  # the last piece is an incomplete character that was held back
    reason = "length" if tokens == most else "stop"
    print_json({"prompt": prompt, "text": "".join(pieces), "tokens": tokens, "finish_reason": reason})
