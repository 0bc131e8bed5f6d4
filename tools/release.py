"""Prepares the release of one package: version, changelog, pins of later acts, one commit, one tag.

    python tools/release.py tt-perf minor      0.1.0 becomes 0.2.0, tagged tt-perf-v0.2.0
    python tools/release.py tt-perf current    the version stays as it is

Nothing is pushed or uploaded.
"""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ACTS = ("tt-core", "tt-learn", "tt-data", "tt-language", "tt-perf", "tinygpt")
STEPS = ("major", "minor", "patch", "current")

Version = tuple[int, int, int]


class ReleaseError(Exception):
    """A release that cannot be made, in one line."""


def about_file(root: Path, act: str) -> Path:
    return root / "packages" / act / "src" / act.replace("-", "_") / "__about__.py"


def read_version(root: Path, act: str) -> Version:
    """The version in `__about__.py`."""
    found = re.search(r'__version__ = "(\d+)\.(\d+)\.(\d+)"', about_file(root, act).read_text(encoding="utf-8"))
    if not found:
        raise ReleaseError(f"{about_file(root, act)} holds no version; write __version__ = '1.2.3'")
    return int(found[1]), int(found[2]), int(found[3])


def text_of(version: Version) -> str:
    return ".".join(map(str, version))


def tag_of(act: str, version: Version) -> str:
    return f"{act}-v{text_of(version)}"


def raised(version: Version, step: str) -> Version:
    """The next version.

    >>> raised((0, 1, 4), "minor"), raised((0, 1, 4), "patch"), raised((0, 1, 4), "current")
    ((0, 2, 0), (0, 1, 5), (0, 1, 4))
    """
    major, minor, patch = version
    return {
        "major": (major + 1, 0, 0),
        "minor": (major, minor + 1, 0),
        "patch": (major, minor, patch + 1),
        "current": version,
    }[step]


def git(root: Path, *arguments: str, may_fail: bool = False) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, encoding="utf-8")
    if done.returncode and not may_fail:
        raise ReleaseError(f"git {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done


def is_tagged(root: Path, act: str, version: Version) -> bool:
    return (
        git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag_of(act, version)}", may_fail=True).returncode
        == 0
    )


def changed_under_a_released_version(root: Path, act: str) -> bool:
    """Whether the sources differ from those that were tagged with the version that they still carry."""
    version = read_version(root, act)
    if not is_tagged(root, act, version):
        return False
    sources = about_file(root, act).parent.relative_to(root).as_posix()
    return git(root, "diff", "--quiet", tag_of(act, version), "--", sources, may_fail=True).returncode != 0


def replaced(path: Path, pattern: str, by: str, what: str) -> None:
    """Replace the first match of `pattern` in a file; raises `ReleaseError` without one."""
    text, count = re.subn(pattern, by, path.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE)
    if not count:
        raise ReleaseError(f"{path} has no {what}")
    path.write_text(text, encoding="utf-8", newline="\n")


def raise_pins(root: Path, act: str, version: Version) -> list[str]:
    """Have the later acts require the minor version of `version`; returns those whose pin has changed."""
    major, minor, _ = version
    changed = []
    for later in ACTS[ACTS.index(act) + 1 :]:
        metadata = root / "packages" / later / "pyproject.toml"
        before = metadata.read_text(encoding="utf-8")
        after = re.sub(rf'"{act}>=[^"]*"', f'"{act}>={major}.{minor},<{major}.{minor + 1}"', before)
        if after != before:
            metadata.write_text(after, encoding="utf-8", newline="\n")
            changed.append(later)
    return changed


def release(root: Path, act: str, step: str, today: datetime.date) -> str:
    """Make the commit and the tag, and return the tag. Raises `ReleaseError` where something is in the way."""
    if act not in ACTS or step not in STEPS:
        raise ReleaseError(f"say which package ({', '.join(ACTS)}) and which step ({', '.join(STEPS)})")
    if git(root, "status", "--porcelain").stdout:
        raise ReleaseError("there are changes that are not committed; commit or stash them first")
    version = raised(read_version(root, act), step)
    if is_tagged(root, act, version):
        raise ReleaseError(f"{tag_of(act, version)} exists already; choose another step")
    changelog = root / "packages" / act / "CHANGELOG.md"
    heading = re.search(r"^## .*$", changelog.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if heading is None or not heading[0].endswith("(unreleased)"):
        raise ReleaseError(f"{changelog} has no first heading '## {text_of(version)} (unreleased)': nothing to release")
    replaced(changelog, r"^## .*$", f"## {text_of(version)} ({today.isoformat()})", "heading")
    replaced(about_file(root, act), r'__version__ = ".*"', f'__version__ = "{text_of(version)}"', "version")
    pinned = raise_pins(root, act, version)
    git(root, "add", "packages")
    git(root, "commit", "--quiet", "-m", f"Release {act} {text_of(version)}")
    git(root, "tag", "-a", tag_of(act, version), "-m", f"{act} {text_of(version)}")
    for later in pinned:
        print(f"{later} now requires {act} {version[0]}.{version[1]}; release it too")
    return tag_of(act, version)


if __name__ == "__main__":
    try:
        print(f"tagged {release(ROOT, *(*sys.argv[1:3], '', '')[:2], datetime.date.today())}; nothing was pushed")
    except ReleaseError as error:
        sys.exit(f"release: {error}")
