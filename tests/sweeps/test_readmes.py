"""Every Python program in a README runs as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READMES = (ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md")))


def programs(readme: Path) -> list[str]:
    """The blocks of Python, without those that need a run folder, which stands there as "runs/..."."""
    found = re.findall(r"^```python\n(.*?)^```$", readme.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [program for program in found if "runs/..." not in program]


def run(program: str, folder: Path) -> str:
    """What the program prints, run as a file in an empty folder, with warnings as errors."""
    (folder / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("readme", [*filter(programs, READMES)], ids=lambda path: path.parent.name)
def test_the_programs_of_a_readme_run_one_after_the_other(readme: Path, tmp_path: Path) -> None:
    run("\n".join(programs(readme)), tmp_path)


def test_the_first_program_prints_what_its_comment_says(tmp_path: Path) -> None:
    first = programs(ROOT / "README.md")[0]
    assert run(first, tmp_path).strip() == first.rstrip().rpartition("# ")[2]
