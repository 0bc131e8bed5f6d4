"""Where datasets are found, and how they get there: a given folder, `TT_DATA_HOME`, the user's cache, the
network.

Part of module 08 (Act III). Downloads go through pooch, which checks the checksum; mirrors are tried in turn.
A file appears under its name when it is whole and right, and not before.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tt_core.engine.errors import FileError, TinyTorchError
from tt_core.engine.files import replace

HOME_VARIABLE = "TT_DATA_HOME"
_TIMEOUT = 30  # seconds without a byte
_INCOMING = ".incoming-"  # a folder a download; one that a killed process left is removed after a day
_STALE = 24 * 3600  # seconds


class DownloadError(TinyTorchError):
    """A file that no mirror gave."""


@dataclass(frozen=True)
class Remote:
    """A file on the network: its name, what it must hash to, and where it is."""

    name: str
    sha256: str
    mirrors: tuple[str, ...]  # each a folder's address; the name is appended


def cache_home() -> Path:
    """The folder for downloaded datasets: `TT_DATA_HOME`, else the user's cache (as the operating system has it)."""
    import pooch  # type: ignore[import-untyped, unused-ignore]  # 0.2 s that few calls need

    return Path(os.environ.get(HOME_VARIABLE) or pooch.os_cache("tinytorch") / "data")


def find(folder: str, names: Iterable[str], root: str | os.PathLike[str] | None) -> Path | None:
    """The folder called `folder` that holds all `names`: in `root`, or without one in `cache_home()`."""
    home = Path(root) if root is not None else cache_home()
    for candidate in (home / folder, home):  # the data home, or the dataset's own folder given directly
        if all((candidate / name).is_file() for name in names):
            return candidate
    return None


def obtain(
    folder: str,
    files: Iterable[Remote],
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> Path:
    """The folder that holds `files`, downloading those that are missing if `download`.

    A given `root` is only read: what is missing there goes to `cache_home()`. Raises `FileError` when files
    are missing and may not be downloaded, `DownloadError` when no mirror gives them.
    """
    files = list(files)
    names = [file.name for file in files]
    found = find(folder, names, root) or find(folder, names, None)
    if found is not None:
        return found
    if not download:
        where = Path(root) if root is not None else cache_home()
        raise FileError(
            f"{where / folder}: does not hold {', '.join(names)}; put them there, name another folder with "
            f"--data-dir or {HOME_VARIABLE}, or allow the download"
        )
    target = cache_home() / folder
    for file in files:
        fetch(file, target)
    return target


def fetch(file: Remote, folder: Path) -> Path:
    """Download one file into `folder`, unless it is there; returns its path.

    Raises `DownloadError`, and `FileError` for a file that is there and is another one.
    """
    import pooch  # type: ignore[import-untyped, unused-ignore]

    path = folder / file.name
    if path.is_file():
        if pooch.file_hash(path) != file.sha256:
            raise FileError(
                f"{path}: checksum differs from the published file's; remove it, and it is downloaded again"
            )
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        incoming = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=folder))
    except OSError as error:
        raise FileError(f"{folder}: cannot hold a download ({error.strerror}); set {HOME_VARIABLE}") from None
    try:
        replace(_from_first_mirror(file, incoming), path)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return path


def _from_first_mirror(file: Remote, incoming: Path) -> Path:
    import pooch  # type: ignore[import-untyped, unused-ignore]
    from requests import RequestException  # what pooch downloads with

    pooch.get_logger().setLevel("ERROR")
    failures = []
    for mirror in file.mirrors:
        url = mirror + file.name
        downloader = pooch.HTTPDownloader(timeout=_TIMEOUT)
        try:
            return Path(pooch.retrieve(url, f"sha256:{file.sha256}", file.name, incoming, downloader=downloader))
        except (RequestException, OSError, ValueError) as error:  # ValueError: the checksum differs
            failures.append(f"{url}: {_reason(error)}")
    raise DownloadError(
        f"cannot download {file.name} ({'; '.join(failures)}). Without a network, put the file into a folder "
        f"of your own and name that with --data-dir or {HOME_VARIABLE}"
    )


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    if isinstance(error, ValueError) and "hash" in str(error):
        return "wrong checksum"
    names = {
        "ConnectTimeout": "timed out",
        "ReadTimeout": "timed out",
        "ChunkedEncodingError": "connection was cut",
    }
    return names.get(type(error).__name__, "no connection" if "Connection" in type(error).__name__ else str(error))


def _remove_stale(folder: Path) -> None:
    for left in folder.glob(f"{_INCOMING}*"):
        if time.time() - left.stat().st_mtime > _STALE:
            shutil.rmtree(left, ignore_errors=True)
