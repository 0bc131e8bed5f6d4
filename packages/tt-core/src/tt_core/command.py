"""How a command of ours ends: what a user can act on is one line on standard error, never a traceback.

The commands themselves are in `cli.py`, and in the later acts' own packages; both run through here.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import click

from tt_core.errors import TinyTorchError
from tt_core.plugins import manager

_READER_GONE = (errno.EPIPE, errno.EINVAL) if os.name == "nt" else (errno.EPIPE,)
"""What writing to a closed pipe says; on Windows, the C library answers EINVAL."""


def run(command: click.Command, name: str, arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code: 1 for a `TinyTorchError`, 2 for usage, 130 for Ctrl-C.

    >>> run(click.Command("hello", callback=lambda: click.echo("hi")), "hello", [])
    hi
    0
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # a name or text that its encoding lacks is no reason to stop
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            command.main(arguments, prog_name=name, standalone_mode=False)
        if sys.stdout is not None:  # None where it was closed from the start (`tt journey >&-`)
            sys.stdout.flush()
    except TinyTorchError as error:
        click.echo(f"error: {error}", err=True)
        return 1
    except MemoryError as error:  # NumPy's says how much it wanted
        click.echo(f"error: out of memory: {str(error) or 'nothing is left'}; choose smaller sizes", err=True)
        return 1
    except OSError as error:  # of the standard output; files say themselves what is wrong with them (`FileError`)
        if error.errno not in (errno.ENOSPC, *_READER_GONE):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what still waits would fail again at exit
        if error.errno == errno.ENOSPC:  # else the reader has gone, as `head` does, and wants nothing more
            click.echo("error: the output does not fit on the disk; free some space, or write elsewhere", err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    return 0


def show_each_line() -> None:
    """Print each line at once, also into a pipe or a file: for commands that run for minutes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


@contextmanager
def reported() -> Iterator[None]:
    """Print, once the work inside is done, what plugins measured; on standard error, beside the command's results."""
    yield
    for report in manager.ask("tt_report"):
        click.echo(report, err=True)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as one line; where in the code it was raised says nothing to who typed the command."""
    click.echo(f"warning: {message}", err=True)
