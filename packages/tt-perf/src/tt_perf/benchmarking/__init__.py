"""Module 19, benchmarking: how fast is it really, and is that a difference or noise?

Read `statistics` (the formulas), `timer` (one piece of code), `comparing` (several, in turn, with a control),
`comparison_table` (what it says), `environment` (what a time depends on beside the code) and `charts` (pictures). Then
`jobs` has the work that `tt compare` measures, and `olympic_task`, `olympics` and `results` are the Torch Olympics of
`tt olympics`.
"""

from __future__ import annotations

from tt_perf.benchmarking.comparing import Comparison as Comparison
from tt_perf.benchmarking.comparing import Ratio as Ratio
from tt_perf.benchmarking.comparing import compare as compare
from tt_perf.benchmarking.timer import BenchmarkError as BenchmarkError
from tt_perf.benchmarking.timer import Measurement as Measurement
from tt_perf.benchmarking.timer import Timer as Timer
