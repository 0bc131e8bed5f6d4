"""The layers contracts catch what they are there for: imports of a later act or module, however written."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ACTS = ("tt_core", "tt_learn", "tt_data", "tt_language", "tt_perf", "tinygpt")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with a copy of the six packages, to plant imports in."""
    for package in (ROOT / "packages").glob("*/src/*"):
        shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def lint_imports(sources: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).parent / "lint-imports"
    return subprocess.run(
        [command, "--config", ROOT / "pyproject.toml", "--no-cache"],
        cwd=sources,
        env={**os.environ, "PYTHONPATH": str(sources), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
    )


def test_the_packages_as_they_are_keep_both_contracts(sources: Path) -> None:
    result = lint_imports(sources)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 kept, 0 broken" in result.stdout


@pytest.mark.parametrize(
    "statement",
    [
        "import {later}",
        "from {later} import anything",
        "def late():\n    import {later}",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {later}",
    ],
    ids=["import", "from", "inside a function", "for types only"],
)
def test_a_forward_import_breaks_the_contract(sources: Path, statement: str) -> None:
    (sources / "tt_learn" / "planted.py").write_text(statement.format(later="tt_data"), encoding="utf-8")
    result = lint_imports(sources)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "tt_learn.planted -> tt_data" in result.stdout


@pytest.mark.parametrize("number", range(len(ACTS) - 1))
def test_each_act_is_held_back_from_the_next(sources: Path, number: int) -> None:
    act, later = ACTS[number : number + 2]
    (sources / act / "planted.py").write_text(f"import {later}\n", encoding="utf-8")
    result = lint_imports(sources)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{act}.planted -> {later}" in result.stdout


def test_a_module_is_held_back_from_the_next_one_of_its_act(sources: Path) -> None:
    tensor = sources / "tt_core" / "tensor" / "tensor.py"
    tensor.write_text(tensor.read_text(encoding="utf-8") + "\nimport tt_core.layers\n", encoding="utf-8")
    result = lint_imports(sources)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "tt_core.tensor.tensor -> tt_core.layers" in result.stdout


def test_an_import_of_an_earlier_act_is_fine(sources: Path) -> None:
    (sources / "tinygpt" / "planted.py").write_text("import tt_core\n", encoding="utf-8")
    assert lint_imports(sources).returncode == 0


def module_of(source: str) -> str:
    """The number of the journey's module that a file says, as it opens, to belong to."""
    found = re.match(r'"""(?:Part of m|M)odule (\d\d)', source)
    return found[1] if found else ""


def private_names(source: str) -> Iterator[tuple[str, str]]:
    """What a file imports although its owner keeps it to itself: owner and name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, x.name) for x in node.names if re.match("_[^_]", x.name))


def test_no_module_needs_a_private_name_of_another_or_nobody_could_replace_it(sources: Path) -> None:
    needed = []
    for path in sources.rglob("*.py"):
        mine = path.read_text(encoding="utf-8")
        for owner, name in private_names(mine):
            theirs = (sources / Path(*owner.split("."))).with_suffix(".py")
            if not theirs.is_file() or not module_of(mine) or module_of(mine) != module_of(theirs.read_text("utf-8")):
                needed.append(f"{path.relative_to(sources)} imports {owner}.{name}")
    assert needed == []
