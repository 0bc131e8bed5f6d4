"""What the six packages say about themselves agrees: versions, pins, licences, changelogs, tools."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
ACTS = ("tt-core", "tt-learn", "tt-data", "tt-language", "tt-perf", "tinygpt")
SHARED = ("requires-python", "license", "license-files", "authors", "classifiers")

each_act = pytest.mark.parametrize("act", ACTS)


def read(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def project(act: str) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(read("packages", act, "pyproject.toml"))["project"]
    return table


def import_name(act: str) -> str:
    return act.replace("-", "_")


def version(act: str) -> str:
    match = re.search(
        r'__version__ = "(\d+\.\d+\.\d+)"', read("packages", act, "src", import_name(act), "__about__.py")
    )
    assert match, f"{act}: no version in __about__.py"
    return match[1]


def pins(act: str) -> dict[str, str]:
    """The act's requirements of other acts: name to version range."""
    split = (re.fullmatch(r"([A-Za-z0-9-]+)(.*)", line) for line in project(act)["dependencies"])
    return {found[1]: found[2] for found in split if found and found[1] in ACTS}


def test_the_six_packages_are_the_six_acts() -> None:
    assert {folder.name for folder in (ROOT / "packages").iterdir() if folder.is_dir()} == set(ACTS)


@each_act
def test_only_earlier_acts_are_required_and_each_pin_admits_the_version_beside_it(act: str) -> None:
    earlier = ACTS[: ACTS.index(act)]
    assert set(pins(act)) <= set(earlier)
    for required, pin in pins(act).items():
        major, minor, _ = map(int, version(required).split("."))
        assert pin == f">={major}.{minor},<{major}.{minor + 1}", f"{act} requires {required}{pin}"


@each_act
def test_what_an_act_imports_it_also_requires(act: str) -> None:
    sources = (ROOT / "packages" / act / "src").rglob("*.py")
    imported = {name for path in sources for name in imports(path.read_text(encoding="utf-8"))}
    others = {other for other in ACTS if import_name(other) in imported and other != act}
    assert others <= set(pins(act))


def imports(source: str) -> set[str]:
    """The top-level names that a source imports."""
    return set(re.findall(r"^\s*(?:from|import)\s+(\w+)", source, flags=re.MULTILINE))


@each_act
def test_metadata_is_shared(act: str) -> None:
    mine, first = project(act), project(ACTS[0])
    assert {key: mine[key] for key in SHARED} == {key: first[key] for key in SHARED}
    assert mine["name"] == act
    assert mine["dynamic"] == ["version"]


@each_act
def test_each_package_carries_the_licence(act: str) -> None:
    assert read("packages", act, "LICENSE") == read("LICENSE")


@each_act
def test_the_changelog_opens_with_the_version(act: str) -> None:
    headings = re.findall(r"^## (\S+)", read("packages", act, "CHANGELOG.md"), flags=re.MULTILINE)
    assert headings, f"{act}: the changelog has no release"
    assert headings[0] == version(act)


@pytest.mark.parametrize("page", [f"packages/{act}/CHANGELOG.md" for act in ACTS] + ["docs/deviations.md"])
def test_a_list_says_a_thing_once(page: str) -> None:
    """Two branches that both write to a list are merged into one that says it twice."""
    entries = re.findall(r"^(?:- .{1,60}|\| `.+?\|.+?\|)", read(page), flags=re.MULTILINE)
    assert sorted(set(entries)) == sorted(entries)


@each_act
def test_each_package_is_typed_and_described(act: str) -> None:
    assert (ROOT / "packages" / act / "src" / import_name(act) / "py.typed").is_file()
    assert project(act)["description"] in read("packages", act, "README.md")


@each_act
def test_entry_points_lie_in_the_package_that_names_them(act: str) -> None:
    tables = [project(act).get("scripts", {}), *project(act).get("entry-points", {}).values()]
    targets = [target for table in tables for target in table.values()]
    for target in targets:
        module, _, attribute = target.partition(":")
        assert module.split(".")[0] == import_name(act)
        assert attribute.isidentifier()
        place = ROOT / "packages" / act / "src" / Path(*module.split("."))
        assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file(), target


def test_the_versions_of_python_agree_everywhere() -> None:
    classified = re.findall(r"Python :: (3\.\d+)", "\n".join(project(ACTS[0])["classifiers"]))
    matrix = re.search(r"^\s+python: \[(.*)\]$", read(".github", "workflows", "test.yml"), flags=re.MULTILINE)
    assert matrix
    assert re.findall(r"3\.\d+", matrix[1]) == classified
    assert project(ACTS[0])["requires-python"] == f">={classified[0]}"


def test_pre_commit_and_nox_run_the_same_ruff() -> None:
    pinned = tomllib.loads(read("pyproject.toml"))["dependency-groups"]["lint"]
    assert set(re.findall(r"ruff==[\d.]+", read(".pre-commit-config.yaml"))) == set(pinned)


def test_continuous_integration_runs_the_commands_of_the_readme() -> None:
    command = "python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox"
    for line in (command, f"{command} -s tinygpt"):
        assert re.search(rf"^    {re.escape(line)}$", read("README.md"), flags=re.MULTILINE)
    assert re.search(rf'^step "{re.escape(command)}"$', read(".ci", "run"), flags=re.MULTILINE)
