"""How a command ends: an error that a user can act on is one line on standard error, never a traceback.

The commands themselves are in `cli.py` and in the packages of the later acts; all of them run through here.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tt_core.engine.errors import TinyTorchError
from tt_core.engine.plugins import manager
from tt_core.engine.threads import set_num_threads

_GONE = {errno.EPIPE, errno.EIO, errno.ESHUTDOWN} | ({errno.EINVAL} if os.name == "nt" else set())
"""The errors of writing to a closed pipe or a closed terminal; for a pipe, Windows raises EINVAL."""


class PathOption(click.Path):
    """A path, as `pathlib.Path`. Refuses the empty path that an unset variable leaves, which would mean `.`."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; a usage error for an empty one."""
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


plugin_option = click.option(
    "--plugin", "plugins", multiple=True, metavar="NAME", help="use this plugin (see: tt plugins)"
)
"""The option of every command that computes; the command gets `plugins: tuple[str, ...]`."""


def examples(*lines: str) -> str:
    """The end of a command's help: lines to copy. Click must not wrap them, which `\\b` tells it.

    >>> examples("tt journey", "tt journey --act 2").splitlines()[1:]
    ['Examples:', '  tt journey', '  tt journey --act 2']
    """
    return f"\b\nExample{'s' * (len(lines) > 1)}:\n" + "\n".join(f"  {line}" for line in lines)


def _use_threads(context: click.Context, parameter: click.Parameter, number: int | None) -> None:
    if number is not None:
        set_num_threads(number)


threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    callback=_use_threads,
    expose_value=False,
    help="number of threads [default: $TT_NUM_THREADS, else one for each core]",
)
"""The option of every command that computes; it calls `set_num_threads`."""


def run(command: click.Command, name: str, arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code.

    The code is 1 for a `TinyTorchError`, 2 for wrong usage, and 128 plus the signal's number after an interruption:
    130 for Ctrl-C. If the reader of the output is gone, as with `head`, the command ends without a message.

    >>> run(click.Command("hello", callback=lambda: click.echo("hi")), "hello", [])
    hi
    0
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # characters that the encoding lacks must not end a command
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = command.main(arguments, prog_name=name, standalone_mode=False)
        if sys.stdout is not None:  # None where it was closed from the start (`tt journey >&-`)
            sys.stdout.flush()
    except TinyTorchError as error:
        tell(f"error: {_line(str(error))}")
        return 1
    except MemoryError as error:  # NumPy's message has the size of the array
        tell(f"error: out of memory: {_line(str(error)) or 'nothing is left'}; choose smaller sizes")
        return 1
    except OSError as error:  # of an output or a path; code that reads or writes a file raises `FileError`
        return _code_of(error)
    except click.ClickException as error:
        tell(_usage(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        return 128 + _signal_of(error)
    finally:
        for stream in (sys.stdout, sys.stderr):
            _discard_unwritten(stream)
    return code if isinstance(code, int) else 0  # of a command that raises `click.exceptions.Exit`


def _code_of(error: OSError) -> int:
    """Reports a path that cannot be used, or an output that cannot be written; returns the exit code.

    Raises the error again if it is neither.
    """
    if isinstance(error.filename, (str, bytes)):
        tell(f"error: cannot use {_line(repr(os.fsdecode(error.filename)))}: {(error.strerror or 'failed').lower()}")
        return 1
    if error.errno not in _GONE | {errno.ENOSPC}:
        raise error
    if isinstance(error.__context__, KeyboardInterrupt):  # click's line break after ^C, on a closed terminal
        return 128 + _signal_of(error.__context__)
    if error.errno == errno.ENOSPC:
        tell("error: the output does not fit on the disk; free some space, or write elsewhere")
    elif error.errno == errno.EIO:
        tell("error: the output cannot be written: input/output error")
    return 1


def show_each_line() -> None:
    """Print each line at once, also into a pipe or a file: for commands that run for minutes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def _usage(error: click.ClickException) -> str:
    """A usage error in one line, where click writes three; a command without arguments gets its help from click."""
    context, message = getattr(error, "ctx", None), error.format_message()
    if context is not None and message == context.get_help():
        return message
    advice = f" (see: {context.command_path} --help)" if context is not None else ""
    return f"error: {_line(' '.join(message.split())).rstrip('.')}{advice}"


def _line(message: str) -> str:
    """A message as one line of limited length: a given value may hold line breaks, or be a whole text.

    >>> _line("no milestone is called a" + chr(10) + "b")
    'no milestone is called a\\\\nb'
    """
    shown = message if len(message) <= 600 else f"{message[:400]} ... {message[-180:]}"
    return "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in shown)


def _signal_of(error: BaseException) -> int:
    """The number of the signal that an interruption names; click wraps the exception, Ctrl-C names none."""
    arguments = (error.__cause__ or error).args
    return int(arguments[0]) if arguments and isinstance(arguments[0], signal.Signals) else int(signal.SIGINT)


def tell(line: str) -> None:
    """Print a line on standard error; where that cannot be written to, there is nowhere left to say so."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(line, err=True)


@contextmanager
def reported() -> Iterator[None]:
    """Print what plugins measured once the work inside is done; on standard error, apart from the command's results."""
    yield
    for report in manager.ask("tt_report"):
        tell(report)
    manager.reported = True


@contextmanager
def output_may_end() -> Iterator[None]:
    """A block whose work matters more than what it prints: a standard output that fails does not end it.

    A reader that has gone, a closed terminal and a full disk are one warning on standard error; what is printed from
    then on is dropped. Commands that train run in such a block.

    >>> with output_may_end():
    ...     print("step 1")
    step 1
    """
    before = sys.stdout
    if before is None:
        yield
        return
    sys.stdout = _MayEnd(before)  # a text stream by delegation
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout = before


class _MayEnd:
    """A text stream that drops what it is given once writing has failed."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._ended = stream, False

    def write(self, text: str) -> int:
        if not self._ended:
            self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        if not self._ended:
            self._attempt(self._stream.flush)

    def _attempt(self, action: Any) -> None:
        try:
            action()
        except OSError as error:
            self._ended = True
            _discard_unwritten(self._stream)
            tell(f"warning: the output cannot be written ({error.strerror or error}); the work continues without it")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _discard_unwritten(stream: Any) -> None:
    """Flush `stream`; what cannot be written goes to the null device, or Python would complain of it at exit."""
    try:
        if stream is not None:
            stream.flush()
    except ValueError:  # closed
        return
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as one line, without its place in the code, which does not help a user of the command."""
    tell(f"warning: {message}")
