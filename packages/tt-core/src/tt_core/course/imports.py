"""Finds imports that a learner's file must not have: of what comes later in the journey, and of solutions."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence

from tt_core.command.journey import Module

PACKAGES = ("tt_core", "tt_learn", "tt_data", "tt_language", "tt_perf", "tinygpt")
"""The package of each act."""


def imported(source: str) -> Iterator[tuple[int, str]]:
    """The line and the dotted name of each import in a file; raises `SyntaxError`.

    >>> list(imported("import tt_learn\\nfrom tt_core.kernels import losses"))
    [(1, 'tt_learn'), (2, 'tt_core.kernels.losses')]
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def forward_references(
    source: str, module: Module, modules: Sequence[Module], given: Collection[str] = ()
) -> list[str]:
    """What is wrong with a file's imports, as ends of a sentence that begins with the file's name.

    `given` are the dotted names that the file imports as `tt start` writes it; these are allowed.

    >>> two = Module(2, "activations", 1, "", "tt_core.activations")
    >>> forward_references("import tt_learn", two, [two])
    ['imports tt_learn in line 1, which belongs to Act II']
    """
    found = []
    for line, name in imported(source):
        if name in given:
            continue
        package, _, rest = name.partition(".")
        act = PACKAGES.index(package) + 1 if package in PACKAGES else 0
        later = [m for m in modules if m.number > module.number and (name + ".").startswith(m.path + ".")]
        if act > module.act:
            numeral = ("I", "II", "III", "IV", "V", "VI")[act - 1]
            found.append(f"imports {package} in line {line}, which belongs to Act {numeral}")
        elif later:
            found.append(f"imports {name} in line {line}, which belongs to module {later[0].number:02} {later[0].name}")
        elif act and rest.partition(".")[0] == "kernels":
            found.append(f"imports {name} in line {line}: kernels hold the framework's solutions")
    return found


def wrong_imports(source: str, module: Module, file: str, modules: Sequence[Module]) -> list[str]:
    """`forward_references` of a learner's text for the file of this dotted name, whose own imports are allowed."""
    from tt_core.course.folder import blanked

    return forward_references(source, module, modules, {name for _, name in imported(blanked(module, file))})
