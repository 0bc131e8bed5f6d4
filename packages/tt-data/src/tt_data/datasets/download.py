"""Finding datasets, and downloading them: in a given folder, `TT_DATA_HOME`, the user's cache, or from the network.

Beside module 08, dataloader. Downloads use pooch, which verifies the checksum; mirrors are tried in turn. A file
appears under its name only when it is complete and verified.
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
_INCOMING = ".incoming-"  # one folder for each download; one that a killed process left is removed after a day
_STALE = 24 * 3600  # seconds


class DownloadError(TinyTorchError):
    """No mirror delivered a file."""


@dataclass(frozen=True)
class Remote:
    """A file on the network: its name, its checksum, and its mirrors."""

    name: str
    sha256: str
    mirrors: tuple[str, ...]  # addresses of folders; the name is appended


def cache_home() -> Path:
    """The folder for downloaded datasets: `TT_DATA_HOME`, else the cache folder of the user."""
    import pooch  # type: ignore[import-untyped, unused-ignore]  # takes 0.2 s to import, and few calls need it

    return Path(os.environ.get(HOME_VARIABLE) or pooch.os_cache("tinytorch") / "data")


def find(folder: str, names: Iterable[str], root: str | os.PathLike[str] | None) -> Path | None:
    """The folder named `folder` that has all `names`, in `root` or by default in `cache_home()`."""
    home = Path(root) if root is not None else cache_home()
    for candidate in (home / folder, home):  # the data home, or the dataset's folder itself
        if all((candidate / name).is_file() for name in names):
            return candidate
    return None


def obtain(
    folder: str,
    files: Iterable[Remote],
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> Path:
    """The folder that has `files`; downloads missing files if `download`.

    `root` is only read: files that are missing there are downloaded to `cache_home()`. Raises `FileError` when files
    are missing and `download` is False, `DownloadError` when no mirror delivers them.
    """
    files = list(files)
    names = [file.name for file in files]
    found = find(folder, names, root) or find(folder, names, None)
    if found is not None:
        return found
    if not download:
        where = Path(root) if root is not None else cache_home()
        raise FileError(
            f"{where / folder}: does not have {', '.join(names)}; put them there, name another folder with "
            f"--data-dir or {HOME_VARIABLE}, or allow the download"
        )
    target = cache_home() / folder
    for file in files:
        fetch(file, target)
    return target


def fetch(file: Remote, folder: Path) -> Path:
    """Downloads one file into `folder`, unless it exists; returns its path.

    Raises `DownloadError`, and `FileError` for an existing file with another checksum.
    """
    import pooch  # type: ignore[import-untyped, unused-ignore]

    path = folder / file.name
    if path.is_file():
        if pooch.file_hash(path) != file.sha256:
            raise FileError(f"{path}: checksum differs from the published file's; remove it to download it again")
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        incoming = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=folder))
    except OSError as error:
        raise FileError(f"{folder}: cannot be written for a download ({error.strerror}); set {HOME_VARIABLE}") from None
    try:
        replace(_from_first_mirror(file, incoming), path)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return path


def _from_first_mirror(file: Remote, incoming: Path) -> Path:
    import pooch  # type: ignore[import-untyped, unused-ignore]
    from requests import RequestException  # pooch downloads with requests

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
        f"and pass that folder: MNIST(folder), --data-dir folder, or {HOME_VARIABLE}=folder"
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
