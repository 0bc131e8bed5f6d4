"""Part of `capture`: what the code of a function names, and which of Python's functions read the world outside."""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections.abc import Iterator
from typing import Any

_FILES = ("exists", "is_file", "is_dir", "stat", "read_text", "read_bytes", "open", "iterdir", "glob")
_CLOCKS = ("time", "monotonic", "perf_counter", "process_time", "thread_time")
_OUTSIDE = {
    "builtins": ("input", "open", "eval", "exec", "globals", "locals"),
    "time": (*_CLOCKS, *[f"{name}_ns" for name in _CLOCKS]),
    "datetime": ("datetime", "date"),
    "os": ("environ", "getenv", "urandom", "stat", "listdir", "scandir"),
    "os.path": ("exists", "isfile", "isdir", "getmtime", "getsize"),
    "random": ("Random", "SystemRandom"),
    "secrets": ("randbelow", "choice", "token_bytes", "randbits"),
    "uuid": ("uuid1", "uuid4"),
    "numpy.random": ("default_rng", "RandomState"),
}


def outside() -> set[int]:
    """The ids of what no variable of a program decides: clocks, files, the environment, generators with new seeds.

    >>> import os, time
    >>> id(time.time) in outside(), id(os.environ) in outside(), id(time.sleep) in outside()
    (True, True, False)
    """
    loaded = [(sys.modules[module], names) for module, names in _OUTSIDE.items() if module in sys.modules]
    if "pathlib" in sys.modules:
        loaded.append((sys.modules["pathlib"].Path, _FILES))
    return {id(getattr(where, name)) for where, names in loaded for name in names}


def names_in(code: types.CodeType) -> Iterator[str]:
    """The globals and attributes that a function names, those of functions inside of it included, and its texts."""
    yield from code.co_names
    yield from _texts_in(code.co_consts)


def _texts_in(constant: Any) -> Iterator[str]:
    """Texts that may name an attribute: in `getattr(x, "name")`, or in a pattern, which keeps them in a tuple."""
    if isinstance(constant, types.CodeType):
        yield from names_in(constant)
    elif isinstance(constant, str) and constant.isidentifier():
        yield constant
    elif isinstance(constant, (tuple, frozenset)):
        for part in constant:
            yield from _texts_in(part)


@functools.lru_cache(maxsize=1024)
def globals_in(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The global variables and the imported modules that a function names, those of functions inside of it included.

    >>> import os
    >>> names, modules = globals_in((lambda x: os.sep.join(x)).__code__)
    >>> sorted(names), sorted(modules)
    (['os'], [])
    """
    names, modules = set(), set()
    for each in dis.get_instructions(code):
        if "GLOBAL" in each.opname or each.opname in ("LOAD_NAME", "STORE_NAME"):
            names.add(str(each.argval))
        elif each.opname == "IMPORT_NAME":
            modules.add(str(each.argval))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = globals_in(constant)
            names |= inner[0]
            modules |= inner[1]
    return frozenset(names), frozenset(modules)


def names_of_getter(getter: Any) -> Iterator[str]:
    """The attributes that `operator.attrgetter` or `operator.methodcaller` reads.

    >>> import operator
    >>> [*names_of_getter(operator.attrgetter("options.scale"))]
    ['options', 'scale']
    """
    made, arguments = getter.__reduce__()[:2]
    for part in (*getattr(made, "args", ()), *arguments):
        if isinstance(part, str):
            yield from part.split(".")
