"""Freed memory stays with the process once it was asked for."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import numpy as np
from tt_core.heap import keep_freed_memory

def step():
    arrays = [np.ones(500_000, np.float32) for _ in range(8)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del arrays
    arrays = [np.ones(500_000, np.float32) for _ in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(3):
    step()
print(step())
"""


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_arrays_are_placed_in_memory_that_was_freed_before() -> None:
    assert page_faults("keep") < 50  # 8 arrays are 3,900 pages
    assert page_faults("plain") > 1000
