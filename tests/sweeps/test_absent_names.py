"""The tables of `engine/later.py` are the packages' public names; each absent name is answered with its act."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

import tt_core
import tt_learn
from tt_core.engine import later

PACKAGES = list(later.ACTS)
PRESENT = "Sequential"


def public(package: str) -> set[str]:
    """What a user may ask a package for: no private names, and of the submodules those that the package names."""
    module = importlib.import_module(package)
    names = {name for name in vars(module) if not name.startswith("_") and name != "annotations"}
    modules = {name for name in names if isinstance(getattr(module, name), ModuleType)}
    return names - modules | {"datasets", "transforms"} & modules


def own(package: str) -> set[str]:
    if package == "tinygpt":  # it imports its one class when it is asked for
        return {"TinyGPT"}
    earlier = PACKAGES[: PACKAGES.index(package)]
    return public(package) - {name for other in earlier for name in public(other) - set(later.SHARED)}


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_the_table_is_the_public_names(package: str) -> None:
    table = set(later.NAMES[package].split())
    assert sorted(own(package) - table) == [], "add these to tt_core.engine.later.NAMES"
    assert sorted(table - own(package) - public(package)) == [], "these are gone; take them out"


def test_the_table_of_gradients_is_what_the_tensor_of_act_two_adds() -> None:
    added = {name for name in dir(tt_learn.Tensor) if not name.startswith("_") and not hasattr(tt_core.Tensor, name)}
    assert added == set(later.GRADIENTS.split())


@pytest.mark.parametrize("package", PACKAGES[:-1])
def test_every_name_of_a_later_act_is_answered_with_that_act(package: str) -> None:
    module = importlib.import_module(package)
    for other in PACKAGES[PACKAGES.index(package) + 1 :]:
        for name in later.NAMES[other].split():
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
