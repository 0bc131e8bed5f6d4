"""Names that later acts bring, found where PyTorch has them; nothing is imported for it.

`tt_core.nn.Conv2d` is a name of Act III. A package knows only the acts before it, so Act I asks which acts are
installed and looks into those that the program has imported.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from tt_core.plugins import ACTS_GROUP, available


@functools.cache
def _packages() -> tuple[str, ...]:
    """The packages of the installed acts, by their entry points."""
    entries = available(ACTS_GROUP).values()
    return tuple(dict.fromkeys(entry.value.partition(":")[0].partition(".")[0] for entry in entries))


def from_later_acts(name: str, whose: str) -> Any:
    """What an imported act exports as `name`; raises `AttributeError` that tells which acts may have it.

    >>> try:
    ...     from_later_acts("NoSuchLayer", "tt_core.nn")
    ... except AttributeError as error:
    ...     print(str(error)[:27])
    tt_core.nn has no NoSuchLay
    """
    if name.startswith("_"):  # asked by Python itself
        raise AttributeError(f"module {whose!r} has no attribute {name!r}")
    for package in _packages():
        exported = vars(sys.modules.get(package, object))
        if name in exported:
            return exported[name]
    waiting = [package for package in _packages() if package not in sys.modules]
    hint = f"; if a later act brings it, import that first ({', '.join(waiting)})" if waiting else ""
    raise AttributeError(f"{whose} has no {name}{hint}; docs/not-here.md lists what is left out")
