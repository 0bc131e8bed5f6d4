"""Act V, Production: profiling, caching and compiled loops as plugins that are swapped by name."""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

from tt_core.later import absent as _absent
from tt_perf.__about__ import __version__ as __version__
from tt_perf.profiling import Profiler as Profiler

if not _TYPE_CHECKING:  # where it would hide misspelt names
    __getattr__ = _absent("tt_perf")
