"""The plugins of docs/plugins.md run, and print what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "plugins.md"
TEXT = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
PROGRAMS = re.findall(r"## ([^\n]*)\n(?:(?!\n## ).)*?```python\n(.*?)```\n\n```text\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.skipif(not TEXT, reason="the page is part of the repository, not of the package")
def test_every_program_of_the_page_is_found() -> None:
    assert [title for title, _, _ in PROGRAMS] == ["A kernel", "A wrap", "An observer"]
    assert TEXT.count("```python") == len(PROGRAMS)


@pytest.mark.parametrize(("title", "code", "output"), PROGRAMS, ids=[title for title, _, _ in PROGRAMS])
def test_a_program_of_the_page_prints_what_the_page_says(title: str, code: str, output: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(code, encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if name != "TT_PLUGINS"}
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, env=env, capture_output=True, encoding="utf-8")
    assert done.stdout == output, done.stderr
    assert len(code.strip().splitlines()) <= 30
    assert done.stderr == ("" if title != "An observer" else "add: 262,144 bytes\nrelu: 262,144 bytes\n")
