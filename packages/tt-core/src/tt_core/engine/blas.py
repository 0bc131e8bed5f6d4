"""BLAS's idle threads give their cores back soon. Imported before NumPy, since OpenBLAS reads its settings once.

A thread of OpenBLAS that has nothing to do looks for work without a rest, by default for 2^26 ticks of the processor's
clock, some 30 ms. All that while it takes half a core from everybody else. 2^22 ticks, 2 ms, still bridge the pauses
between the products of a network, and threads that are not BLAS's get their core: a training step of three
convolutions, which share out their images over threads of their own, takes 45 ms in place of 70.
"""

from __future__ import annotations

import os
import sys

_NAME, _TICKS = "OPENBLAS_THREAD_TIMEOUT", 22
SETTING = {_NAME: str(_TICKS)}
"""What the environment of a program holds that imports TinyTorch first."""


def _ask() -> bool:
    """Set the timeout where the user did not; whether threads rest soon."""
    if "numpy" not in sys.modules:
        os.environ.setdefault(_NAME, SETTING[_NAME])
    told = os.environ.get(_NAME, "")
    return told.isdigit() and int(told) <= _TICKS


THREADS_REST = _ask()
"""False where NumPy was imported before TinyTorch, or the user set another timeout: then BLAS is left its threads."""
