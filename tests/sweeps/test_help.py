"""`help()` says something about everything public: functions, layers, and the methods of tensors."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

import tt_core
import tt_core.nn.functional
import tt_data
import tt_language
import tt_learn
import tt_perf

PLACES = (tt_core, tt_core.nn, tt_core.nn.functional, tt_learn, tt_data, tt_language, tt_perf)


@pytest.mark.parametrize("place", [*PLACES, tt_learn.Tensor, tt_core.Layer], ids=lambda place: str(place.__name__))
def test_every_public_name_has_a_docstring(place: ModuleType | type) -> None:
    things = {name: getattr(place, name) for name in dir(place) if not name.startswith("_")}
    assert [name for name, thing in things.items() if callable(thing) and not inspect.getdoc(thing)] == []
