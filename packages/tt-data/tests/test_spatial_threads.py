"""Work shared out over threads: every slice once, errors raised, the same numbers for any number of threads."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

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
