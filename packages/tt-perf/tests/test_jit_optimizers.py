"""Module 18: steps of whole groups give what the formulas give in float64, and leave the rest to NumPy's updates."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tt_core as tt
import tt_learn
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.plugins import manager
from tt_learn.optimizers import Optimizer
from tt_perf.acceleration import JitPlugin, compiled, plain, uncovered
from tt_perf.kernels import muon_loops, optimizers

NUMBA = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="Numba is not installed")


@pytest.fixture(params=["plain", pytest.param("compiled", marks=NUMBA)])
def jit(request: pytest.FixtureRequest) -> Iterator[JitPlugin]:
    """The plugin, ready to be plugged in by `with tt.use(jit)`."""
    yield JitPlugin(plain if request.param == "plain" else compiled)
    assert not manager.has_plugin("jit")


SHAPES = [(3, 5), (7,), (2, 2, 3), (), (40, 20)]


def made(name: str, dtype: Any = np.float32, **options: Any) -> tuple[list[Any], Any]:
    start = np.random.default_rng(0)
    parameters = [tt.tensor(np.asarray(start.standard_normal(s), dtype)).as_parameter() for s in SHAPES]
    return parameters, getattr(tt_learn, name)(parameters, lr=0.05, **options)


def learn(
    parameters: list[Any], optimizer: Any, steps: range, missing: Callable[[int, int], bool] | None = None
) -> None:
    for step in steps:
        slopes = np.random.default_rng(step)
        for i, p in enumerate(parameters):
            g = np.asarray(slopes.standard_normal(p.shape), p.dtype)
            p.grad = None if missing and missing(step, i) else tt.tensor(g)
        optimizer.step()


def everything(parameters: list[Any], optimizer: Any) -> list[np.ndarray]:
    state = optimizer.state_dict()["state"]
    arrays = [x.data for i in state for x in state[i].values() if hasattr(x, "data")]
    return [p.data for p in parameters] + arrays + [np.array([state[i]["step"] for i in state])]


def agree(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("Adam", {}),
    ("Adam", {"weight_decay": 0.1, "betas": (0.5, 0.9), "eps": 1e-3}),
    ("Adam", {"amsgrad": True, "betas": (0.9, 0.5)}),
    ("Adam", {"maximize": True, "weight_decay": 0.1}),
    ("AdamW", {"weight_decay": 0.3}),
    ("AdamW", {"weight_decay": 0.3, "maximize": True, "amsgrad": True}),
    ("SGD", {}),
    ("SGD", {"weight_decay": 0.1, "maximize": True}),
    ("SGD", {"momentum": 0.9, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGDMomentum", {"dampening": 0.5}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_groups_take_the_steps_of_float64(jit: JitPlugin, name: str, options: dict[str, Any]) -> None:
    uncovered.calls.clear()
    parameters, optimizer = made(name, **options)
    with tt.use(jit):
        learn(parameters, optimizer, range(8))
        assert not uncovered.calls
    others, other = made(name, np.float64, **options)
    learn(others, other, range(8))
    agree(everything(parameters, optimizer), everything(others, other))


@pytest.mark.parametrize(("name", "options"), [OPTIONS[0], OPTIONS[2], OPTIONS[9], OPTIONS[10]])
def test_the_plugin_may_come_and_go_while_a_model_learns(jit: JitPlugin, name: str, options: dict[str, Any]) -> None:
    parameters, optimizer = made(name, **options)
    learn(parameters, optimizer, range(3))
    with tt.use(jit):
        learn(parameters, optimizer, range(3, 6))
        saved = optimizer.state_dict()
        optimizer = getattr(tt_learn, name)(parameters, lr=0.05, **options)
        optimizer.load_state_dict(saved)
        learn(parameters, optimizer, range(6, 7))
    learn(parameters, optimizer, range(7, 9))
    others, other = made(name, **options)
    learn(others, other, range(9))
    agree(everything(parameters, optimizer), everything(others, other))


@pytest.mark.parametrize(("name", "options"), [OPTIONS[0], OPTIONS[9]])
def test_parameters_without_gradients_keep_their_step(jit: JitPlugin, name: str, options: dict[str, Any]) -> None:
    def missing(step: int, i: int) -> bool:
        return (step + i) % 3 == 0

    parameters, optimizer = made(name, **options)
    with tt.use(jit):
        learn(parameters, optimizer, range(7), missing)
    others, other = made(name, **options)
    learn(others, other, range(7), missing)
    agree(everything(parameters, optimizer), everything(others, other))


def test_a_parameter_that_is_given_another_array_is_found(jit: JitPlugin) -> None:
    parameters, optimizer = made("Adam")
    with tt.use(jit):
        learn(parameters, optimizer, range(2))
        before = parameters[0].data
        parameters[0].data = before + 1
        kept = before.copy()
        learn(parameters, optimizer, range(2, 3))
        assert (parameters[0].data != kept + 1).all()
        np.testing.assert_array_equal(before, kept)
        parameters[0].data = np.ones((5, 3), np.float32)
        parameters[0].grad = tt.ones(5, 3)
        with pytest.raises(TinyTorchError, match="make a new optimizer for the changed model"):
            optimizer.step()


MATRICES = [(3, 5), (70, 33), (33, 70), (40, 40), (1, 9), (6, 3, 3, 3), (40, 2, 3, 3)]


def made_muon(dtype: Any = np.float32, others: Any = SHAPES, **options: Any) -> tuple[list[Any], Any]:
    start = np.random.default_rng(0)
    first, second = (
        [tt.tensor(np.asarray(start.standard_normal(s), dtype)).as_parameter() for s in shapes]
        for shapes in (MATRICES, others)
    )
    groups = [{"params": first}, {"params": second, "use_muon": False, "betas": (0.5, 0.9)}]
    return first + second, tt_learn.Muon(groups, lr=0.05, **options)


def near(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    """The iterations enlarge what rounding did to small singular values."""
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"nesterov": False, "weight_decay": 0.3}, {"adjust_lr_fn": "match_rms_adamw", "ns_steps": 2, "momentum": 0.5}],
    ids=str,
)
def test_muon_takes_the_steps_of_float64(jit: JitPlugin, options: dict[str, Any]) -> None:
    uncovered.calls.clear()
    parameters, optimizer = made_muon(**options)
    with tt.use(jit):
        learn(parameters, optimizer, range(2))
    assert not uncovered.calls
    learn(parameters, optimizer, range(2, 3))  # by NumPy's update, with the same state
    others, other = made_muon(np.float64, **options)
    learn(others, other, range(3))
    near(everything(parameters, optimizer), everything(others, other))


def test_muon_leaves_what_it_does_not_cover_to_numpy(jit: JitPlugin) -> None:
    uncovered.calls.clear()
    parameters, optimizer = made_muon(np.float64)
    others, other = made_muon(np.float64)
    with tt.use(jit):
        learn(parameters, optimizer, range(2))
    learn(others, other, range(2))
    for a, b in zip(everything(parameters, optimizer), everything(others, other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert set(uncovered.calls) == {("Muon.update", "float64")}


def test_muon_of_gradients_that_are_not_finite_or_zero(jit: JitPlugin) -> None:
    for number in (0, np.nan, np.inf):
        found = []
        for plugins in ((jit,), ()):
            weight = tt.tensor(np.ones((40, 24), np.float32)).as_parameter()
            weight.grad = tt.full((40, 24), 1.0 if number else 0.0)
            weight.grad.data[5, 7] = number
            with np.errstate(all="ignore"), tt.use(*plugins) if plugins else contextlib.nullcontext():
                tt_learn.Muon([weight], lr=0.1).step()
            found.append(weight.data)
        np.testing.assert_allclose(*found, rtol=1e-5)


@NUMBA
def test_muon_has_the_same_bits_for_any_number_of_threads() -> None:
    before, found = tt.get_num_threads(), set()
    try:
        for number in (1, 2, 4):
            tt.set_num_threads(number)
            parameters, optimizer = made_muon()
            with tt.use("jit"):
                learn(parameters, optimizer, range(3))
            found.add(b"".join(p.data.tobytes() for p in parameters))
    finally:
        tt.set_num_threads(before)
    assert len(found) == 1


def test_half_of_an_orthogonal_matrix_turns_a_check_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon_loops, "transpose", lambda *_: None)
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        test_muon_takes_the_steps_of_float64(JitPlugin(plain), {})


def test_what_is_unusual_goes_to_numpys_update_and_is_counted(jit: JitPlugin) -> None:
    uncovered.calls.clear()
    base = np.ones(6, np.float32)
    parameters = [
        tt.tensor(np.ones((4, 4), np.float32)).as_parameter(),
        tt.tensor(np.ones(3)).as_parameter(),
        tt.tensor(np.ones((2, 3), np.float32)).as_parameter(),
        tt.tensor(np.ones((80, 80), np.float32)).as_parameter(),
    ]
    parameters[2].data = base.reshape(2, 3)[:, ::-1]
    parameters[3].data = np.asfortranarray(parameters[3].data)
    optimizer = tt_learn.Adam(parameters, lr=0.5)
    with tt.use(jit):
        learn(parameters, optimizer, range(2))
    assert all((p.data != 1).all() for p in parameters)
    assert set(uncovered.calls) == {("Adam.update", "float64"), ("Adam.update", "not contiguous")}


def test_parameters_that_share_memory_take_both_steps(jit: JitPlugin) -> None:
    memory = np.zeros(4, np.float32)
    tied = [tt.tensor(memory[:3]).as_parameter(), tt.tensor(memory[1:]).as_parameter()]
    for p, part in zip(tied, (memory[:3], memory[1:])):
        p.data, p.grad = part, tt.ones(3)
    optimizer = tt_learn.SGD(tied, lr=1.0)
    with tt.use(jit):
        for steps in (1, 2):
            optimizer.step()
            assert memory.tolist() == [-steps, -2 * steps, -2 * steps, -steps]
    assert uncovered.calls["SGD.update", "shared memory"] == 2


def test_a_subclass_with_its_own_update_runs_it(jit: JitPlugin) -> None:
    class Stubborn(tt_learn.Adam):
        def update(self, p: Any, g: Any, *_: Any) -> None:
            p += 1

    weight = tt.tensor([1.0, 2.0]).as_parameter()
    weight.grad = tt.ones(2)
    with tt.use(jit):
        Stubborn([weight]).step()
    assert weight.tolist() == [2, 3]


def test_a_plugin_that_answers_first_is_asked(jit: JitPlugin) -> None:
    class Still:
        @tt.hookimpl
        def tt_update(self, optimizer: type[Optimizer]) -> Callable[..., None]:
            return lambda *_: None

    weight = tt.tensor([1.0, 2.0]).as_parameter()
    weight.grad = tt.ones(2)
    with tt.use(jit), tt.use(Still()):
        tt_learn.Adam([weight]).step()
    assert weight.tolist() == [1, 2]


def test_observers_see_each_step_and_optimizers_can_be_copied(jit: JitPlugin) -> None:
    seen = []

    class Watch:
        @tt.hookimpl
        def tt_observe_step(self, optimizer: type[Optimizer]) -> Callable[[Optimizer], None]:
            return lambda one: seen.append(type(one).__name__)

    parameters, optimizer = made("Adam")
    with tt.use(jit), tt.use(Watch()):
        learn(parameters, optimizer, range(2))
        others, other = copy.deepcopy((parameters, optimizer))
        learn(parameters, optimizer, range(2, 4))
        learn(others, other, range(2, 4))
    assert seen == ["Adam"] * 6
    agree(everything(parameters, optimizer), everything(others, other))
    assert pickle.loads(pickle.dumps(optimizer.state_dict()["param_groups"])) == optimizer.state_dict()["param_groups"]


@NUMBA
@pytest.mark.parametrize("name", ["Adam", "SGDMomentum"])
def test_steps_have_the_same_bits_for_any_number_of_threads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "MANY", 100)
    before, found = tt.get_num_threads(), set()
    try:
        for number in (1, 2, 4) * 10:
            tt.set_num_threads(number)
            parameters, optimizer = made(name)
            with tt.use("jit"):
                learn(parameters, optimizer, range(3))
            found.add(b"".join(p.data.tobytes() for p in parameters))
    finally:
        tt.set_num_threads(before)
    assert len(found) == 1


def test_an_empty_parameter_is_skipped(jit: JitPlugin) -> None:
    parameters = [tt.tensor(np.ones(shape, np.float32)).as_parameter() for shape in ((0, 3), (2,))]
    optimizer = tt_learn.AdamW(parameters, lr=0.1)
    with tt.use(jit):
        learn(parameters, optimizer, range(2))
    assert (parameters[1].data != 1).all()


def test_gradients_in_any_layout_are_read(jit: JitPlugin) -> None:
    weight = tt.tensor(np.zeros((3, 70), np.float32)).as_parameter()
    weight.grad = tt.tensor(np.asfortranarray(np.arange(210, dtype=np.float32).reshape(3, 70)))
    with tt.use(jit):
        tt_learn.SGD([weight], lr=1.0).step()
    np.testing.assert_array_equal(weight.data, -np.arange(210).reshape(3, 70))


@pytest.mark.parametrize("name", ["SGD", "SGDMomentum", "Adam", "AdamW"])
def test_gradients_that_stay_where_they_are(jit: JitPlugin, name: str) -> None:
    """Their addresses are kept from step to step, until an array is another one."""
    options = {"momentum": 0.9} if name == "SGDMomentum" else {}
    (parameters, optimizer), (others, other) = made(name, **options), made(name, **options)
    for i, p in enumerate(parameters):
        p.grad = tt.zeros(*SHAPES[i])
    with tt.use(jit, report=False):
        for step in range(9):
            if step == 4:
                parameters[1].grad = tt.zeros(7)
            if step == 5:
                parameters[4].data = np.array(parameters[4].data)
            if step == 6:
                optimizer.param_groups[0]["lr"] = other.param_groups[0]["lr"] = 0.01
            if step == 7:
                parameters[0].grad = others[0].grad = None
            slopes = np.random.default_rng(step)
            for p, q in zip(parameters, others):
                g = slopes.standard_normal(p.shape).astype(np.float32)
                if p.grad is not None or step < 7:
                    p.grad.data[...] = g
                    q.grad = tt.tensor(g)
            optimizer.step()
            other.step()
            for found, wanted in zip(everything(parameters, optimizer), everything(others, other), strict=True):
                np.testing.assert_array_equal(found, wanted)


@NUMBA
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adam", {"weight_decay": 0.1}),
        ("AdamW", {"amsgrad": True}),
        ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ],
)
def test_compiled_steps_round_as_they_are_written(name: str, options: dict[str, Any]) -> None:
    """So that a loop has the same bits wherever it is compiled into: `a b + c d` has two ways to round once less."""
    found = []
    for loops in (plain, compiled):
        parameters, optimizer = made(name, **options)
        with tt.use(JitPlugin(loops), report=False):
            learn(parameters, optimizer, range(4))
        found.append([p.data.tobytes() for p in parameters])
    assert found[0] == found[1]
