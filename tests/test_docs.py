"""The site's pages name what exists: hooks, functions whose code they show, and numbers that are measured."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
PACKAGES = {path.name: path for path in (ROOT / "packages").glob("*/src/*")}


def source_of(module: str) -> str:
    package, *rest = module.split(".")
    path = PACKAGES[package].joinpath(*rest)
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")


def names_in(source: str) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def placeholders(kind: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found += [(page.name, words) for words in re.findall(rf"\{{\{{ {kind} ([^}}]+?) \}}\}}", text)]
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_every_hook_has_a_page(package: str) -> None:
    page = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    for path in PACKAGES[package].rglob("hookspecs.py"):
        module = ".".join([package, *path.relative_to(PACKAGES[package]).with_suffix("").parts])
        assert f"::: {module}" in page
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("tt_"):
                assert ast.get_docstring(node), node.name


@pytest.mark.parametrize(("page", "words"), placeholders("code"))
def test_code_that_a_page_shows_exists(page: str, words: str) -> None:
    module, name = words.split()
    assert name.rpartition(".")[2] in names_in(source_of(module)), f"{page}: {words}"


@pytest.mark.parametrize("kind", ["number", "picture"])
def test_numbers_and_pictures_of_the_pages_are_made_when_the_site_is_built(kind: str) -> None:
    made: set[str] = set()
    for path in (ROOT / "docs" / "measured").glob("*.py"):
        made |= names_in(path.read_text(encoding="utf-8"))
    assert {name for _, name in placeholders(kind)} <= made


STOP = re.compile(r"\[`([\w/]+\.py)`\]\(\.\./(packages/[^)]+)\)((?:, `[\w.]+`)*)")
"""A stop of the tour: a link to a file, and the functions to read in it."""


def test_every_stop_of_the_tour_exists() -> None:
    stops = STOP.findall(" ".join((ROOT / "docs" / "tour.md").read_text(encoding="utf-8").split()))
    assert len(stops) > 25
    for shown, path, names in stops:
        assert path.endswith(f"/src/{shown}")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        for name in re.findall(r"`([\w.]+)`", names):
            node: ast.AST = tree
            for part in name.split("."):
                found = [child for child in ast.iter_child_nodes(node) if getattr(child, "name", "") == part]
                assert found, f"{shown} has no {name}"
                node = found[-1]


def test_every_page_is_in_the_navigation() -> None:
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES]
    assert [page for page in pages if page not in listed] == []


def reading_tool() -> Any:
    sys.path.insert(0, str(ROOT / "tools"))
    return importlib.import_module("reading")


def test_the_lessons_are_what_a_person_reads_in_a_weekend() -> None:
    lessons = reading_tool().all_lessons()
    assert lessons.code <= 6000
    assert lessons.longest <= 350
    assert 0.04 <= lessons.comments / lessons.lines <= 0.08


def test_the_readme_quotes_the_table_of_code_lines() -> None:
    reading = reading_tool()

    def numbers(text: str) -> list[int]:
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        return [int(cell.replace(",", "")) for row in rows for cell in re.findall(r"\| ([\d,]+) ", row)]

    quoted = (ROOT / "README.md").read_text(encoding="utf-8").partition(reading.BEGIN)[2].partition(reading.END)[0]
    assert numbers(quoted) == pytest.approx(numbers(reading.table()), rel=0.1), "run: python tools/reading.py --write"
