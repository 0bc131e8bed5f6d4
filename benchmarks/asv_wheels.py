"""Builds, installs and removes the packages of one commit for asv, which runs commands without a shell.

    python asv_wheels.py build CHECKOUT CACHE     a wheel of every packages/* of the commit, into CACHE/acts
    python asv_wheels.py install CACHE            those wheels, and what they require that is missing
    python asv_wheels.py uninstall

Run with the environment's Python, which must hold hatchling.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ACTS = ("tt-core", "tt-learn", "tt-data", "tt-language", "tt-perf", "tinygpt")


def run(*arguments: str, cwd: Path | None = None) -> None:
    subprocess.run([sys.executable, "-m", *arguments], cwd=cwd, check=True)


def build(checkout: str, cache: str) -> None:
    """Build what the commit has: an old one has fewer packages."""
    folder = Path(cache, "acts").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for metadata in sorted(Path(checkout, "packages").glob("*/pyproject.toml")):
        run("hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=metadata.parent)


def install(cache: str) -> None:
    """Replace the packages of another commit, whose version may be the same, by this one's.

    Then install the plugins from outside that TT_BENCH_INSTALL names.
    """
    wheels = sorted(str(wheel) for wheel in Path(cache, "acts").glob("*.whl"))
    if wheels:
        run("pip", "install", "--quiet", "--no-deps", "--no-index", "--force-reinstall", *wheels)
        run("pip", "install", "--quiet", *wheels)
    outside = [requirement for requirement in os.environ.get("TT_BENCH_INSTALL", "").split(os.pathsep) if requirement]
    if outside:
        run("pip", "install", "--quiet", *outside)


def uninstall() -> None:
    run("pip", "uninstall", "--quiet", "--yes", *ACTS)


if __name__ == "__main__":
    {"build": build, "install": install, "uninstall": uninstall}[sys.argv[1]](*sys.argv[2:])
