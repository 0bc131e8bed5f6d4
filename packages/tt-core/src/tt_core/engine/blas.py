"""Keeps NumPy's BLAS on one thread, so that one rule decides which core computes what (see `threads`).

BLAS shares each product out over threads of its own, in fixed parts. If another program takes one of the cores, every
product waits until the system gives that core back: a product of 192 x 192 matrices takes 0.1 ms on one core, and took
16 ms on two cores beside a busy program. So BLAS computes on the core that calls it, for the whole process, and
`tt_core.kernels.products` splits large products over the threads of TinyTorch.

With TT_LIMIT_BLAS=0, BLAS keeps its threads, and products are left to it. So is a BLAS that cannot be limited, such as
Apple's Accelerate.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NAME = "OPENBLAS_NUM_THREADS"


@contextlib.contextmanager
def _one_thread_from_the_start() -> Iterator[None]:
    """NumPy, imported in this block, loads OpenBLAS without starting its threads, which would spin for 30 ms each.

    The variable is removed again, so that it does not reach the programs that this process starts.
    """
    if "numpy" in sys.modules or _NAME in os.environ:
        yield
        return
    os.environ[_NAME] = "1"
    try:
        yield
    finally:
        os.environ.pop(_NAME, None)


def _libraries() -> Any:
    """The BLAS libraries of NumPy as threadpoolctl sees them: those of its wheel, else all that are loaded."""
    import numpy as np
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped,unused-ignore]

    blas = ThreadpoolController().select(user_api="blas")
    package = Path(np.__file__).parent
    homes = (package, package.parent / "numpy.libs")
    own = [library for library in blas.lib_controllers if any(Path(library.filepath).is_relative_to(x) for x in homes)]
    return blas.select(filepath=[library.filepath for library in own]) if own else blas


def limit() -> bool:
    """Sets BLAS to one thread; returns whether it is.

    OpenMP has a number of threads for each thread that calls it, so threads of the pool call this too.

    >>> limit() in (True, False)
    True
    """
    if not LIBRARIES.lib_controllers or os.environ.get("TT_LIMIT_BLAS") == "0":
        return False
    LIBRARIES.limit(limits=1)
    return all(library["num_threads"] == 1 for library in LIBRARIES.info())


if os.environ.get("TT_LIMIT_BLAS") == "0":
    LIBRARIES = _libraries()
else:
    with _one_thread_from_the_start():
        LIBRARIES = _libraries()

LIMITED = limit()
"""Whether BLAS computes on the thread that calls it. If not, products are left to its threads."""
