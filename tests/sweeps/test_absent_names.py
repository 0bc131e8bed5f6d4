"""The table `engine/later_names.txt` holds the packages' public names; each absent name is answered with its act."""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path

import pytest

from tt_core.engine import later

ROOT = Path(__file__).parents[2]
PACKAGES = list(later.ACTS)
PRESENT = "Sequential"


def test_the_table_is_the_public_names() -> None:
    found = runpy.run_path(str(ROOT / "tools" / "later_names.py"))
    assert found["TABLE"].read_text(encoding="utf-8") == found["table"](), "run python tools/later_names.py"


@pytest.mark.parametrize("package", PACKAGES[:-1])
def test_every_name_of_a_later_act_is_answered_with_that_act(package: str) -> None:
    module = importlib.import_module(package)
    for other in PACKAGES[PACKAGES.index(package) + 1 :]:
        for name in later.names()[other]:
            if hasattr(module, name):
                continue
            with pytest.raises(
                AttributeError, match=rf"^{package} has no {name}: Act .* import \w+, then \w+\.{name}$"
            ):
                getattr(module, name)


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_names_of_an_earlier_act_are_answered_too(package: str) -> None:
    with pytest.raises(AttributeError, match=f"{package} has no {PRESENT}: Act I Foundation has it"):
        getattr(importlib.import_module(package), PRESENT)


@pytest.mark.parametrize("package", ["tt_core", "tt_core.nn", "tt_core.utils.data"])
def test_an_import_of_a_later_name_is_answered_with_its_act(package: str) -> None:
    for other in PACKAGES[1:]:
        for name in later.names()[other]:
            if hasattr(importlib.import_module(package), name):
                continue
            with pytest.raises(ImportError, match=rf"^{package} has no {name}: (Act|it) .*"):
                importlib.import_module(f"{package}.{name}")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'tt_core\.nonsense'"):
        importlib.import_module("tt_core.nonsense")


def test_what_a_later_act_brings_is_named_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"plugin": "profiler", "milestone": "xor", "module": "08", "command": "profile"}
    for kind, name in asked.items():
        assert later.absent_thing(kind, name, ["a"]) == "known: a"  # all six are installed here
    monkeypatch.setattr(later, "find_spec", lambda package: None)
    assert later.absent_thing("plugin", "profiler", ["a"]) == "Act V Production brings it: install tt-perf"
    assert later.absent_thing("milestone", "xor", ["a"]) == "Act II Learning brings it: install tt-learn"
    assert later.absent_thing("module", "08", ["a"]) == "Act III Data & Scale brings it: install tt-data"
    assert later.absent_thing("command", "profile", ["a"]) == "Act V Production brings it: install tt-perf"
    assert later.absent_thing("plugin", "aa", ["aaa"]) == "did you mean aaa?"
