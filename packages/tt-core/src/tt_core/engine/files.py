"""Writes files so that a crash, a full disk or a kill leaves the old file or the new one, never a part of one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from tt_core.engine.errors import FileError

_SUFFIX = ".tmp-tinytorch"


def write_atomic(path: str | os.PathLike[str], data: bytes | Callable[[BinaryIO], object]) -> None:
    """Writes `data` to `path` completely or not at all: temporary file, flush, fsync, rename, fsync of the folder.

    `data` is the bytes, or a function that writes them to an open file. Links and permissions are kept. If several
    processes write at once, the last file is kept. Raises `FileError` if one of these steps fails; until the rename,
    the old file is unchanged.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> write_atomic(Path(folder) / "note.txt", b"kept")
    >>> (Path(folder) / "note.txt").read_bytes()
    b'kept'
    """
    path = Path(path)
    target = _end_of_links(path)
    temporary = target.parent / f"{target.name}{_SUFFIX}-{os.getpid()}-{threading.get_ident()}"
    try:
        if target.exists() and not target.is_file():  # the rename would replace a device by a file
            raise OSError(errno.EEXIST, "a folder or device has this name")
        _write_synced(temporary, data)
        with contextlib.suppress(FileNotFoundError):  # of a file that is new
            shutil.copymode(target, temporary)
        replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise FileError(f"cannot write {path}: {_reason(error)}; what was there before is unchanged") from None
    try:
        _sync_folder(target.parent)
    except OSError as error:
        raise FileError(f"wrote {path}, but cannot sync its folder: {_reason(error)}; save it again") from None


def write_json(
    path: str | os.PathLike[str], content: object, indent: int = 2, sort_keys: bool = False, ensure_ascii: bool = True
) -> None:
    """Writes `content` as lines of JSON in UTF-8, by `write_atomic`; the options are those of `json.dumps`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "note.json"
    >>> write_json(path, {"kept": True})
    >>> path.read_text(encoding="utf-8")
    '{\\n  "kept": true\\n}\\n'
    """
    text = json.dumps(content, indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii)
    write_atomic(path, f"{text}\n".encode())


def _end_of_links(path: Path) -> Path:
    """The file that a link leads to, or `path` itself; raises `FileError` for links that lead to themselves."""
    try:
        return path.resolve() if path.is_symlink() else path
    except RuntimeError:  # Python 3.12 and older; from 3.13 on, opening the file raises OSError
        raise FileError(f"cannot write {path}: the link leads to itself; remove it, or write elsewhere") from None


_PATIENCE = 2.0 if os.name == "nt" else 0.0
"""Seconds for which Windows gets to close a file that another program (a virus scanner, an editor) has open."""


def replace(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """`os.replace`, tried again for two seconds on Windows, where a file that is open elsewhere cannot be replaced.

    Raises `OSError` as `os.replace` does.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return os.replace(source, target)
        except PermissionError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.05)


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Paths sorted by their parts, upper case before lower case: the same order on every system.

    `sorted(paths)` ignores case on Windows.

    >>> [path.name for path in in_order([Path("b"), Path("a"), Path("B")])]
    ['B', 'a', 'b']
    """
    return sorted(paths, key=lambda path: path.parts)


def _write_synced(path: Path, data: bytes | Callable[[BinaryIO], object]) -> None:
    with open(path, "wb") as file:
        if callable(data):
            data(file)
        else:
            file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """The folder `path`, made with those above it where it does not exist; raises `FileError` where it cannot be.

    >>> import tempfile
    >>> make_folder(Path(tempfile.mkdtemp()) / "runs" / "first").name
    'first'
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot create folder {folder}: {_reason(error)}") from None
    return folder


def check_folder(path: str | os.PathLike[str]) -> Path:
    """The folder `path`, once it is known that it can be written to, or made; it is left as it is.

    A long job calls this before it begins. Raises `FileError` where a file has the name, or a folder is read-only.

    >>> import tempfile
    >>> check_folder(Path(tempfile.mkdtemp()) / "runs" / "first").exists()
    False
    """
    folder = Path(path)
    try:
        nearest = next(parent for parent in (folder, *folder.absolute().parents) if os.path.lexists(parent))
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{nearest} is no folder")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"{nearest} cannot be written to")
    except OSError as error:
        raise FileError(f"cannot create folder {folder}: {_reason(error)}") from None
    return folder


def remove_stale(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove the temporary files that a killed process left in `folder`, and return their paths; raises no error where
    there is no such folder.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "model.tmp-tinytorch-1-1").touch()
    >>> [path.name for path in remove_stale(folder)]
    ['model.tmp-tinytorch-1-1']
    """
    removed = []
    for path in in_order(Path(folder).glob(f"*{_SUFFIX}*")):
        with contextlib.suppress(OSError):  # a file that cannot be removed does no harm
            path.unlink()
            removed.append(path)
    return removed


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened for fsync there; NTFS journals the rename itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
