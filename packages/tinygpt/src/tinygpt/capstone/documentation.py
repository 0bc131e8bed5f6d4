"""Module 20, capstone: English that every Python installation carries, so that nothing has to be downloaded.

The sources of the standard library hold about 1.3 MB of prose: docstrings and comments. `help()` has the language
reference besides. The sources are read, never imported. What is not a paragraph of English is left out: code, tables,
rules, lists of arguments.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "pydoc_data"}
"""Folders with other people's packages, tests, and English that is repeated elsewhere."""

_SHORTEST, _ENGLISH = 40, 0.8
"""Characters of the shortest paragraph, and the share of its words that are written as English words are."""

_WORD = re.compile(r"[(\"']?[A-Za-z][a-z]*(?:['-][a-z]+)*[.,;:!?)\"']*")
_CODE = re.compile(r"(?::[a-z:]+:)?(`{1,2})([^`]+)\1_?")
_EMPHASIS = re.compile(r"(?<!\w)(\*{1,2})([^*\s][^*]*)\1(?!\w)")
_COMMENT = re.compile(r"\s*#+ ?(.*)")


def documentation() -> str:
    """All paragraphs, an empty line between two; "" for a Python without sources.

    Files come in an order that has nothing to do with their names, so that the last tenth of the text, which training
    holds out, is about the same things as the rest.
    """
    texts = {**_of_the_library(), **_of_the_reference()}
    ordered = sorted(texts, key=lambda name: hashlib.sha256(name.encode()).digest())
    paragraphs = (found for name in ordered for text in texts[name] for found in paragraphs_of(text))
    return "\n\n".join(dict.fromkeys(paragraphs))  # each once, where it stood first


def paragraphs_of(text: str) -> Iterator[str]:
    """The paragraphs of English in a docstring or comment, each on one line and without markup.

    >>> list(paragraphs_of("Return the ``number`` of lines that were read so far.\\n\\n    >>> count(x)\\n    3"))
    ['Return the number of lines that were read so far.']
    """
    for lines in re.split(r"\n[ \t]*\n", inspect.cleandoc(text)):
        if not re.search(r"^[\s>|+\-*=#.<@$%]", lines, re.MULTILINE):  # code, tables, lists
            found = _EMPHASIS.sub(r"\2", _CODE.sub(r"\2", " ".join(lines.split())))
            if _is_english(found):
                yield found


def _is_english(text: str) -> bool:
    words = text.split()
    plain = sum(_WORD.fullmatch(word) is not None for word in words)
    sentence = text[:1].isupper() and text[-1:] in tuple(".!?:")
    return sentence and len(text) >= _SHORTEST and plain >= _ENGLISH * len(words)


def _of_the_library() -> dict[str, list[str]]:
    """The docstrings and comments of each file of the standard library, by its name."""
    library, found = Path(sysconfig.get_path("stdlib")), {}
    for file in library.rglob("*.py"):
        name = file.relative_to(library).parts
        if not _LEFT_OUT.intersection(name):
            try:
                source = file.read_text(encoding="utf-8")
                found["/".join(name)] = [*_docstrings(source), *_comments(source)]
            except (OSError, ValueError, SyntaxError):  # not UTF-8, or written for another Python
                continue
    return found


def _docstrings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield ast.get_docstring(node) or ""


def _comments(source: str) -> Iterator[str]:
    """Comments on lines of their own, those on consecutive lines joined."""
    block: list[str] = []
    for line in [*source.splitlines(), ""]:
        comment = _COMMENT.fullmatch(line)
        if comment:
            block.append(comment[1])
        elif block:
            yield "\n".join(block)
            block = []


def _of_the_reference() -> dict[str, list[str]]:
    """The language reference, as `help()` shows it, by topic."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return {}
    return {f"help: {name}": [text] for name, text in topics.items()}
