"""The command `tinygpt`. Its commands are in the folder `commands`, a file each."""

from __future__ import annotations

import sys
import traceback

import click

from tinygpt.commands import CommandGroup


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
    """The command `tinygpt`. A process of several that mpiexec started ends the others when it fails."""
    try:
        return _main(arguments)
    except KeyboardInterrupt:  # while modules are imported; what a command does, `run` ends
        return 130


def _main(arguments: list[str] | None) -> int:
    # imported here, so that Ctrl-C shows no traceback during the second that this takes
    from tinygpt.distributed.world import described, end_others, started
    from tt_core.command.common import run, tell

    if started():
        tell(described())
    try:
        code = run(cli, "tinygpt", arguments)
    except Exception:
        if not started():
            raise
        traceback.print_exc()
        code = 1
    if code:
        end_others(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
