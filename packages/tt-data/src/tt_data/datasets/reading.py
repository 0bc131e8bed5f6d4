"""Errors of reading a file, in one line that names it. Beside module 08, dataloader."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tt_core.engine.errors import FileError


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns an `OSError` of the block into a `FileError` that names the file.

    >>> with reading(Path("missing")):
    ...     Path("missing").read_bytes()
    Traceback (most recent call last):
    ...
    tt_core.engine.errors.FileError: missing: no such file
    """
    try:
        yield
    except FileNotFoundError:
        raise FileError(f"{path}: no such file") from None
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path}: cannot be read ({error.strerror})") from None
