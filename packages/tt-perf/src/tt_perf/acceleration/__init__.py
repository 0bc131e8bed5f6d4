"""Module 18, acceleration: the same formula as a Python loop, in NumPy, tuned, and compiled. Act V.

Read in this order:

    naive.py      one number at a time in plain Python: what a formula says, and the plugin `naive`
    loops.py      loops again, written to be compiled: one pass over memory for a whole formula
    kernels.py    how loops take the place of ops' kernels: checks, results, threads
    tiles.py      products that stay in vector registers
    planes.py     convolution as such products; convolution.py has its geometry and kernels
    stage_loops.py  convolution, bias, ReLU and pooling in one; stages.py for a whole step's plugin
    image_loops.py  pooling, ReLU and batch normalization; pooling.py has their kernels
    product_loops.py  matrix products by tiles; products.py says when they are faster than BLAS
    update_loops.py  steps of optimizers; optimizers.py hands them whole groups
    jit.py        Numba compiles the loops: the plugin `jit`
    blas.py       how a loop multiplies matrices: it calls BLAS by its address
    attention_loops.py, attention.py    attention in blocks of queries, with products inside the loops
    row_loops.py, rows.py               softmax, cross entropy and others, and several ops in one loop
    arrays.py, views.py, compiling.py   which arrays a loop takes, and how it is compiled and kept on disk
    uncovered.py  what is left to NumPy's kernels, and why
    decoding/     a token of a GPT as one compiled call, which `jit` brings to `kv-cache`
    mkl.py        another library for matrix products: the plugin `mkl`
    capture/      a whole step without Python between its kernels: `capture` and the plugin `capture`

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
