"""The plugins of docs/plugins.md run, and print what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "plugins.md"
TEXT = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
PROGRAMS = re.findall(r"## ([^\n]*)\n(?:(?!\n## ).)*?```python\n(.*?)```\n\n```text\n(.*?)```", TEXT, flags=re.DOTALL)

LONGER = ("An op of your own", "Layers and phases")
"""Programs that take more than 30 lines."""


@pytest.mark.skipif(not TEXT, reason="the page is part of the repository, not of the package")
def test_every_program_of_the_page_is_found() -> None:
    titles = ["A kernel", "A kernel and its gradient", "A wrap", "An observer", "A prepared model"]
    assert [title for title, _, _ in PROGRAMS if title not in LONGER] == titles
    assert {title for title, _, _ in PROGRAMS} == {*titles, *LONGER}
    assert TEXT.count("```python") == len(PROGRAMS)


@pytest.mark.parametrize(("title", "code", "output"), PROGRAMS, ids=[title for title, _, _ in PROGRAMS])
def test_a_program_of_the_page_prints_what_the_page_says(title: str, code: str, output: str, tmp_path: Path) -> None:
    if "import tt_learn" in code:
        pytest.importorskip("tt_learn")
    script = tmp_path / "program.py"
    script.write_text(code, encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if name != "TT_PLUGINS"}
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, env=env, capture_output=True, encoding="utf-8")
    assert done.stdout == output, done.stderr
    assert title in LONGER or len(code.strip().splitlines()) <= 30
    assert done.stderr == ("" if title != "An observer" else "add: 262,144 bytes\nrelu: 262,144 bytes\n")


@pytest.mark.skipif(not TEXT, reason="the page is part of the repository, not of the package")
def test_the_package_of_the_page_is_known_by_its_name(tmp_path: Path) -> None:
    """As installed: the module of the page's first program, and the metadata that pip writes for its pyproject.toml."""
    (toml,) = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)
    name, version, entry = re.search(
        r'name = "(.+)"\nversion = "(.+)"\n\n\[project.entry-points.tinytorch\]\n(.+)\n', toml
    ).groups()  # type: ignore[union-attr]
    code = {title: code for title, code, _ in PROGRAMS}["A kernel"].partition("\nwith ")[0]
    (tmp_path / f"{name.replace('-', '_')}.py").write_text(code + "\nplugin = InPlaceSiLU()\n", encoding="utf-8")
    info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[tinytorch]\n" + entry.replace('"', "") + "\n", encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "TT_PLUGINS": "my-silu"}
    program = "import tt_core as tt; print(tt.silu(tt.ones(1)), tt.manager.has_plugin('my-silu'))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=env, capture_output=True, encoding="utf-8"
    )
    assert done.stdout == "tensor([0.7311]) True\n", done.stderr
    check = [sys.executable, "-m", "tt_core.command.cli", "plugins", "check", "my-silu"]
    assert subprocess.run(check, env=env, capture_output=True, encoding="utf-8").stdout.startswith("silu ")


@pytest.mark.skipif(not TEXT, reason="the page is part of the repository, not of the package")
def test_the_command_of_the_page_runs(tmp_path: Path) -> None:
    section = TEXT.partition("## A command of your own\n")[2]
    toml, code = re.findall(r"\n\n((?:    [^\n]*\n|\n(?=    ))+)", section)
    module = "import tt_core as tt\nimport click\n" + textwrap.dedent(code)
    (tmp_path / "my_package.py").write_text(module.replace("...", "print(path)"), encoding="utf-8")
    info = tmp_path / "my_package-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 0.1\n", encoding="utf-8")
    entries = textwrap.dedent(toml).replace('"', "").replace("project.entry-points.", "")
    (info / "entry_points.txt").write_text(entries, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "tt_core.command.cli", "count", "a.safetensors"]
    done = subprocess.run(command, env=env, capture_output=True, encoding="utf-8")
    assert (done.stdout, done.stderr) == ("a.safetensors\n", "")
