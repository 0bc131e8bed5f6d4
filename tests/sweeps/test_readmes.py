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


QUICK_START = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")


def test_the_quick_start_runs_on_the_readers_own_function(tmp_path: Path) -> None:
    network, line = re.findall(r"^```python\n(.*?)^```$", QUICK_START, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "xor.py").write_text(network, encoding="utf-8")
    journey = tmp_path / "my-journey"
    tt(tmp_path, "init", "my-journey")
    tt(journey, "start", "02")
    file = journey / "02_activations" / "activations.py"
    source = file.read_text(encoding="utf-8")
    assert source.count(line) == 1
    file.write_text(source.replace(line, "    return np.where(x > 0, x, x.dtype.type(0))\n"), encoding="utf-8")
    after = tt(journey, "run", "../xor.py")
    assert after.stderr.startswith("yours: 02 activations")
    assert after.stdout == run(network, tmp_path)


def tt(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of the course in a folder."""
    command = [sys.executable, "-m", "tt_core.command.cli", *arguments]
    env = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


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
