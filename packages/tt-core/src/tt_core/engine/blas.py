"""Makes idle BLAS threads sleep sooner. Imported before NumPy, because OpenBLAS reads its settings once.

By default, an idle thread of OpenBLAS spins for 2^26 clock ticks, about 30 ms, and takes half a core from other threads
in this time. 2^22 ticks, about 2 ms, are enough to bridge the pauses between the matrix products of a network, and
leave the cores to other threads: a training step of three convolutions, which split images across threads of their own,
takes 45 ms instead of 70.
"""

from __future__ import annotations

import os
import sys

_NAME, _TICKS = "OPENBLAS_THREAD_TIMEOUT", 22
SETTING = {_NAME: str(_TICKS)}
"""The environment variable in a program that imports TinyTorch before NumPy."""


def _ask() -> bool:
    """Sets the timeout unless the user did; returns whether threads sleep soon."""
    if "numpy" not in sys.modules:
        os.environ.setdefault(_NAME, SETTING[_NAME])
    told = os.environ.get(_NAME, "")
    return told.isdigit() and int(told) <= _TICKS


THREADS_REST = _ask()
"""False if NumPy was imported before TinyTorch, or the user set a longer timeout; then BLAS keeps its threads."""
