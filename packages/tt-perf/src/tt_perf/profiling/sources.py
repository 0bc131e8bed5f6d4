"""Part of module 14: the line of the user's program that made a call.

It is the innermost line outside of the framework, of Python's library, of installed packages and their commands. Where
there is none, as in a command of ours, it is the innermost line of Acts III to VI, such as one of a transformer's.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from types import CodeType, FrameType

_USER, _ACT, _OTHER = range(3)
_ENGINE = ("tt_core", "tt_learn", "tt_perf")
_ACTS = ("tt_data", "tt_language", "tinygpt")
_NAMES = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")  # "data" is all of an environment, user's files too
_PLACES = [*map(sysconfig.get_path, _NAMES), sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))]
_LIBRARIES = tuple({os.path.normcase(place) + os.sep for place in _PLACES})

_ranks: dict[str, int] = {}
_lines: dict[tuple[CodeType, int], str] = {}
"""The name of each source line that calls an op."""


def user_line(depth: int = 1) -> str:
    """The source line that made the call `depth` frames up, as `file:line function`; empty where there is none.

    >>> user_line()[:10]
    '<doctest t'
    """
    frame: FrameType | None = sys._getframe(depth)
    fallback = ""
    while frame is not None:
        code = frame.f_code
        rank = _ranks.get(code.co_filename)
        if rank is None:
            rank = _ranks[code.co_filename] = _rank(code.co_filename)
        if rank == _USER:
            return _line(code, frame.f_lineno)
        if rank == _ACT and not fallback:
            fallback = _line(code, frame.f_lineno)
        frame = frame.f_back
    return fallback


def _line(code: CodeType, number: int) -> str:
    known = _lines.get((code, number))
    if known is None:
        path = code.co_filename
        inside = os.path.isabs(path) and path.startswith(os.getcwd() + os.sep)
        name = os.path.relpath(path) if inside else os.path.basename(path)
        known = _lines[code, number] = f"{name}:{number} {code.co_name}"
    return known


def _rank(path: str) -> int:
    """Who owns a file: the user, a later act of the framework, or anyone else."""
    packages = {os.path.dirname(sys.modules[name].__file__ or "") for name in _ENGINE if name in sys.modules}
    acts = {os.path.dirname(sys.modules[name].__file__ or "") for name in _ACTS if name in sys.modules}
    within = os.path.normcase(os.path.abspath(path))
    if path.startswith("<frozen") or any(within.startswith(os.path.normcase(root) + os.sep) for root in packages):
        return _OTHER
    if any(within.startswith(os.path.normcase(root) + os.sep) for root in acts):
        return _ACT
    installed = within.startswith(_LIBRARIES) or "site-packages" in within or "dist-packages" in within
    return _OTHER if installed and not path.startswith("<") else _USER
