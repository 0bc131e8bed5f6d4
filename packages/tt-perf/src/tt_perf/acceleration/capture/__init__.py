"""The end of module 18: a training step without Python between its kernels.

A step of a small network spends two fifths of its time outside of NumPy: making tensors, keeping the graph, walking it,
looking for the next kernel. All of that decides the same thing in each step. `capture` runs the step once as usual,
writes down which kernels ran on which arrays, and from then on runs these alone. Read in this order:

    tape.py       what a recording consists of: calls of kernels, and slots for arrays
    record.py     one step runs as usual and is written on a tape
    plan.py       how long each array lives
    fuse.py       neighbours that are cheaper together, by a table
    replay.py     a tape becomes a list of functions on a list of arrays
    program.py    small kernels that follow each other become one compiled call
    captured.py   when to record, when to replay, and when to do neither
    training.py   the plugin: every `Trainer` captures its step

and what keeps a recording honest as needed:

    hooks.py      the plugin that is active while a step is recorded
    slots.py      which slot an array belongs to
    traced.py     who reads the values of a tensor
    naming.py     what the code of a function names
    watch.py      what a step's Python can read, and whether it is as it was

PyTorch calls this CUDA graphs, and with rewriting of the tape `torch.compile`; JAX's `jit` is its relative.
"""

from __future__ import annotations

from tt_perf.acceleration.capture.captured import Captured as Captured
from tt_perf.acceleration.capture.captured import CaptureWarning as CaptureWarning
from tt_perf.acceleration.capture.captured import capture as capture
from tt_perf.acceleration.capture.training import plugin as plugin
