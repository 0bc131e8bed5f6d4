"""Work split over threads: every piece once, errors raised, the same bits for the same number of threads."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import tt_core
from tt_core.engine import blas, threads
from tt_core.kernels import products
from tt_core.kernels.products import product


@pytest.fixture
def use_threads(monkeypatch):
    """Sets the number of threads until the test ends."""
    return lambda number: monkeypatch.setattr(threads._chosen, "number", number)


# --- pieces


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 64])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_each_slice_is_worked_on_once(use_threads, count, number):
    use_threads(number)
    seen = np.zeros(count, dtype=int)

    def work(part):
        seen[part] += 1

    threads.in_parallel(work, count, nbytes=1 << 30)
    assert (seen == 1).all()


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 33, 784])
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
@pytest.mark.parametrize("multiple", [1, 16])
def test_slices_cover_a_range_at_multiples(count, parts, multiple):
    slices = threads.split(count, parts, multiple)
    assert [i for part in slices for i in range(count)[part]] == list(range(count))
    assert len(slices) <= parts
    assert all(part.start % multiple == 0 for part in slices)


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_an_error_in_any_thread_is_raised_and_the_others_end_first(use_threads, failing):
    use_threads(4)
    done = []

    def work(part):
        if part.start == failing:
            raise ValueError("broken")
        done.append(part.start)

    with pytest.raises(ValueError, match="broken"):
        threads.in_parallel(work, 4, nbytes=4 << 20)
    assert sorted(done) == [i for i in range(4) if i != failing]


def test_of_several_errors_the_first_piece_s_is_raised(use_threads):
    use_threads(3)

    def fail(piece):
        time.sleep(0.01 * (3 - piece))
        raise ValueError(f"piece {piece}")

    with pytest.raises(ValueError, match="piece 0"):
        threads.at_once(fail, range(3))


@pytest.mark.parametrize("count", [3, 4, 64])
def test_slices_for_each_core_come_in_order(use_threads, count):
    use_threads(3)
    slices = threads.on_each_core(lambda part: part, count, nbytes=1 << 30)
    assert len(slices) == 3
    assert [i for part in slices for i in range(count)[part]] == list(range(count))
    assert len(threads.on_each_core(lambda part: part, 64, nbytes=1 << 30, each=4)) == 12
    assert len(threads.on_each_core(lambda part: part, 64, nbytes=6 << 20, each=4)) == 6


def test_little_work_and_a_blas_with_threads_get_one_slice(use_threads, monkeypatch):
    use_threads(3)
    assert threads.on_each_core(lambda part: part, 64, nbytes=1 << 10) == [slice(0, 64)]
    monkeypatch.setattr(blas, "LIMITED", False)
    assert threads.on_each_core(lambda part: part, 64, nbytes=1 << 30) == [slice(0, 64)]


# --- the pool


def test_the_caller_does_not_wait_for_a_thread_that_has_not_begun(use_threads):
    """Both helpers are held up in another job; the caller computes all pieces itself."""
    use_threads(3)
    hold, began = threading.Event(), threading.Event()
    together = threading.Barrier(3, action=began.set, timeout=60)

    def wait(_):
        together.wait()
        hold.wait(60)

    blocked = threading.Thread(target=threads.at_once, args=(wait, range(3)))
    blocked.start()
    assert began.wait(60)
    me = threading.get_ident()
    try:
        assert threads.at_once(lambda _: threading.get_ident(), range(6)) == [me] * 6
    finally:
        hold.set()
        blocked.join()


def test_helpers_take_pieces(use_threads):
    use_threads(2)
    met = threading.Barrier(2, timeout=60)
    threads.at_once(lambda _: met.wait(), range(2))  # would break if one thread did both


def test_a_job_keeps_nothing_behind_its_end(use_threads):
    import gc
    import weakref

    use_threads(2)
    array = np.zeros(3)
    seen = weakref.ref(array)
    threads.at_once(lambda i, array=array: array[i], range(3))
    del array
    gc.collect()
    assert seen() is None


def test_nested_and_simultaneous_calls(use_threads):
    use_threads(3)
    expected = [[i * j for j in range(20)] for i in range(20)]
    found = {}

    def table(name):
        found[name] = threads.at_once(lambda i: threads.at_once(lambda j: i * j, range(20)), range(20))

    callers = [threading.Thread(target=table, args=(name,)) for name in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all(found[name] == expected for name in range(8))


def test_an_interruption_waits_for_pieces_that_have_begun(use_threads):
    use_threads(2)
    begun, ended = threading.Event(), []

    def work(piece):
        if threading.current_thread() is threading.main_thread():
            begun.wait(60)
            raise KeyboardInterrupt
        begun.set()
        time.sleep(0.05)
        ended.append(piece)

    with pytest.raises(KeyboardInterrupt):
        threads.at_once(work, range(2))
    assert len(ended) == 1


def test_without_new_threads_the_caller_computes_alone(use_threads, monkeypatch):
    use_threads(2)
    monkeypatch.setattr(threads, "_pool", threads._Pool())

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert threads.at_once(abs, [-1, -2]) == [1, 2]


# --- the number of threads


def test_set_num_threads(use_threads):
    use_threads(1)
    tt_core.set_num_threads(3)
    assert tt_core.get_num_threads() == 3
    for wrong in (0, -1, 2.0, True, "2", None):
        with pytest.raises(tt_core.TinyTorchError, match="set_num_threads expects"):
            tt_core.set_num_threads(wrong)
    assert tt_core.get_num_threads() == 3


@pytest.mark.parametrize(
    ("tt", "omp", "number"), [("3", "5", 3), (None, "5", 5), (None, "4,2", 4), ("0", "5", 5), ("many", None, 6)]
)
def test_environment_variables(monkeypatch, use_threads, tt, omp, number):
    use_threads(0)
    monkeypatch.setattr(threads, "_cores", lambda: 6)
    for name, value in (("TT_NUM_THREADS", tt), ("OMP_NUM_THREADS", omp)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert tt_core.get_num_threads() == number
    assert [str(x.message) for x in told] == (
        [] if tt in ("3", None) else [f"TT_NUM_THREADS={tt} is ignored: it is not a positive integer"]
    )


def test_a_mac_s_efficiency_cores_do_not_count(monkeypatch):
    monkeypatch.delattr(threads.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(threads, "_performance_cores", lambda: 6)
    assert threads._cores() == 6
    monkeypatch.setattr(threads, "_performance_cores", lambda: 0)
    assert threads._cores() == (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this platform has no affinity")
def test_the_cores_that_the_process_may_use_count():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import tt_core as t"
    assert _printed(f"{code}; print(t.get_num_threads())") == "1"


# --- BLAS


def _blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def _printed(code, **environment):
    names = ("OMP_NUM_THREADS", "TT_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TT_LIMIT_BLAS")
    environ = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**environ, **environment}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


needs_a_known_blas = pytest.mark.skipif(not _blas_threads(), reason="threadpoolctl does not know this BLAS")

SHOW = """
import os, threadpoolctl
print({x["num_threads"] for x in threadpoolctl.threadpool_info()}, "OPENBLAS_NUM_THREADS" in os.environ)
"""


@needs_a_known_blas
@pytest.mark.parametrize(
    "first", ["tt_core", "numpy, tt_core", "numpy as np; np.ones((300, 300)) @ np.ones((300, 300)); import tt_core"]
)
def test_blas_has_one_thread_whether_numpy_was_imported_first_or_not(first):
    assert _printed(f"import {first}{SHOW}") == "{1} False"


@needs_a_known_blas
def test_blas_can_be_left_alone():
    code = """
