"""Work shared out over threads: every slice once, errors raised, the same numbers for any number of threads."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from tt_core import blas
from tt_data import spatial, threads


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
    code = f"import {first}, tt_core.blas; print(tt_core.blas.THREADS_REST)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(rest)


def test_the_gradient_of_the_weight_is_added_up_over_cores(resting, monkeypatch):
    rng = np.random.default_rng(0)
    g, x = rng.standard_normal((7, 16, 32, 32)), rng.standard_normal((7, 8, 32, 32))
    shared = spatial.conv2d_weight.kernel(g, x, kernel_size=(3, 3), padding=1)
    monkeypatch.setattr(blas, "THREADS_REST", False)
    alone = spatial.conv2d_weight.kernel(g, x, kernel_size=(3, 3), padding=1)
    np.testing.assert_allclose(shared, alone, rtol=1e-10, atol=1e-10)


def _passes():
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((16, 8, 32, 32), np.float32), rng.standard_normal((16, 8, 3, 3), np.float32)
    y = spatial.conv2d.kernel(x, weight, padding=1)
    pooled, index = spatial.max_pool2d.kernel(y, kernel_size=2)
    back = spatial.max_pool2d_backward.kernel(
        pooled, index, size=(32, 32), kernel_size=2, stride=None, padding=0, dilation=1, ceil_mode=False
    )
    return y, pooled, index, back, spatial.conv2d_input.kernel(y, weight, size=(32, 32), padding=1)


def test_numbers_do_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(blas, "THREADS_REST", True)
    found = []
    for cores in ("1", "2", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", cores)
        found.append(_passes())
    for others in found[1:]:
        assert all((a == b).all() for a, b in zip(found[0], others))


def _in_child(queue):
    queue.put(float(_passes()[0].sum()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that it is multi-threaded is the point
def test_a_forked_child_has_threads_of_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    expected = float(_passes()[0].sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(60)
