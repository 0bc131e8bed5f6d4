"""Module 14, profiling: where time and memory go, by op, by layer, and by line of your program.

Reading order: `tree` (what ran inside what), `watching` (the plugin, which sees every call from outside), `work` (FLOPs
and bytes of a call), `flops` (those of each op), `profiler` (what is read afterwards), `averages` (tables), `steps`
(PyTorch's `profile` and `record_function`), `memory` (what tensors hold), `sources` (whose line it was), `trace` (files
for Perfetto and flame graphs), `roofline` (what this machine could do, and what holds each op back), `pictures`,
`layers` (a model as a table), `running` (`tt profile`).

Times are wall-clock. *Self* time excludes the calls inside, so that the self times add up to the whole.
"""

from __future__ import annotations

from tt_perf.profiling.averages import Averages as Averages
from tt_perf.profiling.averages import FunctionEventAvg as FunctionEventAvg
from tt_perf.profiling.flops import FLOPS as FLOPS
from tt_perf.profiling.layers import Summary as Summary
from tt_perf.profiling.layers import summary as summary
from tt_perf.profiling.profiler import Entry as Entry
from tt_perf.profiling.profiler import Profiler as Profiler
from tt_perf.profiling.profiler import plugin as plugin
from tt_perf.profiling.roofline import Machine as Machine
from tt_perf.profiling.roofline import Verdict as Verdict
from tt_perf.profiling.roofline import measure_machine as measure_machine
from tt_perf.profiling.steps import ProfilerAction as ProfilerAction
from tt_perf.profiling.steps import ProfilerActivity as ProfilerActivity
from tt_perf.profiling.steps import profile as profile
from tt_perf.profiling.steps import record_function as record_function
from tt_perf.profiling.steps import schedule as schedule
from tt_perf.profiling.watching import ProfilerError as ProfilerError
