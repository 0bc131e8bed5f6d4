"""Module 20, capstone: what the commands of `tinygpt` share: options, and names that other programs use for them."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from tt_core.command.common import PathOption

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
    "--prompt-cache-file": "--prompt-cache", "--text": "--prompt", "--tokens": "--max-new-tokens",
    "--wd": "--weight-decay",
}  # fmt: skip
"""What other programs call an option of ours."""


class NamesOptions(click.Command):
    """A command that answers another program's name of an option with its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, which knows near spellings alone."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            meant = OTHER_NAMES.get(error.option_name)
            if meant is not None and any(meant in parameter.opts for parameter in self.params):
                raise click.UsageError(f"No such option {error.option_name}; here it is {meant}", ctx) from None
            raise


def say(line: str) -> None:
    """Print a line at once; unlike `click.echo`, above the progress bar, which takes what is printed meanwhile."""
    print(line, flush=True)


def examples(*lines: str) -> str:
    """The end of a command's help: lines to copy. Click must not wrap them, which `\\b` tells it."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def print_json(value: Any) -> None:
    """Print a result as one line of JSON, for programs."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()
