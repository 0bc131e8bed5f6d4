"""`nox -s release` makes one commit and one tag; sources that changed under a released version are found."""

from __future__ import annotations

import datetime
import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TODAY = datetime.date(2026, 11, 28)

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "tools" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool: Any = load()


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, encoding="utf-8").stdout


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with what a release reads and writes of the six packages, at version 0.1.0."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Somebody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "somebody@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "no-config"))
    for act in tool.ACTS:
        folder = tmp_path / "packages" / act
        about = tool.about_file(tmp_path, act)
        about.parent.mkdir(parents=True)
        shutil.copy(ROOT / "packages" / act / "pyproject.toml", folder)
        metadata = folder / "pyproject.toml"
        text = metadata.read_text(encoding="utf-8")
        for other in tool.ACTS:
            text = tool.re.sub(rf'"{other}>=[^"]*"', f'"{other}>=0.1,<0.2"', text)
        metadata.write_text(text, encoding="utf-8")
        about.write_text('__version__ = "0.1.0"\n', encoding="utf-8")
        (about.parent / "code.py").write_text("x = 1\n", encoding="utf-8")
        (folder / "CHANGELOG.md").write_text(
            f"# Changelog of {act}\n\n## 0.1.0 (unreleased)\n\n- New.\n", encoding="utf-8"
        )
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "Begin")
    return tmp_path


def test_a_minor_release_raises_version_changelog_and_the_pins_of_later_acts(clone: Path) -> None:
    assert tool.release(clone, "tt-perf", "minor", TODAY) == "tt-perf-v0.2.0"
    assert tool.read_version(clone, "tt-perf") == (0, 2, 0)
    assert "## 0.2.0 (2026-11-28)\n" in (clone / "packages/tt-perf/CHANGELOG.md").read_text(encoding="utf-8")
    assert '"tt-perf>=0.2,<0.3"' in (clone / "packages/tinygpt/pyproject.toml").read_text(encoding="utf-8")
    assert '"tt-core>=0.1,<0.2"' in (clone / "packages/tinygpt/pyproject.toml").read_text(encoding="utf-8")
    assert tool.read_version(clone, "tinygpt") == (0, 1, 0)
    assert git(clone, "log", "--format=%s").splitlines() == ["Release tt-perf 0.2.0", "Begin"]
    assert git(clone, "tag", "--points-at", "HEAD").split() == ["tt-perf-v0.2.0"]
    assert git(clone, "status", "--porcelain") == ""


def test_a_patch_and_the_current_version_change_no_pins(clone: Path) -> None:
    assert tool.release(clone, "tt-core", "current", TODAY) == "tt-core-v0.1.0"
    assert tool.release(clone, "tt-learn", "patch", TODAY) == "tt-learn-v0.1.1"
    changed = git(clone, "diff", "--name-only", "HEAD~2").split()
    assert all("pyproject" not in name for name in changed)


def test_sources_that_changed_under_a_released_version_are_found(clone: Path) -> None:
    code = clone / "packages/tt-core/src/tt_core/code.py"
    code.write_text("x = 2\n", encoding="utf-8")
    assert not tool.changed_under_a_released_version(clone, "tt-core")  # 0.1.0 was never released
    git(clone, "commit", "--quiet", "-am", "Change")
    tool.release(clone, "tt-core", "current", TODAY)
    assert not tool.changed_under_a_released_version(clone, "tt-core")
    code.write_text("x = 3\n", encoding="utf-8")
    assert tool.changed_under_a_released_version(clone, "tt-core")
    tool.about_file(clone, "tt-core").write_text('__version__ = "0.1.1"\n', encoding="utf-8")
    assert not tool.changed_under_a_released_version(clone, "tt-core")


@pytest.mark.parametrize(
    ("act", "step", "said"), [("tt-cor", "minor", "which package"), ("tt-core", "big", "which step")]
)
def test_names_that_are_none_are_refused(clone: Path, act: str, step: str, said: str) -> None:
    with pytest.raises(tool.ReleaseError, match=said):
        tool.release(clone, act, step, TODAY)


def test_a_release_needs_a_clean_tree_something_new_and_a_free_tag(clone: Path) -> None:
    tool.release(clone, "tt-core", "current", TODAY)
    with pytest.raises(tool.ReleaseError, match=r"tt-core-v0\.1\.0 exists already"):
        tool.release(clone, "tt-core", "current", TODAY)
    with pytest.raises(tool.ReleaseError, match="nothing to release"):
        tool.release(clone, "tt-core", "patch", TODAY)
    (clone / "left-over").touch()
    with pytest.raises(tool.ReleaseError, match="not committed"):
        tool.release(clone, "tt-data", "minor", TODAY)


@pytest.mark.parametrize("act", tool.ACTS)
def test_no_package_here_has_changed_since_the_tag_of_its_version(act: str) -> None:
    assert not tool.changed_under_a_released_version(ROOT, act), (
        f"the sources of {act} have changed since its version was tagged; raise it in __about__.py and CHANGELOG.md"
    )
