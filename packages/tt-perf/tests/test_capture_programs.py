"""Kernels that a replay runs as one compiled program: same bits, same errors, and what is kept does not change."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tt_core as tt
import tt_data
from tt_core import activations
from tt_core.engine.dispatch import Op
from tt_core.engine.hookspecs import hookimpl
from tt_language import GPT, GPTConfig, next_token_loss
from tt_learn import SGD, Adam, AdamW, clip_grad_norm_, no_grad
from tt_perf.acceleration import capture, compiled, uncovered
from tt_perf.acceleration.capture import replay
from tt_perf.acceleration.capture.plan import places
from tt_perf.acceleration.capture.program import Program
from tt_perf.acceleration.capture.tape import Job
from tt_perf.kernels import products
from tt_perf.kernels.job_loops import sum_in_pairs

pytest.importorskip("numba")
Step = Callable[..., Any]


@pytest.fixture(autouse=True)
def jit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiles for the products of small networks, whatever the processor."""
    monkeypatch.setattr(products, "FASTER", True)
    monkeypatch.setattr(products, "SMALL", 1 << 12)
    with tt.use("jit", report=False):
        yield
    uncovered.calls.clear()


def mlp(
    make: Callable[..., Any] = Adam, dtype: str = "float32", activation: type[tt.Layer] = tt.ReLU, **options: Any
) -> tuple[Any, Step]:
    tt.manual_seed(0)
    layers = tt.Linear(40, 64), activation(), tt.Linear(64, 32), activation(), tt.Linear(32, 10)
    model = tt.Sequential(*layers).to(dtype)
    optimizer = make(model.parameters(), lr=0.01)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = tt.cross_entropy(model(x), y, **options)
        loss.backward()
        optimizer.step()
        return loss

    return model, step


