"""The command `tt doctor`, checkpoint 00: what this computer has, what is wrong, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

from tt_core.command.common import examples
from tt_core.command.journey import ACTS
from tt_core.course.folder import Workspace
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.threads import get_num_threads
from tt_core.kernels.products import product

Finding = tuple[str, str, str]
"""What was looked at, what was found, and what to do; nothing to do where the third is empty."""


def python() -> Iterator[Finding]:
    """The version of Python."""
    old = sys.version_info < (3, 10)
    yield "Python", f"{platform.python_version()} on {platform.system()}", "install Python 3.10 or newer" if old else ""


def packages() -> Iterator[Finding]:
    """The acts that are installed."""
    found = {}
    for act in ACTS:
        try:
            found[act.package] = importlib.metadata.version(act.package)
        except importlib.metadata.PackageNotFoundError:
            continue
    yield "acts", ", ".join(f"{name} {version}" for name, version in found.items()), ""


def blas() -> Iterator[Finding]:
    """NumPy, its matrix library, and how fast a product is."""
    libraries = [info for info in threadpool_info() if info.get("user_api") == "blas"]
    named = ", ".join(f"{x['internal_api']} {x.get('version') or ''}" for x in libraries)
    a = np.ones((512, 512), np.float32)
    best = min(_seconds(lambda: product(a, a)) for _ in range(5))
    speed = 2 * 512**3 / best / 1e9
    slow = "reinstall NumPy from its wheel: pip install --force-reinstall numpy" if speed < 2 else ""
    yield "NumPy", f"{np.__version__}, {named or 'no matrix library found'}, {speed:.0f} GFLOP/s", slow


def cores() -> Iterator[Finding]:
    """The cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield "cores", f"{allowed} of {os.cpu_count()}, {get_num_threads()} threads", ""


def memory() -> Iterator[Finding]:
    """Free memory, where the system tells it."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, ValueError, OSError):
        return
    little = "close other programs; Act III wants 2 GB" if free < 1 else ""
    yield "memory", f"{free:.1f} GB free", little


def disk() -> Iterator[Finding]:
    """Free space in the current folder."""
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield "disk", f"{free:.1f} GB free in {Path.cwd()}", "free some space; CIFAR-10 takes 0.4 GB" if free < 1 else ""


def terminal() -> Iterator[Finding]:
    """Whether the output can show all characters."""
    encoding = (sys.stdout.encoding or "ascii") if sys.stdout else "ascii"
    poor = "" if "utf" in encoding.lower() else "set PYTHONUTF8=1, so that pictures of letters are not replaced"
    yield "terminal", encoding, poor


def workspace() -> Iterator[Finding]:
    """The workspace around the current folder."""
    try:
        found = Workspace.find()
    except TinyTorchError as error:
        yield "workspace", "none here", str(error).partition("; ")[2]
        return
    writable = os.access(found.root, os.W_OK)
    yield "workspace", str(found.root), "" if writable else "make the folder writable, or move it to your home folder"


LOOKED_AT: tuple[Callable[[], Iterator[Finding]], ...] = (
    python,
    packages,
    blas,
    cores,
    memory,
    disk,
    terminal,
    workspace,
)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@click.command(epilog=examples("tt doctor"))
def doctor() -> None:
    """Check this computer and the installation.

    Looks at Python, NumPy, memory, disk, terminal and workspace. The exit code is 1 if something is wrong.
    """
    wrong = 0
    for look in LOOKED_AT:
        for what, found, advice in look():
            wrong += bool(advice) and what != "workspace"
            mark = click.style("look", fg="yellow") if advice else click.style("ok", fg="green") + "  "
            click.echo(f"{mark}  {what:<10} {found}")
            if advice:
                click.echo(f"{'':18}{advice}")
    if wrong:
        raise click.exceptions.Exit(1)
    click.echo("checkpoint 00: I can set up my environment.")
