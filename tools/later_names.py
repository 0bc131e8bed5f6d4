"""Writes `tt_core/engine/later_names.txt`: which public name comes with which later act.

Run as `python tools/later_names.py` where all six packages are installed, when a package has gained or lost a name.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import tt_core
import tt_core.command.cli
import tt_learn
from tt_core.course.commands import installed, milestones
from tt_core.engine import later
from tt_core.engine.plugins import available

TABLE = Path(__file__).parents[1] / "packages" / "tt-core" / "src" / "tt_core" / "engine" / "later_names.txt"
PACKAGES = list(later.ACTS)


def public(package: str) -> set[str]:
    """What a user may ask a package for: no private names, and only two of its submodules."""
    module = importlib.import_module(package)
    names = {name for name in vars(module) if not name.startswith("_") and name != "annotations"}
    modules = {name for name in names if isinstance(getattr(module, name), ModuleType)}
    return names - modules | {"datasets", "transforms"} & modules


def own(package: str) -> set[str]:
    """The public names of a package without those of earlier ones."""
    if package == "tinygpt":  # imports its one class when it is asked for
        return {"TinyGPT"}
    earlier = PACKAGES[: PACKAGES.index(package)]
    return public(package) - {name for other in earlier for name in public(other) - set(later.SHARED)}


def of_tensors() -> set[str]:
    """What tensors have since Act II."""
    return {name for name in dir(tt_learn.Tensor) if not name.startswith("_") and not hasattr(tt_core.Tensor, name)}


def things() -> Iterator[tuple[str, str, str]]:
    """The package, the kind and the name of each plugin, milestone, module and command; a module has two names."""
    tt_core.command.cli.load_acts()
    for name, entry in available().items():
        yield entry.module.partition(".")[0], "plugin", name
    for milestone in milestones():
        yield PACKAGES[milestone.act - 1], "milestone", milestone.name
    for module in installed():
        yield from ((PACKAGES[module.act - 1], "module", name) for name in (module.name, f"{module.number:02}"))
    for name, command in tt_core.command.cli.cli.commands.items():
        yield str(getattr(command.callback, "__module__", "")).partition(".")[0], "command", name


def table() -> str:
    """The text of the table, a line for each name."""
    brought: dict[str, set[str]] = defaultdict(set)
    for package, kind, name in things():
        if package in PACKAGES[1:]:
            brought[f"{package}:{kind}"].add(name)
    owners = {package: own(package) for package in PACKAGES[1:]} | {later.TENSOR: of_tensors()}
    owners |= {owner: brought[owner] for owner in sorted(brought)}
    return "".join(f"{owner} {name}\n" for owner, names in owners.items() for name in sorted(names))


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8", newline="\n")
