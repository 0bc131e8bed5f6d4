"""Takes the bodies of exercise functions out of a file, so that a learner can write them.

Signatures, docstrings, decorators, imports and all other functions stay as they are. Nothing is imported or run: the
file is changed by the line numbers of its syntax tree.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Every function and class of a file with its qualified name, such as `Linear.forward`.

    >>> [name for name, _ in definitions(ast.parse("class A:\\n    def f(self): ...\\ndef g(): ..."))]
    ['A', 'A.f', 'g']
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Definition):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node, f"{prefix}{node.name}.")


def blank(source: str, exercises: Iterable[str], helpers: Iterable[str] = ()) -> str:
    """`source` with the bodies of the named functions replaced by `raise NotImplementedError`, and without `helpers`.

    Raises `KeyError` for a name that is not in the file.

    >>> print(blank("def double(x):\\n    '''Twice x.'''\\n    return 2 * x  # twice", ["double"]))
    def double(x):
        '''Twice x.'''
        raise NotImplementedError("double")  # your code here
    """
    found = dict(definitions(ast.parse(source)))
    lines = source.splitlines()
    edits = [(_body(found[name]), _placeholder(name, found[name])) for name in exercises]
    edits += [(_whole(found[name], lines), []) for name in helpers]
    for (first, last), text in sorted(edits, reverse=True):
        lines[first:last] = text
    return "\n".join(lines) + ("\n" if source.endswith("\n") else "")


def _body(node: Definition) -> tuple[int, int]:
    """The lines of a function's body after its docstring, as a slice."""
    docstring = ast.get_docstring(node, clean=False) is not None
    first = node.body[0].end_lineno if docstring else node.body[0].lineno - 1
    return first or 0, node.end_lineno or 0


def _whole(node: Definition, lines: list[str]) -> tuple[int, int]:
    """The lines of a definition with its decorators and the blank lines before it."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    while first and not lines[first - 1].strip():
        first -= 1
    return first, node.end_lineno or 0


def _placeholder(name: str, node: Definition) -> list[str]:
    indent = " " * (node.col_offset + 4)
    return [f'{indent}raise NotImplementedError("{name}")  # your code here']


def solution(source: str, name: str) -> str:
    """The text of one function, with its signature and docstring, as the framework has it.

    >>> solution("def one():\\n    return 1\\n\\ndef two():\\n    return 2", "two")
    'def two():\\n    return 2'
    """
    node = dict(definitions(ast.parse(source)))[name]
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    return "\n".join(source.splitlines()[first : node.end_lineno])


def line_of(source: str, name: str) -> int | None:
    """The first line of a function's body after its docstring; None where it is not defined.

    >>> line_of("def one():\\n    'Gives 1.'\\n    return 1", "one")
    3
    """
    node = dict(definitions(ast.parse(source))).get(name)
    return None if node is None else _body(node)[0] + 1
