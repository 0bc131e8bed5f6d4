"""Module 20, capstone: what the commands of `tinygpt` share: options, and names that other programs use for them."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

import click

from tt_core.command.common import PathOption
from tt_core.command.common import examples as examples

path_option = PathOption()

run_argument = click.argument("run_folder", metavar="[RUN]", required=False, type=path_option)
"""The folder of a model: a run, or one in Hugging Face's format; the newest run with a model by default."""

OTHER_NAMES = {
    "--batch": "--batch-size", "--context": "--block-size", "--ctx": "--block-size", "--data": "--corpus",
    "--data-dir": "--corpus", "--dataset": "--corpus", "--dim": "--n-embd", "--embd": "--n-embd",
    "--epochs": "--steps", "--eval-every": "--eval-interval", "--heads": "--n-head", "--input": "--corpus",
    "--iters": "--steps", "--layers": "--n-layer", "--length": "--max-new-tokens", "--lr": "--learning-rate",
    "--max-iters": "--steps", "--max-seq-len": "--block-size", "--max-steps": "--steps",
    "--max-tokens": "--max-new-tokens", "--min-learning-rate": "--min-lr", "--num-layers": "--n-layer",
    "--out-dir": "--out", "--output": "--out", "--seq-len": "--block-size", "--temp": "--temperature",
    "--num-return-sequences": "--samples", "--num-samples": "--samples", "--eos": "--ignore-eos",
    "--file": "--data", "--output-dir": "--out", "--rank": "--lora-r", "--target-modules": "--lora-targets",
    "--prompt-cache-file": "--prompt-cache", "--text": "--prompt", "--tokens": "--max-new-tokens",
    "--wd": "--weight-decay",
}  # fmt: skip
"""What other programs call an option of ours."""


_ALSO_DATA = ("--corpus", "--dataset", "--input", "--file", "--train-file")


class NamesOptions(click.Command):
    """A command that answers another program's name of an option with its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, which knows near spellings alone."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            meant = OTHER_NAMES.get(error.option_name)
            if error.option_name in _ALSO_DATA and any("--data" in parameter.opts for parameter in self.params):
                meant = "--data"
            if meant is not None and any(meant in parameter.opts for parameter in self.params):
                raise click.UsageError(f"No such option {error.option_name}; here it is {meant}", ctx) from None
            raise


Command = Callable[..., Any]


def field_options(config: type, meaning: Callable[[dataclasses.Field[Any]], str]) -> Callable[[Command], Command]:
    """One option for each field of a configuration; `meaning` is its help. Options that are not given are None."""

    def add(command: Command) -> Command:
        for field in reversed(dataclasses.fields(config)):
            kind = {"str": str, "int": int, "float": float, "bool": bool}[str(field.type)]
            name = "--" + field.name.replace("_", "-")
            declared = f"{name}/--no-{name[2:]}" if kind is bool else name
            command = click.option(declared, field.name, type=kind, default=None, help=meaning(field))(command)
        return command

    return add


def sampling_options(command: Command) -> Command:
    """How tokens are chosen, and when a text ends: all that `tt_language.stream` takes."""
    for option in reversed(_SAMPLING):
        command = option(command)
    return command


_SAMPLING = [
    click.option("--max-new-tokens", default=200, show_default=True, type=click.IntRange(min=1)),
    click.option(
        "--min-new-tokens", default=0, show_default=True, type=int, help="suppress the end-of-text token until then"
    ),
    click.option("--temperature", default=0.8, show_default=True, type=float, help="0 takes the likeliest token"),
    click.option("--top-k", type=int, help="choose among the k likeliest tokens"),
    click.option("--top-p", type=float, help="choose among the likeliest tokens of this total probability"),
    click.option("--min-p", type=float, help="choose among tokens of this share of the likeliest one's probability"),
    click.option("--repetition-penalty", default=1.0, show_default=True, type=float),
    click.option(
        "--no-repeat-ngram-size", default=0, show_default=True, type=int, help="no sequence of n tokens occurs twice"
    ),
    click.option("--stop", multiple=True, help="end at this text (may be repeated)"),
    click.option("--ignore-eos", is_flag=True, help="continue after the token that ends a text"),
    click.option("--seed", type=click.IntRange(min=0), help="the same seed gives the same text"),
]


def say(line: str) -> None:
    """Print a line at once; unlike `click.echo`, above the progress bar, which captures printed text."""
    print(line, flush=True)


def print_json(value: object) -> None:
    """Print a result as one line of JSON, for programs."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()
