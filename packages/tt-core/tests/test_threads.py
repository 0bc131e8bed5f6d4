"""Work shared out over threads: every slice once, errors raised, BLAS held back and let go."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from tt_core.engine import blas, threads


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 64])
@pytest.mark.parametrize("cores", ["1", "2", "5"])
def test_each_slice_is_worked_on_once(monkeypatch, count, cores):
    monkeypatch.setenv("OMP_NUM_THREADS", cores)
    seen = np.zeros(count, dtype=int)

    def work(part):
        seen[part] += 1

    threads.in_parallel(work, count, nbytes=1 << 30)
    assert (seen == 1).all()


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_an_error_in_any_thread_is_raised_and_the_others_end_first(monkeypatch, failing):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    done = []

    def work(part):
        if part.start == failing:
            raise ValueError("broken")
        done.append(part.start)

    with pytest.raises(ValueError, match="broken"):
        threads.in_parallel(work, 4, nbytes=1 << 30)
    assert sorted(done) == [i for i in range(4) if i != failing]


@pytest.fixture
def resting(monkeypatch):
    """As if NumPy had been imported after TinyTorch, on a machine with three cores."""
    monkeypatch.setattr(blas, "THREADS_REST", True)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")


def _blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@pytest.mark.parametrize("count", [3, 4, 64])
def test_each_core_has_a_slice_and_results_come_in_order(resting, count):
    slices = threads.on_each_core(lambda part: part, count, nbytes=1 << 30)
    assert len(slices) == 3
    assert [i for part in slices for i in range(count)[part]] == list(range(count))


def test_few_elements_little_work_and_restless_blas_are_left_to_blas(resting, monkeypatch):
    assert threads.on_each_core(lambda part: part, 2, nbytes=1 << 30) == [slice(0, 2)]
    assert threads.on_each_core(lambda part: part, 64, nbytes=1 << 10) == [slice(0, 64)]
    monkeypatch.setattr(blas, "THREADS_REST", False)
    assert threads.on_each_core(lambda part: part, 64, nbytes=1 << 30) == [slice(0, 64)]


def test_a_blas_that_cannot_be_limited_keeps_its_threads_to_itself(resting, monkeypatch):
    """As Apple's Accelerate, which threadpoolctl does not know."""
    none = threads._blas().select(prefix="no-such-library")
    monkeypatch.setattr(threads, "_blas", lambda: none)
    assert threads.on_each_core(lambda part: part, 64, nbytes=1 << 30) == [slice(0, 64)]


def test_a_mac_s_efficiency_cores_do_not_count(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delattr(threads.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(threads, "_performance_cores", lambda: 6)
    assert threads.cores() == 6
    monkeypatch.setattr(threads, "_performance_cores", lambda: 0)
    assert threads.cores() == (os.cpu_count() or 1)


def test_blas_has_one_thread_inside_and_its_own_again_behind_the_last_of_many(resting):
    before, seen = _blas_threads(), []

    def look(_):
        seen.extend(_blas_threads())

    others = [threading.Thread(target=threads.on_each_core, args=(look, 3, 1 << 30)) for _ in range(8)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert len(seen) == 8 * 3 * len(before)
    assert set(seen) == {1}
    assert _blas_threads() == before


def test_blas_has_its_threads_again_after_an_error(resting):
    before = _blas_threads()
    with pytest.raises(ZeroDivisionError):
        threads.on_each_core(lambda part: 1 // part.start, 3, nbytes=1 << 30)
    assert _blas_threads() == before


@pytest.mark.parametrize(("first", "rest"), [("tt_core", True), ("numpy", False)])
def test_threads_of_blas_rest_where_tinytorch_is_imported_first(first, rest):
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    code = f"import {first}, tt_core.engine.blas; print(tt_core.engine.blas.THREADS_REST)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(rest)