def cnn() -> tuple[Any, Step]:
    tt.manual_seed(0)
    layers = tt_data.Conv2d(1, 4, 3, padding=1), tt.ReLU(), tt_data.MaxPool2d(2), tt_data.Flatten()
    model = tt.Sequential(*layers, tt.Linear(36, 32), tt.ReLU(), tt.Linear(32, 10))
    optimizer = SGD(model.parameters(), lr=0.1)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = tt.cross_entropy(model(x.reshape(-1, 1, 6, 6)), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, step


def gpt() -> tuple[Any, Step]:
    tt.manual_seed(0)
    model = GPT(GPTConfig(10, 8, 2, 2, 16, dropout=0.1))
    optimizer = AdamW(model.parameters(), lr=0.01)

    def step(ids: Any, targets: Any) -> Any:
        optimizer.zero_grad()
        loss = next_token_loss(model(ids), targets)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return model, step


def batch(seed: int, features: int = 40, rows: int = 64) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return tt.tensor(rng.standard_normal((rows, features), np.float32)), tt.tensor(rng.integers(10, size=rows))


def texts(seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return tt.tensor(rng.integers(10, size=(4, 8))), tt.tensor(rng.integers(10, size=(4, 8)))


def programs(step: Any) -> list[Program]:
    """The programs of a captured step."""
    ((plan,),) = step._plans.values()
    cells = [cell.cell_contents for part in plan.replay._parts for run, *_ in part for cell in run.__closure__ or ()]
    return [each for each in cells if isinstance(each, Program)]


@contextlib.contextmanager
def one_by_one() -> Iterator[None]:
    """A block in which new plans have no programs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "has_jobs", lambda tape: False)
        yield


def assert_equal(model: Any, twin: Any) -> None:
    for p, q in zip(model.parameters(), twin.parameters()):
        np.testing.assert_array_equal(p.grad.data, q.grad.data)
        np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("make", [mlp, cnn, gpt])
def test_bits_are_those_of_kernels_that_run_one_by_one(make: Any, threads: int) -> None:
    data = [texts(i) if make is gpt else batch(i, 36 if make is cnn else 40) for i in range(8)]
    before = tt.get_num_threads()
    tt.set_num_threads(threads)
    found = []
    try:
        for block in (contextlib.nullcontext, one_by_one):
            with block():
                model, step = make()
                captured = capture(step)
                found.append((model, captured, [captured(*each).item() for each in data]))
    finally:
        tt.set_num_threads(before)
    (model, captured, losses), (twin, other, expected) = found
    assert losses == expected
    assert_equal(model, twin)
    assert captured.replayed == other.replayed == 6
    assert programs(captured)
    assert not programs(other)
    assert all(program.stops == 0 for program in programs(captured))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("make", [SGD, lambda p, lr: SGD(p, lr, momentum=0.9), Adam, AdamW])
def test_a_whole_step_of_a_small_network_is_one_program(make: Any, reduction: str) -> None:
    (model, step), (twin, other) = mlp(make, reduction=reduction), mlp(make, reduction=reduction)
    captured = capture(other)
    for i in range(6):
        assert step(*batch(i)).item() == captured(*batch(i)).item()
    assert_equal(model, twin)
    (program,) = programs(captured)
    names = [each.op.name for each in next(iter(captured._plans.values()))[0].tape.instructions if hasattr(each, "op")]
    assert len(program.table.program) == len(names)


def test_what_is_kept_does_not_change() -> None:
    model, step = mlp()
    captured = capture(step)
    for i in range(3):
        captured(*batch(i))
    loss = captured(*batch(3))
    p = next(iter(model.parameters()))
    gradient, view, raw = p.grad, p.grad.data[1:2], memoryview(model[2].weight.grad.data)
    seen = [np.array(x) for x in (loss.data, gradient.data, view, raw)]
    for i in range(4, 8):
        captured(*batch(i))
    for x, y in zip((loss.data, gradient.data, view, raw), seen):
        np.testing.assert_array_equal(x, y)
    assert p.grad is not gradient
    assert programs(captured)[0].stops == 0


def test_gradients_that_nobody_keeps_are_written_where_they_were() -> None:
    model, step = mlp()
    captured = capture(step)
    for i in range(4):
        captured(*batch(i))
    places = [p.grad.data.__array_interface__["data"] for p in model.parameters()]
    captured(*batch(4))
    assert places == [p.grad.data.__array_interface__["data"] for p in model.parameters()]


def test_a_label_that_is_no_class_raises_and_changes_nothing() -> None:
    (model, step), (twin, other) = mlp(), mlp()
    captured = capture(other)
    for i in range(5):
        step(*batch(i))
        captured(*batch(i))
    x, y = batch(5)
    wrong = tt.tensor(np.where(np.arange(64) == 7, 10, y.data))
    with pytest.raises(tt.TinyTorchError) as expected:
        step(x, wrong)
    with pytest.raises(tt.TinyTorchError) as found:
        captured(x, wrong)
    assert str(found.value) == str(expected.value)
    assert [p.grad is None for p in model.parameters()] == [p.grad is None for p in twin.parameters()]
    for i in range(5, 9):
        assert step(*batch(i)).item() == captured(*batch(i)).item()
    assert_equal(model, twin)


def test_a_program_that_stops_again_and_again_is_given_up() -> None:
    """Labels that do not count are not what the loop is made for."""
    (model, step), (twin, other) = mlp(), mlp()
    captured = capture(other)
    for i in range(12):
        x, y = batch(i)
        y.data[i] = -100
        assert step(x, y).item() == captured(x, y).item()
    assert_equal(model, twin)
    assert programs(captured)[0].stops == 4


def test_numbers_that_are_not_finite() -> None:
    (_, step), (_, other) = mlp(), mlp()
    captured = capture(other)
    for i in range(6):
        x, y = batch(i)
        x.data[3, i] = (1.0, np.inf, np.nan)[i // 2]
        np.testing.assert_array_equal(step(x, y).data, captured(x, y).data)


def test_arguments_that_are_not_aligned() -> None:
    (model, step), (twin, other) = mlp(), mlp()
    captured = capture(other)
    for i in range(6):
        x, y = batch(i)
        if i > 3:
            shifted = np.frombuffer(b"\0" + x.data.tobytes(), np.float32, offset=1).reshape(x.shape)
            x = tt.tensor(x.data)
            x.data = shifted
            assert not x.data.flags.aligned
        assert step(x, y).item() == captured(x, y).item()
    assert_equal(model, twin)


def test_float64_stays_with_the_kernels() -> None:
    _, step = mlp(dtype="float64")
    captured = capture(step)
    for i in range(5):
        x, y = batch(i)
        captured(x.to("float64"), y)
    assert captured.replayed == 3
    assert not programs(captured)


def test_two_threads_replay_at_once() -> None:
    """A forward pass: one of the threads has the program, the other one calls kernels."""
    model, _ = mlp()

    def forward(x: Any) -> Any:
        with no_grad():
            return model(x)

    captured = capture(forward)
    x = [batch(i)[0] for i in range(8)]
    expected = [forward(each).data for each in x]
    for each in x[:4]:
        captured(each)
    assert programs(captured)
    wrong: list[int] = []

    def run(i: int) -> None:
        wrong.extend(i for _ in range(200) if not np.array_equal(captured(x[i]).data, expected[i]))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a product that the parent's helper threads, which the child does not have, took part in."""
    monkeypatch.setattr(products, "SHARED", 1)
    (_, step), (_, other) = mlp(), mlp()
    captured = capture(other)
    for i in range(5):
        step(*batch(i))
        captured(*batch(i))
    wanted = step(*batch(5)).item()
    child = os.fork()
    if not child:
        (program,) = programs(captured)
        os._exit(0 if captured(*batch(5)).item() == wanted and program.stops == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert captured(*batch(5)).item() == wanted


class OtherTanh:
    """A plugin of a stranger, whose kernel offers code that this framework has not compiled."""

    def __init__(self) -> None:
        self.calls = 0
        self.function = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(self.piece)

    @hookimpl(tryfirst=True)
    def tt_kernel(self, op: Op) -> Any:
        return self.tanh if op is activations.tanh else None

    def piece(self, arguments: int, piece: int) -> None:
        x, out, count = (ctypes.c_int64 * 3).from_address(arguments)
        there, result = (np.ctypeslib.as_array((ctypes.c_float * count).from_address(at)) for at in (x, out))
        np.tanh(there, out=result)
        self.calls += 1

    @property
    def tanh(self) -> Any:
        def tanh(x: Any, /) -> Any:
            return np.tanh(x)

        def as_job(inputs: Any, results: Any, attributes: Any, failed: Any) -> Job:
            address = ctypes.cast(self.function, ctypes.c_void_p).value or 0
            return Job(address, (inputs[0], results[0], inputs[0].size))

        tanh.as_job = as_job  # type: ignore[attr-defined]
        return tanh


def test_a_kernel_of_another_plugin_takes_part() -> None:
    plugin = OtherTanh()
    with tt.use(plugin, report=False):
        (model, step), (twin, other) = mlp(activation=tt.Tanh), mlp(activation=tt.Tanh)
        captured = capture(other)
        for i in range(6):
            assert step(*batch(i)).item() == captured(*batch(i)).item()
    assert_equal(model, twin)
    assert plugin.calls == 2 * 3  # two layers; the first of four replays calls kernels


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(1, 300)), max_size=12))
def test_arrays_that_live_at_the_same_time_are_apart(drawn: list[tuple[int, int, int]]) -> None:
    lives = sorted((first, first + more, size) for first, more, size in drawn)
    begins, size = places(lives)
    for i, (first, last, room) in enumerate(lives):
        assert 0 <= begins[i] <= size - room
        for (other, until, space), begin in list(zip(lives, begins))[:i]:
            if other <= last and first <= until:
                assert begin + space <= begins[i] or begins[i] + room <= begin


@pytest.mark.parametrize("size", [1, 7, 8, 9, 64, 127, 128, 129, 255, 256, 257, 1000, 1025, 4099])
def test_sums_in_the_order_of_numpy(size: int) -> None:
    x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    assert sum_in_pairs(x) == np.add.reduce(x)
    assert compiled()["sum_in_pairs"](x) == np.add.reduce(x)


@pytest.mark.parametrize("shape", [(64, 10), (1, 3), (3, 1), (500, 100)])
def test_column_sums(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    out = np.empty(shape[1], np.float32)
    compiled()["bias_sums"](x, out)
    np.testing.assert_allclose(out, x.sum(0, np.float64), rtol=1e-4, atol=1e-4)
