"""Module 20, capstone: what the configurations of training and fine-tuning share: described fields, checked values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from tt_core.engine.errors import TinyTorchError

KINDS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (float, int), "bool": (bool,)}
"""The types of the values that fit a field's annotation."""


def option(default: object, meaning: str) -> Any:
    """A field whose name alone does not say what it takes; `--help` shows the meaning."""
    return dataclasses.field(default=default, metadata={"meaning": meaning})


def check_settings(config: Any, checks: Iterable[tuple[str, bool, str]]) -> None:
    """Raise `TinyTorchError` for a value of the wrong type, and for the first check that is not fine.

    `checks`: name, whether its value is fine, and what is expected.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if type(value) not in KINDS[str(field.type)]:
            raise TinyTorchError(f"{field.name} is {value!r}, expected {field.type}")
    for name, fine, expected in checks:
        if not fine:
            raise TinyTorchError(f"{name} is {getattr(config, name)}, expected {expected}")
