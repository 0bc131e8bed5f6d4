"""A captured step needs no more memory than an uncaptured one, in recordings and in replays."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_learn import SGD
from tt_perf import capture

SIZE, LAYERS, ROWS = 256, 6, 8
GRADIENTS = 4 * SIZE * SIZE * LAYERS
"""Bytes, of weights alone."""


def make_step() -> Any:
    model = tt.Sequential(*[tt.Linear(SIZE, SIZE, bias=False) for _ in range(LAYERS)])
    optimizer, x = SGD(model.parameters(), lr=1e-3), tt.tensor(np.ones((ROWS, SIZE), np.float32))

    def step() -> Any:
        optimizer.zero_grad()
        loss = model(x).sum()
        loss.backward()
        optimizer.step()
        return loss

    return step


def memory_of(step: Any) -> tuple[list[int], list[int]]:
    """Bytes at the peak of each of five steps, and after each, without the garbage collector."""
    peaks, rests = [], []
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(5):
            tracemalloc.reset_peak()
            step()
            rest, peak = tracemalloc.get_traced_memory()
            rests.append(rest)
            peaks.append(peak)
    finally:
        tracemalloc.stop()
        gc.enable()
    return peaks, rests


@pytest.mark.skipif(tracemalloc.is_tracing(), reason="something else traces memory")
def test_old_gradients_are_freed_in_recordings_and_nothing_is_kept() -> None:
    make_step()()
    for _ in range(3):
        capture(make_step())()  # what is made once is no part of it
    eager_peaks, eager_rests = memory_of(make_step())
    captured = capture(make_step())
    peaks, rests = memory_of(captured)
    assert (captured.recorded, captured.replayed) == (2, 3)
    assert max(peaks) < max(eager_peaks) + GRADIENTS // 2
    assert max(rests) < max(eager_rests) + GRADIENTS // 2
