"""Prepares the release of one package: version, changelog, pins of later acts, one commit, one tag.

    python tools/release.py tt-perf minor      0.1.0 becomes 0.2.0, tagged tt-perf-v0.2.0 (or: major, patch)
    python tools/release.py tt-perf current    the version stays as it is
    python tools/release.py tt-perf open       begins the next version after a release; no commit, no tag

Nothing is pushed or uploaded. docs/releasing.md tells the whole way.
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
WORDS = (*STEPS, "open")

Version = tuple[int, int, int]


class ReleaseError(Exception):
    """A release that cannot be made, in one line."""


def about_file(root: Path, act: str) -> Path:
    return root / "packages" / act / "src" / act.replace("-", "_") / "__about__.py"


def read_version(root: Path, act: str) -> Version:
    """The version in `__about__.py`."""
    found = re.search(r'__version__ = "(\d+)\.(\d+)\.(\d+)"', about_file(root, act).read_text(encoding="utf-8"))
    if not found:
        raise ReleaseError(f'{about_file(root, act)} holds no version; write __version__ = "1.2.3"')
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
    return version in released_versions(root, act)


def released_versions(root: Path, act: str) -> list[Version]:
    """The versions of a package that are tagged, in ascending order."""
    names = git(root, "tag", "--list", f"{act}-v*").stdout.split()
    found = (re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", name.removeprefix(f"{act}-v")) for name in names)
    return sorted((int(match[1]), int(match[2]), int(match[3])) for match in found if match)


def changed_under_a_released_version(root: Path, act: str) -> bool:
    """Whether sources or metadata differ from those that were tagged with the version that they still carry."""
    version = read_version(root, act)
    if not is_tagged(root, act, version):
        return False
    installed = [f"packages/{act}/src", f"packages/{act}/pyproject.toml"]
    return git(root, "diff", "--quiet", tag_of(act, version), "--", *installed, may_fail=True).returncode != 0


def replaced(path: Path, pattern: str, by: str, what: str) -> None:
    """Replace the first match of `pattern` in a file; raises `ReleaseError` without one."""
    text, count = re.subn(pattern, by, path.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE)
    if not count:
        raise ReleaseError(f"{path} has no {what}")
    path.write_text(text, encoding="utf-8", newline="\n")


def changelog_of(root: Path, act: str) -> Path:
    return root / "packages" / act / "CHANGELOG.md"


def write_version(root: Path, act: str, version: Version) -> None:
    replaced(about_file(root, act), r'__version__ = ".*"', f'__version__ = "{text_of(version)}"', "version")


def open_next(root: Path, act: str, change: str = "") -> Version:
    """Begin the next patch version after a release, with `change` in its changelog, and return it."""
    version = read_version(root, act)
    if not is_tagged(root, act, version):
        raise ReleaseError(f"{act} {text_of(version)} is open: it is not released yet")
    version = raised(version, "patch")
    entries = f"### Changed\n\n- {change}\n\n" if change else ""
    section = f"## {text_of(version)} (unreleased)\n\n{entries}"
    replaced(changelog_of(root, act), r"^(?=## )", section, "heading")
    write_version(root, act, version)
    return version


def raise_pins(root: Path, act: str, version: Version) -> list[str]:
    """Have the later acts require the minor version of `version`; returns those whose pin has changed.

    One that carries a released version begins the next, since a released version keeps its pins.
    """
    major, minor, _ = version
    changed = []
    for later in ACTS[ACTS.index(act) + 1 :]:
        metadata = root / "packages" / later / "pyproject.toml"
        before = metadata.read_text(encoding="utf-8")
        after = re.sub(rf'"{act}>=[^"]*"', f'"{act}>={major}.{minor},<{major}.{minor + 1}"', before)
        if after != before:
            metadata.write_text(after, encoding="utf-8", newline="\n")
            changed.append(later)
            if is_tagged(root, later, read_version(root, later)):
                open_next(root, later, f"Requires {act} {major}.{minor}.")
    return changed


def target(root: Path, act: str, step: str) -> Version:
    """The version to release: a step above the last release, or the one that the sources carry."""
    version = read_version(root, act)
    released = [earlier for earlier in released_versions(root, act) if earlier <= version]  # 0.2.0 may be out at 0.1.1
    wanted = version if step == "current" else raised(released[-1] if released else version, step)
    if is_tagged(root, act, wanted):
        raise ReleaseError(f"{tag_of(act, wanted)} exists already; choose another step")
    if wanted < version:
        raise ReleaseError(f"{act} is at {text_of(version)} already, above {text_of(wanted)}; say current")
    return wanted


def check_changelog(root: Path, act: str) -> None:
    """Raises `ReleaseError` unless the first section is marked as unreleased and has an entry."""
    text = changelog_of(root, act).read_text(encoding="utf-8")
    heading, entries = (*re.split(r"^## ", text, flags=re.MULTILINE), "")[1].split("\n", 1)
    if not heading.endswith("(unreleased)"):
        raise ReleaseError(
            f"{act} has no changelog section marked (unreleased): nothing to release; begin one with open"
        )
    if not re.search(r"^- ", entries, flags=re.MULTILINE):
        raise ReleaseError(f"the changelog of {act} says nothing under '{heading}'; say what a user notices")


def release(root: Path, act: str, step: str, today: datetime.date) -> str:
    """Make the commit and the tag, and return the tag. Raises `ReleaseError` where something is in the way."""
    if changes := git(root, "status", "--porcelain").stdout.splitlines():
        raise ReleaseError(f"commit or stash what has changed first: {', '.join(line[3:] for line in changes)}")
    version = target(root, act, step)
    check_changelog(root, act)
    replaced(changelog_of(root, act), r"^## .*$", f"## {text_of(version)} ({today.isoformat()})", "heading")
    write_version(root, act, version)
    pinned = raise_pins(root, act, version)
    git(root, "add", "packages")
    git(root, "commit", "--quiet", "-m", f"Release {act} {text_of(version)}")
    git(root, "tag", "-a", tag_of(act, version), "-m", f"{act} {text_of(version)}")
    for later in pinned:
        print(f"{later} now requires {act} {version[0]}.{version[1]}; release it too")
    for earlier in ACTS[: ACTS.index(act)]:
        if not is_tagged(root, earlier, read_version(root, earlier)):
            print(f"{earlier} {text_of(read_version(root, earlier))} is not released yet; release it before you upload")
    return tag_of(act, version)


def main(act: str = "", word: str = "", *more: str) -> str:
    """Do what the arguments say, and say what was done."""
    if act not in ACTS or word not in WORDS or more:
        raise ReleaseError(f"say which package ({', '.join(ACTS)}) and one of {', '.join(WORDS)}")
    if word == "open":
        return f"{act} {text_of(open_next(ROOT, act))} is open; write into its CHANGELOG.md what changes"
    return f"tagged {release(ROOT, act, word, datetime.date.today())}; nothing was pushed"


if __name__ == "__main__":
    try:
        print(main(*sys.argv[1:]))
    except ReleaseError as error:
        sys.exit(f"release: {error}")
