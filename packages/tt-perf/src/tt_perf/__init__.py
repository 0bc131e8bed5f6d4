"""Act V, Production: profiling, quantization, compression, memoization and acceleration as plugins."""

from __future__ import annotations

from tt_perf.__about__ import __version__ as __version__
from tt_perf.profiling import Profiler as Profiler
