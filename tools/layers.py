"""Checks the layers contract of pyproject.toml on the sources as they stand, nothing installed."""

from __future__ import annotations

import sys
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]


def main() -> int:
    """The exit status of import-linter: 0 when every contract is kept."""
    sys.path[:0] = [str(source) for source in (ROOT / "packages").glob("*/src")]
    return lint_imports(config_filename=str(ROOT / "pyproject.toml"))


if __name__ == "__main__":
    sys.exit(main())