import numpy, threadpoolctl
before = threadpoolctl.threadpool_info()
from tt_core.engine import blas
print(blas.LIMITED, before == threadpoolctl.threadpool_info())
"""
    assert _printed(code, TT_LIMIT_BLAS="0", OPENBLAS_NUM_THREADS="2", MKL_NUM_THREADS="2") == "False True"


# --- products

SHAPES = [
    ((768, 128), (128, 128)),
    ((100, 400), (400, 1000)),
    ((7, 300), (300, 6000)),
    ((5, 300, 100), (5, 100, 300)),
    ((300, 200), (7, 200, 300)),
    ((2, 1, 300, 200), (3, 200, 100)),
    ((2, 3, 300, 200), (200, 100)),
    ((3000, 1000), (1000,)),
    ((1000,), (1000, 3000)),
    ((40, 50), (50, 60)),
    ((0, 5), (5, 3)),
    ((1, 0), (0, 3)),
]


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(("left", "right"), SHAPES)
@pytest.mark.parametrize("layout", ["C", "F"])
def test_products_are_numpy_s(use_threads, monkeypatch, number, left, right, layout):
    use_threads(number)
    monkeypatch.setattr(products, "LARGE", products.LARGE // 16)
    random = np.random.default_rng(0)
    a, b = (np.asarray(random.standard_normal(shape), order=layout) for shape in (left, right))
    expected = np.matmul(a, b)
    found = product(a, b)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    out = np.empty_like(expected)
    assert product(a, b, out) is out or out.ndim == 1
    assert np.array_equal(out, found)
    mixed = product(a.astype(np.float32), b)
    assert mixed.dtype == np.float64
    np.testing.assert_allclose(mixed, expected, rtol=1e-3, atol=1e-3)


def test_products_of_integers_are_split_too(use_threads):
    use_threads(2)
    a = np.random.default_rng(0).integers(-9, 9, (300, 300))
    assert np.array_equal(product(a, a), a @ a)


def test_only_large_products_are_handed_over(use_threads, monkeypatch):
    use_threads(2)
    handed = []
    monkeypatch.setattr(products, "at_once", lambda work, parts: handed.append(len(parts)))
    for rows, shared in ((8, []), (64, []), (512, [2]), (4096, [8])):
        handed.clear()
        product(np.ones((rows, 128)), np.ones((128, 512)))
        assert handed == (shared if blas.LIMITED else [])
    handed.clear()
    product(np.ones((1, 1024)), np.ones((1024, 2048)))  # few multiplications, but 16 MB to read
    assert handed == ([2] if blas.LIMITED else [])
    handed.clear()
    monkeypatch.setattr(blas, "LIMITED", False)
    product(np.ones((4096, 128)), np.ones((128, 512)))
    assert not handed


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_same_number_of_threads_gives_the_same_bits(use_threads, number):
    """Under load, and with other calls in between."""
    use_threads(number)
    random = np.random.default_rng(0)
    pairs = [
        (random.standard_normal((768, 128), np.float32), random.standard_normal((128, n), np.float32))
        for n in (128, 500)
    ]
    first = [product(*pair) for pair in pairs]
    ended = threading.Event()

    def spin():
        while not ended.is_set():
            product(pairs[1][0], pairs[1][1])

    others = [threading.Thread(target=spin) for _ in range(3)]
    for other in others:
        other.start()
    try:
        for _ in range(20):
            assert all(np.array_equal(product(*pair), before) for pair, before in zip(pairs, first))
    finally:
        ended.set()
        for other in others:
            other.join()


def _in_child(queue, pair):
    queue.put((product(*pair), _blas_threads()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that it is multi-threaded is the point
def test_a_forked_child_has_threads_of_its_own(use_threads):
    use_threads(2)
    pair = np.ones((768, 128), np.float32), np.ones((128, 512), np.float32)
    expected = product(*pair)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue, pair))
    child.start()
    found, number = queue.get(timeout=60)
    child.join(60)
    assert np.array_equal(found, expected)
    assert number == _blas_threads()
