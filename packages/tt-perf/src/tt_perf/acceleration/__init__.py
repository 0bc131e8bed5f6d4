"""Module 18, acceleration: the same formula as a Python loop, in NumPy, tuned, and compiled. Act V.

Read in this order:

    naive.py      one number at a time in plain Python: what a formula says, and the plugin `naive`
    loops.py      loops again, written to be compiled: one pass over memory for a whole formula
    jit.py        Numba compiles the loops: the plugin `jit`
    capture/      a whole step without Python between its kernels: `capture` and the plugin `capture`

and these as needed:

    compiling.py  when a loop is compiled, and how it is kept on disk
    blas.py       how a loop multiplies matrices: it calls BLAS by its address
    mkl.py        another library for matrix products: the plugin `mkl`
    uncovered.py  what is left to NumPy's kernels, and why

The loops of all other ops, and the kernels that hand them arrays, are in `tt_perf/kernels/`.

NumPy runs a formula of ten operations as ten passes over memory on one core. A compiled loop makes one pass, in vector
instructions, and large arrays are split across the cores. The result is the same up to rounding. What the loops do not
cover (other dtypes, arrays that are not contiguous, rare options) goes to the framework's kernel, and is reported when
the program ends. `tt kernels` shows what each form takes, which share of the machine's limit it reaches, and its error.
"""

from __future__ import annotations

from tt_perf.acceleration.capture import Captured as Captured
from tt_perf.acceleration.capture import CaptureWarning as CaptureWarning
from tt_perf.acceleration.capture import capture as capture
from tt_perf.acceleration.compiling import compiled as compiled
from tt_perf.acceleration.compiling import plain as plain
from tt_perf.acceleration.jit import JitPlugin as JitPlugin
from tt_perf.acceleration.jit import plugin as plugin
from tt_perf.acceleration.naive import NaivePlugin as NaivePlugin
