"""Pieces of compiled jobs: each is computed once, whoever helps, and the bits do not depend on it."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_learn import SGD, Adam, AdamW
from tt_perf.acceleration import JitPlugin, compiled, plain
from tt_perf.kernels import products, team_loops
from tt_perf.kernels.atomics import atomics
from tt_perf.kernels.product_loops import GELU, RELU, RELU_BACKWARD
from tt_perf.kernels.products import Then
from tt_perf.kernels.team import Team, has_team, team, waiting

random = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return random.standard_normal(shape, np.float32)


@pytest.fixture(scope="module")
def loops() -> Any:
    pytest.importorskip("numba")
    return compiled()


@pytest.fixture(params=[2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = tt.get_num_threads()
    tt.set_num_threads(request.param)
    yield request.param
    tt.set_num_threads(before)


def alone(loops: Any, *given: Any) -> Any:
    before = tt.get_num_threads()
    tt.set_num_threads(1)
    try:
        return products.multiply(loops, *given)
    finally:
        tt.set_num_threads(before)


# --- the mail


def pieces_of(run: Any, mail: Any, pieces: int) -> list[int]:
    """Which pieces a job in the mail computes, by a function of Python."""
    found: list[int] = []

    def piece(arguments: int, number: int) -> None:
        found.append(number + int(atomics()["integers_at"](arguments, 2)[1]))

    function = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(piece)
    place = ctypes.cast(function, ctypes.c_void_p).value
    run(mail, place, np.array([0, 100], np.int64), pieces)
    return sorted(found)


@pytest.mark.parametrize("kind", ["plain", "compiled"])
def test_each_piece_is_computed_once(kind: str, request: pytest.FixtureRequest) -> None:
    run = plain()["run_pieces"] if kind == "plain" else request.getfixturevalue("loops")["run_pieces"]
    mail = Team().mail
    for pieces in (1, 2, 7, 7, 40):
        assert pieces_of(run, mail, pieces) == list(range(100, 100 + pieces))
    assert mail[team_loops.BUSY] == 0


def test_a_job_beside_another_is_computed_alone() -> None:
    mail = Team().mail
    mail[team_loops.BUSY] = 1
    assert pieces_of(plain()["run_pieces"], mail, 5) == list(range(100, 105))
    assert mail[team_loops.CLAIM] == 0


def test_a_late_helper_finds_nothing() -> None:
    mail = Team().mail
    pieces_of(plain()["run_pieces"], mail, 3)
    before = mail.copy()
    plain()["take"](mail.ctypes.data)
    np.testing.assert_array_equal(mail, before)


def test_a_helper_falls_asleep(loops: Any) -> None:
    mail = Team().mail
    loops["serve"](mail, 1)
    assert mail[team_loops.ASLEEP + 1] == 1


def test_waiting_functions_can_be_called() -> None:
    give, sleep = waiting()
    atomics()["call"](give, 0)
    atomics()["call"](sleep, 1)


# --- products


@pytest.mark.parametrize("shape", [(64, 784, 128), (128, 64, 784), (300, 20, 17), (21, 300, 33), (16, 2, 400)])
def test_products_have_the_bits_of_one_core(
    loops: Any, threads: int, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    m, k, n = shape
    for a, b in ((normal(m, k), normal(k, n)), (normal(k, m).T, normal(n, k).T)):
        bias = normal(n)
        wanted = alone(loops, a, b, bias)
        np.testing.assert_allclose(wanted, a @ b + bias, rtol=1e-4, atol=1e-4)
        monkeypatch.setattr(products, "SHARED", 1)
        monkeypatch.setattr(products, "PIECE", 1)
        assert has_team(loops)
        for _ in range(20):
            np.testing.assert_array_equal(products.multiply(loops, a, b, bias), wanted)


@pytest.mark.parametrize("what", [GELU, RELU, RELU_BACKWARD])
def test_what_follows_a_product(loops: Any, threads: int, what: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "SHARED", 1)
    a, b, other = normal(70, 40), normal(40, 90), np.maximum(normal(70, 90), 0)
    a[3, 4] = np.nan
    results = []
    for run in (alone, products.multiply):
        out = np.empty_like(other)
        results.append((run(loops, a, b, None, Then(what, out, other)), out))
    for left, right in zip(*results, strict=True):
        np.testing.assert_array_equal(left, right)
    product, out = results[0]
    wanted = {
        GELU: lambda: tt.gelu(tt.tensor(product), approximate="tanh").data,
        RELU: lambda: np.where(product <= 0, 0, product),
        RELU_BACKWARD: lambda: np.where(other != 0, product, 0),
    }
    np.testing.assert_allclose(out, wanted[what](), rtol=1e-5, atol=1e-5)


def test_several_threads_of_a_program_multiply_at_once(
    loops: Any, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "SHARED", 1)
    a, b = normal(100, 60), normal(60, 200)
    wanted, wrong = alone(loops, a, b), []

    def work() -> None:
        wrong.extend([1 for _ in range(50) if not np.array_equal(products.multiply(loops, a, b), wanted)])

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_a_helper_that_sleeps_is_woken(loops: Any, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "SHARED", 1)
    a, b = normal(100, 60), normal(60, 200)
    wanted = products.multiply(loops, a, b)
    until = time.monotonic() + 60
    while not team().mail[team_loops.ASLEEP] and time.monotonic() < until:
        time.sleep(0.01)
    assert team().mail[team_loops.ASLEEP] == 1
    np.testing.assert_array_equal(products.multiply(loops, a, b), wanted)
    assert team().mail[team_loops.BUSY] == 0


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_a_team_of_its_own(loops: Any, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "SHARED", 1)
    a, b = normal(100, 60), normal(60, 200)
    wanted = products.multiply(loops, a, b)
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(products.multiply(loops, a, b), wanted) else 1)
    assert os.waitpid(child, 0)[1] == 0


# --- optimizers


@pytest.mark.parametrize("make", [
    lambda p: Adam(p, lr=0.1), lambda p: AdamW(p, lr=0.1, amsgrad=True), lambda p: SGD(p, lr=0.1, weight_decay=0.1),
    lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True),
])  # fmt: skip
def test_steps_of_optimizers_have_the_bits_of_one_core(make: Any, threads: int) -> None:
    pytest.importorskip("numba")
    shapes = [(300, 200), (7,), (1, 1), (90, 33)]
    start, slopes = [normal(*s) for s in shapes], [[normal(*s) for s in shapes] for _ in range(4)]

    def run(count: int) -> list[Any]:
        tt.set_num_threads(count)
        parameters = [tt.tensor(x.copy(), requires_grad=True) for x in start]
        optimizer = make(parameters)
        for i, step in enumerate(slopes):
            for p, g in zip(parameters, step):
                p.grad = None if i == 2 and p.ndim == 1 else tt.tensor(g)
            optimizer.step()
        return [p.data for p in parameters]

    with tt.use(JitPlugin(), report=False):
        for one, several in zip(run(1), run(threads), strict=True):
            np.testing.assert_array_equal(one, several)
