"""The asv suite, a file an act: `bench_core` is Act I, `bench_perf` Act V."""

from __future__ import annotations

import tt_core  # noqa: F401 - before NumPy, so that BLAS starts no threads
