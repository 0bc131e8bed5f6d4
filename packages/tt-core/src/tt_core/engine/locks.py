"""A lock that one process holds and that ends with the process, however it ends.

The operating system holds it (`flock` on POSIX, `LockFile` on Windows), so a crash leaves an empty file at most, and
no number of a process that another one may have by now.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from tt_core.engine.errors import FileError

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked(path: Path, taken: str) -> Iterator[None]:
    """A block that holds the lock file `path`, which is removed at its end.

    Raises `FileError` with the message `taken` where another holds it, also in this process. Warns and goes on where
    the file system has no locks.

    >>> import tempfile
    >>> with locked(Path(tempfile.mkdtemp()) / "lock", "it is taken"):
    ...     print("mine")
    mine
    """
    descriptor = _acquire(path, taken)
    try:
        yield
    finally:
        if sys.platform == "win32":  # which removes no open file
            os.close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()
        if sys.platform != "win32":
            os.close(descriptor)


def _acquire(path: Path, taken: str) -> int:
    """The descriptor of the locked file. Its last holder may have removed it after it was opened here: then again."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise FileError(f"cannot write {path}: {error.strerror or error}") from None
        try:
            _try_lock(descriptor)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            raise FileError(taken) from None
        except OSError as error:
            warnings.warn(f"cannot lock {path} ({error.strerror or error}); start no second training", stacklevel=4)
            return descriptor
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)
