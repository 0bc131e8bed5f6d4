"""Type checkers and editors know what tensors, ops and layers return; run where the six packages are installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def mypy(path: Path, folder: Path) -> str:
    """What `mypy --strict` says of a user's file, without the configuration of this repository."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-color-output", str(path)]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_users_program_passes_and_runs(tmp_path: Path) -> None:
    assert mypy(FOLDER / "program.py", tmp_path).startswith("Success")
    done = subprocess.run([sys.executable, FOLDER / "program.py"], cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def test_expressions_have_the_types_in_their_comments(tmp_path: Path) -> None:
    file = FOLDER / "revealed.py"
    lines = enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
    wanted = {number: line.rpartition("  # ")[2] for number, line in lines if line.startswith("reveal_type(")}
    found = re.findall(r':(\d+): note: Revealed type is "(.*)"', mypy(file, tmp_path))
    assert {int(number): revealed for number, revealed in found} == wanted
