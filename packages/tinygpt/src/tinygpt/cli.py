"""The command `tinygpt`. Its commands are in the folder `commands`, a file each."""

from __future__ import annotations

import sys

import click

from tinygpt.commands import CommandGroup
from tt_core.command.common import run


def with_hyphens(name: str) -> str:
    """nanoGPT's `--batch_size` is `--batch-size` too."""
    return name.replace("_", "-")


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": with_hyphens},
)
@click.version_option(package_name="tinygpt")
def cli() -> None:
    """Train a small GPT and let it write, on the CPU, in minutes."""


def main(arguments: list[str] | None = None) -> int:
    """The command `tinygpt`."""
    return run(cli, "tinygpt", arguments)


if __name__ == "__main__":
    sys.exit(main())
