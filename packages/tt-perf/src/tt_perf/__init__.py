"""Act V, Production: profiling, caching and compiled loops as plugins that are swapped by name."""

from __future__ import annotations

from tt_perf.__about__ import __version__ as __version__
from tt_perf.profiling import Profiler as Profiler
