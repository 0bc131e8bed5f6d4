"""Freed memory stays with the process once it was asked for, and arrays begin at a line of the cache."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

import tt_core as tt
from tt_core.engine.errors import ShapeError
from tt_core.engine.heap import LINE, aligned

COUNT = """
import resource
import numpy as np
import tt_core

def step():
    arrays = [np.ones(500_000, np.float32) for _ in range(8)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del arrays
    arrays = [np.ones(500_000, np.float32) for _ in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

for _ in range(3):
    step()
print(step())
"""


def page_faults(keep: str) -> int:
    environment = {**os.environ, "TT_KEEP_FREED_MEMORY": keep}
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True, env=environment)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_arrays_are_placed_in_memory_that_was_freed_before() -> None:
    assert page_faults("1") < 50  # 8 arrays are 3,900 pages
    assert page_faults("0") > 1000


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (7,), (10_001,), (123, 457), (2, 3, 5, 7, 11, 13)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
def test_aligned_arrays_are_as_numpy_s_own(shape: tuple[int, ...], dtype: type) -> None:
    made, like = aligned(shape, dtype, np.zeros), np.zeros(shape, dtype)
    assert np.array_equal(made, like)
    assert made.dtype == like.dtype
    assert made.strides == like.strides
    assert made.flags.writeable
    assert made.flags.c_contiguous


@pytest.mark.parametrize("kind", ["empty", "zeros", "ones"])
def test_large_tensors_begin_at_a_line_of_the_cache(kind: str) -> None:
    made = [getattr(tt, kind)(100, 100 + i) for i in range(8)]
    made += [tt.Linear(100, 100 + i).weight for i in range(8)]
    assert {x.data.ctypes.data % LINE for x in made} == {0}


@pytest.mark.parametrize("size", [(-1,), (-1000, -1000)])
def test_a_negative_size_is_an_error(size: tuple[int, ...]) -> None:
    for make in (tt.empty, tt.zeros, tt.ones):
        with pytest.raises(ShapeError, match=f"sizes are 0 or more, got {min(size)}"):
            make(*size)
