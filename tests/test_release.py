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


def test_pins_that_changed_under_a_released_version_are_found(clone: Path) -> None:
    tool.release(clone, "tinygpt", "current", TODAY)
    metadata = clone / "packages/tinygpt/pyproject.toml"
    metadata.write_text(metadata.read_text(encoding="utf-8").replace("numpy>=2.0", "numpy>=2.1"), encoding="utf-8")
    assert tool.changed_under_a_released_version(clone, "tinygpt")


def test_a_released_package_whose_pin_is_raised_begins_its_next_version(clone: Path) -> None:
    for act in tool.ACTS:
        tool.release(clone, act, "current", TODAY)
    change(clone, "tt-perf")
    tool.open_next(clone, "tt-perf", "New.")
    git(clone, "commit", "--quiet", "-am", "Change")
    tool.release(clone, "tt-perf", "minor", TODAY)
    assert tool.read_version(clone, "tinygpt") == (0, 1, 1)
    changelog = (clone / "packages/tinygpt/CHANGELOG.md").read_text(encoding="utf-8")
    sections = "## 0.1.1 (unreleased)\n\n### Changed\n\n- Requires tt-perf 0.2.\n\n## 0.1.0 (2026-11-28)\n"
    assert changelog.startswith(f"# Changelog of tinygpt\n\n{sections}")
    assert not any(tool.changed_under_a_released_version(clone, act) for act in tool.ACTS)
    assert tool.release(clone, "tinygpt", "patch", TODAY) == "tinygpt-v0.1.1"


def change(clone: Path, act: str) -> None:
    code = tool.about_file(clone, act).with_name("code.py")
    code.write_text(code.read_text(encoding="utf-8") + "y = 2\n", encoding="utf-8")


def test_open_begins_the_next_version_and_steps_count_from_the_last_release(clone: Path) -> None:
    tool.release(clone, "tt-core", "current", TODAY)
    change(clone, "tt-core")
    assert tool.open_next(clone, "tt-core") == (0, 1, 1)
    changelog = clone / "packages/tt-core/CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    assert text.startswith("# Changelog of tt-core\n\n## 0.1.1 (unreleased)\n\n## 0.1.0 (2026-11-28)\n")
    assert not tool.changed_under_a_released_version(clone, "tt-core")
    with pytest.raises(tool.ReleaseError, match=r"tt-core 0\.1\.1 is open"):
        tool.open_next(clone, "tt-core")
    git(clone, "commit", "--quiet", "-am", "Change")
    with pytest.raises(tool.ReleaseError, match=r"says nothing under '0\.1\.1 \(unreleased\)'"):
        tool.release(clone, "tt-core", "patch", TODAY)
    changelog.write_text(text.replace("(unreleased)", "(unreleased)\n\n- New."), encoding="utf-8")
    git(clone, "commit", "--quiet", "-am", "Say it")
    assert tool.target(clone, "tt-core", "minor") == (0, 2, 0)
    assert tool.release(clone, "tt-core", "patch", TODAY) == "tt-core-v0.1.1"


def test_a_step_below_the_open_version_is_refused(clone: Path) -> None:
    tool.release(clone, "tt-core", "current", TODAY)
    tool.write_version(clone, "tt-core", (0, 2, 0))
    with pytest.raises(tool.ReleaseError, match=r"at 0\.2\.0 already, above 0\.1\.1; say current"):
        tool.target(clone, "tt-core", "patch")
    assert tool.target(clone, "tt-core", "minor") == tool.target(clone, "tt-core", "current") == (0, 2, 0)


def test_an_old_line_is_released_beside_a_newer_one(clone: Path) -> None:
    tool.release(clone, "tt-core", "current", TODAY)
    git(clone, "tag", "tt-core-v0.2.0")
    tool.write_version(clone, "tt-core", (0, 1, 1))
    assert tool.target(clone, "tt-core", "patch") == (0, 1, 1)


def test_earlier_acts_that_are_not_released_are_named(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool.release(clone, "tt-core", "current", TODAY)
    tool.release(clone, "tt-data", "current", TODAY)
    said = "tt-learn 0.1.0 is not released yet; release it before you upload\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("arguments", [(), ("tt-cor", "minor"), ("tt-core", "big"), ("tt-core", "minor", "now")])
def test_other_words_are_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(tool.ReleaseError, match=r"say which package \(tt-core, .* and one of major, .*, open"):
        tool.main(*arguments)


def test_the_command_opens_and_releases(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "ROOT", clone)
    assert tool.main("tt-core", "current") == "tagged tt-core-v0.1.0; nothing was pushed"
    assert tool.main("tt-core", "open") == "tt-core 0.1.1 is open; write into its CHANGELOG.md what changes"


def test_a_release_needs_a_clean_tree_something_new_and_a_free_tag(clone: Path) -> None:
    tool.release(clone, "tt-core", "current", TODAY)
    with pytest.raises(tool.ReleaseError, match=r"tt-core-v0\.1\.0 exists already"):
        tool.release(clone, "tt-core", "current", TODAY)
    with pytest.raises(tool.ReleaseError, match="nothing to release"):
        tool.release(clone, "tt-core", "patch", TODAY)
    (clone / "left-over").touch()
    with pytest.raises(tool.ReleaseError, match=r"commit or stash what has changed first: left-over$"):
        tool.release(clone, "tt-data", "minor", TODAY)


@pytest.mark.parametrize("act", tool.ACTS)
def test_no_package_here_has_changed_since_the_tag_of_its_version(act: str) -> None:
    assert not tool.changed_under_a_released_version(ROOT, act), (
        f"{act} has changed since its version was tagged; begin the next one: nox -s release -- {act} open"
    )
