"""Optimizers: formulas, blocks, groups, state and memory (numbers beside PyTorch's are in tests/parity)."""

from __future__ import annotations

import copy
import math
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tt_core
import tt_learn
from tt_core.engine import threads
from tt_core.engine.errors import ShapeError
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_learn import Tensor, optimizers
from tt_learn.optim.muon import Muon, orthogonalize
from tt_learn.optimizers import blocks

ALL: dict[str, Callable[[Any], optimizers.Optimizer]] = {
    "SGD": lambda p: optimizers.SGD(p, lr=0.1),
    "SGD decayed": lambda p: optimizers.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.1),
    "SGDMomentum": lambda p: optimizers.SGDMomentum(p, lr=0.05, nesterov=True),
    "RMSprop": lambda p: optimizers.RMSprop(p, momentum=0.5, centered=True),
    "Adagrad": lambda p: tt_learn.Adagrad(p, lr=0.1, initial_accumulator_value=0.1),
    "Adam": lambda p: optimizers.Adam(p, lr=0.01),
    "Adam amsgrad": lambda p: optimizers.Adam(p, lr=0.01, amsgrad=True),
    "AdamW": lambda p: optimizers.AdamW(p, lr=0.01),
    "Lion": lambda p: tt_learn.Lion(p, lr=0.01),
    "NAdam": lambda p: tt_learn.NAdam(p, lr=0.01),
    "RAdam": lambda p: tt_learn.RAdam(p, lr=0.01),
    "Adamax": lambda p: tt_learn.Adamax(p, lr=0.01),
    "Adadelta": lambda p: tt_learn.Adadelta(p, eps=1e-3),
    "Muon": lambda p: Muon(
        [
            {"params": [x for x in p if x.ndim == 2]},
            {"params": [x for x in p if x.ndim != 2], "use_muon": False},
        ],
        lr=0.01,
    ),
}
every_optimizer = pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())


def parameters(shapes: list[tuple[int, ...]], dtype: str = "float64") -> list[Tensor]:
    draw = np.random.default_rng(0)
    return [Tensor(np.asarray(draw.standard_normal(shape), dtype), requires_grad=True) for shape in shapes]


def give_gradients(ps: list[Tensor], seed: int) -> None:
    draw = np.random.default_rng(seed)
    for p in ps:
        p.grad = Tensor(np.asarray(draw.standard_normal(p.shape), p.dtype))


SHAPES: list[tuple[int, ...]] = [(3, 5), (), (7,), (2, 3, 4), (5_000,), (90, 400), (1, 40_000), (0, 3), (4, 4)]


# --- every optimizer


@every_optimizer
def test_a_bowl_is_descended(make: Callable[[Any], optimizers.Optimizer]) -> None:
    ps = parameters([(6, 4), (4,), ()])
    optimizer = make(ps)
    losses = []
    for _ in range(300):
        optimizer.zero_grad()
        loss = sum((p * p).sum() for p in ps)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


@every_optimizer
def test_blocks_change_no_bit(make: Callable[[Any], optimizers.Optimizer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Large and small blocks, in one parameter or across several, in one thread or three, give the same numbers."""
    results = []
    monkeypatch.setattr(threads._chosen, "number", 3)
    monkeypatch.setattr(threads, "SMALL", 0)
    for size, small, many in ((64, 16, 1 << 30), (1 << 20, 1 << 10, 1 << 30), (64, 16, 0)):
        monkeypatch.setattr(blocks, "BLOCK", size)
        monkeypatch.setattr(blocks, "SHARED", size)
        monkeypatch.setattr(blocks, "MANY", many)
        monkeypatch.setattr(blocks, "SMALL", small)
        ps = parameters([(3, 5), (7,), (), (2, 3, 4), (30, 40), (200,), (1, 300), (0, 2)])
        optimizer = make(ps)
        for step in range(5):
            give_gradients(ps, step)
            optimizer.step()
        results.append([p.data for p in ps])
    for a, b, c in zip(*results):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


@every_optimizer
def test_parameters_without_gradients_stay_where_blocks_are_shared_out(
    make: Callable[[Any], optimizers.Optimizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    monkeypatch.setattr(threads._chosen, "number", 3)
    monkeypatch.setattr(threads, "SMALL", 0)
    monkeypatch.setattr(blocks, "SHARED", blocks.BLOCK)
    for many in (1 << 30, 0):
        monkeypatch.setattr(blocks, "MANY", many)
        ps = parameters([(300, 200), (7,), (3, 5), (400, 200), (8,)])
        optimizer = make(ps)
        for step in range(4):
            give_gradients(ps, step)
            if step % 2:
                ps[1].grad = ps[3].grad = None
            optimizer.step()
        results.append([p.data for p in ps])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


@every_optimizer
def test_memory_layout_changes_no_bit(make: Callable[[Any], optimizers.Optimizer]) -> None:
    plain, turned = parameters([(300, 200), (8, 6)]), parameters([(300, 200), (8, 6)])
    for p in turned:
        p.data = np.asfortranarray(p.data)
    first, second = make(plain), make(turned)
    for step in range(3):
        give_gradients(plain, step)
        for p, q in zip(plain, turned):
            q.grad = Tensor(np.asfortranarray(p.grad.data))
        first.step()
        second.step()
    for p, q in zip(plain, turned):
        np.testing.assert_array_equal(p.data, q.data)


@every_optimizer
def test_a_run_goes_on_from_its_state_to_the_bit(make: Callable[[Any], optimizers.Optimizer]) -> None:
    straight = parameters(SHAPES, "float32")
    optimizer = make(straight)
    for step in range(4):
        give_gradients(straight, step)
        if step < 2:
            straight[2].grad = None  # its own number of steps is part of the state
        optimizer.step()
    again = [Tensor(p.data.copy(), requires_grad=True) for p in straight]
    continued = make(again)
    continued.load_state_dict(optimizer.state_dict())
    for step in range(4, 7):
        for ps, each in ((straight, optimizer), (again, continued)):
            give_gradients(ps, step)
            each.step()
    for p, q in zip(straight, again):
        np.testing.assert_array_equal(p.data, q.data)


def _pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


@every_optimizer
@pytest.mark.parametrize("copied", [copy.deepcopy, _pickled])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_copy_of_parameters_and_optimizer_goes_on_alike_and_apart(
    make: Callable[[Any], optimizers.Optimizer], copied: Callable[[Any], Any], steps: int
) -> None:
    ps = parameters(SHAPES, "float32")
    optimizer = make(ps)
    for step in range(steps):
        give_gradients(ps, step)
        if step < 2:
            ps[2].grad = None
        optimizer.step()
    others, other = copied((ps, optimizer))
    before = [p.data.copy() for p in ps]
    for qs, each in ((others, other), (ps, optimizer)):
        for step in range(3, 6):
            give_gradients(qs, step)
            each.step()
        if qs is others:
            for p, old in zip(ps, before):
                np.testing.assert_array_equal(p.data, old)
    for p, q in zip(ps, others):
        np.testing.assert_array_equal(p.data, q.data)
    states = optimizer.state_dict()["state"], other.state_dict()["state"]
    for i, entry in states[0].items():
        for name, value in entry.items():
            np.testing.assert_array_equal(np.asarray(value), np.asarray(states[1][i][name]))


def bowl(ps: list[Tensor], optimizer: optimizers.Optimizer) -> Callable[[], Any]:
    def closure() -> Any:
        optimizer.zero_grad()
        loss = sum(((p - 1) ** 4).sum() for p in ps)
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_descends_and_goes_on_from_its_state_and_copies(search: str | None, tmp_path: Path) -> None:
    ps = parameters([(6, 4), (4,), ()])
    optimizer = tt_learn.LBFGS(ps, lr=0.5, max_iter=4, history_size=3, line_search_fn=search)
    first = optimizer.step(bowl(ps, optimizer)).item()
    qs = [Tensor(p.data.copy(), requires_grad=True) for p in ps]
    again = tt_learn.LBFGS(qs)
    tt_learn.save_checkpoint(tmp_path / "run", optimizer=optimizer)
    tt_learn.load_checkpoint(tmp_path / "run", optimizer=again)
    rs, copied = copy.deepcopy((ps, optimizer))
    last = [o.step(bowl(xs, o)).item() for xs, o in ((ps, optimizer), (qs, again), (rs, copied)) for _ in range(5)]
    assert last[4] == last[9] == last[14] < 0.1 * first
    for p, q, r in zip(ps, qs, rs):
        np.testing.assert_array_equal(p.data, q.data)
        np.testing.assert_array_equal(p.data, r.data)


def test_lbfgs_says_what_it_needs() -> None:
    ps = parameters([(2,)])
    with pytest.raises(optimizers.OptimizerError, match="needs a closure"):
        tt_learn.LBFGS(ps).step()
    with pytest.raises(optimizers.OptimizerError, match="one parameter group"):
        tt_learn.LBFGS([{"params": ps}, {"params": parameters([(3,)])}])
    with pytest.raises(optimizers.OptimizerError, match="line_search_fn is 'wolfe'"):
        tt_learn.LBFGS(ps, line_search_fn="wolfe")
    with pytest.raises(optimizers.OptimizerError, match="max_iter is 0"):
        tt_learn.LBFGS(ps, max_iter=0)
    with pytest.raises(optimizers.OptimizerError, match="not that of LBFGS over 2 numbers"):
        tt_learn.LBFGS(ps).load_state_dict({"state": {0: {"step": 1}}, "param_groups": [{"params": [0]}]})


def test_momentum_that_is_switched_on_late_starts_with_the_gradient() -> None:
    """Also after a state dict, a copy, and for a parameter whose first gradient comes later; numbers are PyTorch's."""
    for between in ("nothing", "state dict", "copy"):
        ps = [Tensor(np.zeros(2), requires_grad=True) for _ in range(2)]
        sgd = optimizers.SGD(ps, lr=1.0, dampening=0.5)
        ps[0].grad = ps[1].grad = Tensor(np.ones(2))
        sgd.step()
        sgd.param_groups[0]["momentum"] = 0.5
        for p in ps:
            p.grad = Tensor(np.ones(2))
        ps[1].grad = None
        if between == "state dict":
            again = optimizers.SGD(ps, lr=1.0, dampening=0.5)
            again.load_state_dict(sgd.state_dict())
            sgd = again
        elif between == "copy":
            ps, sgd = copy.deepcopy((ps, sgd))
        sgd.step()
        ps[1].grad = Tensor(np.ones(2))
        sgd.step()
        assert ps[0].tolist() == [-3.0, -3.0]  # -1, -1, -(0.5 + 0.5)
        assert ps[1].tolist() == [-2.0, -2.0]


def test_named_parameters_are_taken() -> None:
    model = tt_core.Linear(2, 1)
    optimizer = optimizers.SGD(model.named_parameters(), momentum=0.9)
    assert optimizer.param_groups[0]["params"] == [model.weight, model.bias]
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    other = optimizers.SGD(model.parameters(), momentum=0.9)
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["param_names"] == ["weight", "bias"]
    grouped = optimizers.SGD([{"params": model.named_parameters(), "lr": 0.5}])
    assert grouped.param_groups[0]["param_names"] == ["weight", "bias"]
    with pytest.raises(optimizers.OptimizerError, match="or none"):
        optimizers.SGD([("weight", model.weight), model.bias])


@every_optimizer
def test_a_step_allocates_nothing_of_a_parameters_size(make: Callable[[Any], optimizers.Optimizer]) -> None:
    ps = parameters([(300, 400), (50,), (3,)], "float32")
    optimizer = make(ps)
    give_gradients(ps, 0)
    optimizer.step()
    tracemalloc.start()
    optimizer.step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000  # the large parameter has 480,000 bytes


@every_optimizer
def test_parameters_without_a_gradient_stay(make: Callable[[Any], optimizers.Optimizer]) -> None:
    ps = parameters(SHAPES)
    before = [p.data.copy() for p in ps]
    optimizer = make(ps)
    give_gradients(ps, 0)
    ps[0].grad = ps[5].grad = None
    optimizer.step()
    for i, (p, old) in enumerate(zip(ps, before)):
        assert np.array_equal(p.data, old) == (i in (0, 5) or not p.data.size), i


@every_optimizer
def test_gradients_are_only_read(make: Callable[[Any], optimizers.Optimizer]) -> None:
    ps = parameters(SHAPES)
    optimizer = make(ps)
    give_gradients(ps, 0)
    before = [p.grad.data.copy() for p in ps]
    for p in ps:
        p.grad.data.flags.writeable = False
    optimizer.step()
    for p, g in zip(ps, before):
        np.testing.assert_array_equal(p.grad.data, g)


def test_autograd_is_told_of_the_change() -> None:
    (p,) = parameters([(3,)])
    loss = (p * p).sum()
    p.grad = Tensor(np.ones(3))
    optimizers.SGD([p], lr=0.1).step()
    with pytest.raises(tt_learn.GradientError, match="changed in place"):
        loss.backward()


def test_a_parameter_may_get_another_array() -> None:
    ps = parameters([(3,), (2,), (50_000,)])
    optimizer = optimizers.SGD(ps, lr=1.0)
    give_gradients(ps, 0)
    optimizer.step()
    for p in ps:
        p.data = np.zeros_like(p.data)
    optimizer.step()
    for p in ps:
        np.testing.assert_array_equal(p.data, -p.grad.data)
    ps[0].data = np.zeros(4)
    with pytest.raises(tt_core.TinyTorchError, match="make a new optimizer"):
        optimizer.step()


def test_parameters_on_the_same_memory_are_both_learnt() -> None:
    memory = np.ones((2, 3))
    ps = [Tensor(array, requires_grad=True) for array in (memory, memory[1], np.ones(2), memory)]
    for p in ps:
        p.grad = Tensor(np.ones(p.shape))
    optimizers.SGD(ps, lr=0.1).step()
    np.testing.assert_allclose(memory, [[0.8] * 3, [0.7] * 3])
    np.testing.assert_allclose(ps[2].data, 0.9)


def test_two_dtypes_in_one_group() -> None:
    ps = parameters([(3, 3)]) + parameters([(3, 3), (4,)], "float32")
    optimizer = optimizers.Adam(ps, lr=0.1)
    give_gradients(ps, 0)
    optimizer.step()
    state = optimizer.state_dict()["state"]
    assert [str(state[i]["exp_avg"].dtype) for i in range(3)] == ["float64", "float32", "float32"]


def test_a_closure_runs_first_and_its_result_comes_back() -> None:
    (p,) = parameters([(2,)])
    optimizer = optimizers.SGD([p], lr=0.5)
    before = p.data.copy()

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with tt_learn.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == pytest.approx((before**2).sum())
    np.testing.assert_allclose(p.data, 0, atol=1e-12)


def test_zero_grad() -> None:
    (p,) = parameters([(2,)])
    give_gradients([p], 0)
    optimizer = optimizers.SGD([p])
    optimizer.zero_grad(set_to_none=False)
    np.testing.assert_array_equal(p.grad.data, 0)
    optimizer.zero_grad()
    assert p.grad is None


# --- memory


@pytest.mark.parametrize(
    ("name", "factor"), [("SGD", 1), ("SGDMomentum", 2), ("Lion", 2), ("Adam", 3), ("Adam amsgrad", 4), ("RMSprop", 4)]
)
def test_memory_is_what_is_held(name: str, factor: float) -> None:
    ps = parameters([(100, 80), (80,)], "float32")
    optimizer = ALL[name](ps)
    told = optimizer.memory()
    assert (told.count, told.parameters, told.gradients) == (8080, 32320, 32320)
    assert told.factor == factor
    give_gradients(ps, 0)
    optimizer.step()
    held = [x.nbytes for entry in optimizer.state_dict()["state"].values() for x in entry.values() if x is not None
            and not isinstance(x, int)]  # fmt: skip
    assert told.state == sum(held)
    assert optimizer.memory() == told


# --- groups and state


def test_groups_have_options_of_their_own() -> None:
    a, b = parameters([(2,), (2,)])
    optimizer = optimizers.SGD([{"params": [a]}, {"params": b, "lr": 0.0}], lr=1.0)
    before = [a.data.copy(), b.data.copy()]
    give_gradients([a, b], 0)
    optimizer.step()
    np.testing.assert_array_equal(a.data, before[0] - a.grad.data)
    np.testing.assert_array_equal(b.data, before[1])
    assert "group 1: 2 parameters, lr=0.0" in repr(optimizer)


def test_a_state_dict_is_json_but_for_its_tensors() -> None:
    import json

    ps = parameters([(2, 2), (3,)])
    optimizer = optimizers.AdamW(ps)
    give_gradients(ps, 0)
    optimizer.step()
    state = optimizer.state_dict()
    plain = json.loads(json.dumps(state, default=lambda tensor: tensor.tolist()))
    assert plain["param_groups"][0]["params"] == [0, 1]
    assert plain["state"]["1"]["step"] == 1
    plain["state"] = {
        i: {name: np.array(value) if name != "step" else value for name, value in entry.items()}
        for i, entry in plain["state"].items()
    }
    other = optimizers.AdamW(parameters([(2, 2), (3,)]))
    other.load_state_dict(plain)
    assert other.param_groups[0]["betas"] == (0.9, 0.999)
    np.testing.assert_array_equal(other.state_dict()["state"][0]["exp_avg"].data, state["state"][0]["exp_avg"].data)


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    ps = parameters([(2, 2), (3,)])
    optimizer = optimizers.Adam(ps, lr=0.5)
    give_gradients(ps, 0)
    optimizer.step()
    before = optimizer.state_dict()["state"][0]["exp_avg"].data.copy()
    three = optimizers.Adam(parameters([(2, 2), (3,), (1,)]))
    with pytest.raises(optimizers.OptimizerError, match=r"groups of \[3\] parameters, this optimizer of \[2\]"):
        optimizer.load_state_dict(three.state_dict())
    other = parameters([(2, 2), (4,)])
    misfit = optimizers.Adam(other, lr=0.1)
    give_gradients(other, 0)
    misfit.step()
    with pytest.raises(optimizers.OptimizerError, match=r"exp_avg of parameter 1 has shape \(4,\)"):
        optimizer.load_state_dict(misfit.state_dict())
    plain = optimizers.SGD(ps, lr=0.1)
    with pytest.raises(optimizers.OptimizerError, match="another optimizer's, with betas and without momentum"):
        plain.load_state_dict(optimizer.state_dict())
    assert plain.param_groups[0]["lr"] == 0.1
    for part in ("param_groups", "state"):
        half = {name: entry for name, entry in optimizer.state_dict().items() if name != part}
        with pytest.raises(optimizers.OptimizerError, match=f"the state has no {part}"):
            optimizer.load_state_dict(half)
    incomplete = optimizer.state_dict()
    del incomplete["state"][0]["exp_avg"]
    with pytest.raises(optimizers.OptimizerError, match="exp_avg of parameter 0 is missing"):
        optimizer.load_state_dict(incomplete)
    np.testing.assert_array_equal(optimizer.state_dict()["state"][0]["exp_avg"].data, before)
    assert optimizer.param_groups[0]["lr"] == 0.5


# --- bad input


def test_what_cannot_be_learnt_is_refused() -> None:
    weight = Tensor([1.0], requires_grad=True)
    history = weight * 2
    for params, message in [
        ([], "got no parameters"),
        ([tt_core.Tensor([1.0])], "import tt_learn before making the model"),
        ([Tensor([1.0])], r"parameter 0 \(1,\) does not require a gradient"),
        ([history], "is a result of mul; only leaves"),
        ([weight, weight], "parameter 1 .* is given twice"),
        ([{"params": [weight]}, {"params": [weight]}], "given twice"),
        ([1.0], "parameter 0 is 1.0, expected a tensor"),
        ([{"params": [weight], "learning_rate": 1}], "no option learning_rate; there are: lr"),
    ]:
        with pytest.raises(optimizers.OptimizerError, match=message):
            optimizers.SGD(params)


def test_options_that_make_no_sense_are_refused() -> None:
    def weight() -> list[Tensor]:
        return [Tensor([1.0], requires_grad=True)]

    for make, message in [
        (lambda: optimizers.SGD(weight(), lr=-1.0), "lr is -1.0, expected a number >= 0"),
        (lambda: optimizers.SGD(weight(), lr=float("nan")), "lr is nan"),
        (lambda: optimizers.SGD(weight(), nesterov=True), "nesterov needs a momentum above 0"),
        (lambda: optimizers.Adam(weight(), betas=(0.9, 1.0)), r"betas holds 1.0, expected numbers in \[0, 1\)"),
        (lambda: optimizers.RMSprop(weight(), alpha=1.0), "alpha holds 1.0"),
        (lambda: tt_learn.Adagrad(weight(), lr_decay=-1), "lr_decay is -1"),
        (lambda: Muon(weight()), r"shape \(1,\) is not a matrix; put it into a group with use_muon=False"),
        (lambda: Muon(parameters([(2, 2)]), adjust_lr_fn="x"), "expected 'original' or 'match_rms_adamw'"),
    ]:
        with pytest.raises(optimizers.OptimizerError, match=message):
            make()


# --- Muon and clipping


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (5, 5)])
def test_orthogonalized_singular_values_are_about_one(shape: tuple[int, int]) -> None:
    u = np.random.default_rng(0).standard_normal(shape)
    rows, columns = sorted(shape)
    room = [np.empty(s) for s in [(rows, columns)] * 3 + [(rows, rows)] * 2]
    values = np.linalg.svd(orthogonalize(u, (3.4445, -4.7750, 2.0315), 5, 1e-7, room), compute_uv=False)
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_muon_takes_a_zero_gradient() -> None:
    (p,) = parameters([(3, 2)])
    p.grad = Tensor(np.zeros((3, 2)))
    before = p.data.copy()
    Muon([p], lr=0.1, weight_decay=0.0).step()
    np.testing.assert_array_equal(p.data, before)


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (30, 2, 3, 3), (5, 4, 2)])
def test_muon_takes_the_weight_of_a_convolution_as_a_matrix(shape: tuple[int, ...]) -> None:
    (p,), (matrix,) = parameters([shape]), parameters([(shape[0], math.prod(shape[1:]))])
    matrix.data[:] = p.data.reshape(matrix.shape)
    for q in (p, matrix):
        optimizer = Muon([q], lr=0.1)
        for seed in range(3):
            q.grad = Tensor(np.random.default_rng(seed).standard_normal(p.shape).reshape(q.shape))
            optimizer.step()
    np.testing.assert_array_equal(p.data.reshape(matrix.shape), matrix.data)


def test_clipping_leaves_small_gradients_alone() -> None:
    ps = parameters([(3,), (2, 2)])
    give_gradients(ps, 0)
    before = [p.grad.data.copy() for p in ps]
    assert tt_learn.clip_grad_norm_(ps, 1e6).item() == pytest.approx(
        np.sqrt(sum((g**2).sum() for g in before)), rel=1e-12
    )
    for p, g in zip(ps, before):
        np.testing.assert_array_equal(p.grad.data, g)
    assert tt_learn.clip_grad_norm_([Tensor([1.0], requires_grad=True)], 1.0).item() == 0


@pytest.mark.parametrize("norm_type", [1.0, 2.0, np.inf])
@pytest.mark.parametrize("bad", [0, 1])
def test_a_gradient_that_is_no_number_is_in_every_norm(norm_type: float, bad: int) -> None:
    ps = parameters([(2,), (3,)])
    give_gradients(ps, 0)
    ps[bad].grad.data[1] = np.nan
    with pytest.raises(tt_learn.GradientError, match="norm is nan"):
        tt_learn.clip_grad_norm_(ps, 1.0, norm_type, error_if_nonfinite=True)
    tt_learn.clip_grad_norm_(ps, 1.0, norm_type)
    assert all(np.isnan(p.grad.data).all() for p in ps)


def test_a_norm_of_float16_does_not_end_at_255() -> None:
    (p,) = parameters([(2,)], "float16")
    p.grad = Tensor(np.array([300.0, 400.0], "float16"))
    assert tt_learn.clip_grad_norm_(p, 1.0).item() == 500.0
    np.testing.assert_allclose(p.grad.data, [0.6, 0.8], rtol=1e-3)


def test_gradients_set_to_zero_are_noticed_by_whoever_kept_them() -> None:
    w = Tensor([2.0], requires_grad=True)
    (w**3).sum().backward(create_graph=True)
    assert w.grad is not None
    penalty, kept = (w.grad * w.grad).sum(), w.grad
    optimizers.SGD([w]).zero_grad(set_to_none=False)
    assert kept.item() == w.grad.item() == 0
    assert not w.grad.requires_grad
    with pytest.raises(tt_learn.GradientError, match="changed in place"):
        penalty.backward()


@pytest.mark.parametrize("shape", [(4,), (1,), (3, 1)])
def test_a_gradient_of_another_shape_is_not_broadcast(shape: tuple[int, ...]) -> None:
    w = Tensor(np.zeros(shape), requires_grad=True)
    w.grad = Tensor(np.ones(shape))
    w.data = np.zeros((3, 4))
    with pytest.raises(tt_learn.GradientError, match=r"grad: a tensor of shape \(3, 4\) cannot have a gradient of \("):
        w.grad = Tensor(np.ones(shape))
    with pytest.raises(ShapeError, match=r"a parameter of \(3, 4\) has a gradient of"):
        optimizers.SGD([w]).step()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optimizers.SGD(3), "got 3; pass parameters"),
        (lambda p: optimizers.SGD(tt_core.Linear(1, 1)), "got a Linear; pass parameters"),
        (lambda p: optimizers.SGD([{"lr": 1.0}]), "a group is a dictionary"),
        (lambda p: optimizers.SGD(p, lr="a"), "lr is 'a', expected a number >= 0"),
        (lambda p: optimizers.Adam(p, lr=None), "lr is None"),
        (lambda p: optimizers.Adam(p, betas=(0.9,)), r"betas is \(0.9,\), expected two numbers"),
        (lambda p: optimizers.Adam(p, betas=3), "betas is 3, expected two numbers"),
        (lambda p: optimizers.Adam(p, betas=("a", 0.9)), "betas holds 'a'"),
        (lambda p: optimizers.SGD(p).load_state_dict(3), "the state has no param_groups"),
        (lambda p: optimizers.SGD(p).load_state_dict({"state": {}, "param_groups": [{}]}), "are not groups"),
    ],
)
def test_arguments_of_another_kind_are_one_line(make: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(optimizers.OptimizerError, match=message):
        make(parameters([(2,)]))


class Watching:
    """A plugin that notes each step, and the parameters it left."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, float]] = []

    @hookimpl
    def tt_observe_step(self, optimizer: type[optimizers.Optimizer]) -> Callable[[Any], None]:
        return lambda stepped: self.seen.append((stepped.name, stepped.param_groups[0]["params"][0].item()))


def test_a_plugin_sees_each_step_after_it_is_done() -> None:
    w = Tensor([1.0], requires_grad=True)
    sgd, plugin = optimizers.SGD([w], lr=0.25), Watching()
    lbfgs = tt_learn.LBFGS([w], lr=0.5, max_iter=1)

    def loss() -> Any:
        lbfgs.zero_grad()
        value = (w * w).sum()
        value.backward()
        return value

    manager.register(plugin)
    try:
        w.sum().backward()
        sgd.step()
        lbfgs.step(loss)
    finally:
        manager.unregister(plugin)
    sgd.step()
    assert [name for name, _ in plugin.seen] == ["SGD", "LBFGS"]
    assert plugin.seen[0][1] == 0.75 != plugin.seen[1][1]


def test_a_plugin_wraps_each_step() -> None:
    class Wrapping:
        def __init__(self) -> None:
            self.seen: list[str] = []

        @hookimpl
        def tt_wrap_step(self, optimizer: type[optimizers.Optimizer], call: Callable[..., Any]) -> Callable[..., Any]:
            def step(stepped: Any, closure: Any) -> Any:
                self.seen.append(f"before {stepped.name}")
                result = call(stepped, closure)
                self.seen.append(f"after {stepped.name}, {stepped.param_groups[0]['params'][0].item()}")
                return result

            return step

    w, plugin = Tensor([1.0], requires_grad=True), Wrapping()
    sgd = optimizers.SGD([w], lr=0.25)
    w.sum().backward()
    manager.register(plugin)
    try:
        assert sgd.step(lambda: "loss") == "loss"
    finally:
        manager.unregister(plugin)
    sgd.step()
    assert plugin.seen == ["before SGD", "after SGD, 0.75"]
    assert w.item() == 0.5


@pytest.mark.parametrize("make", [make for name, make in ALL.items() if name != "LBFGS"])
def test_an_optimizer_goes_on_with_the_rows_that_are_kept(make: Callable[[Any], optimizers.Optimizer]) -> None:
    """Element-wise rules give the rows that stay the values they would have had."""
    if make is ALL["Muon"]:
        pytest.skip("orthogonalizes whole matrices")

    def parameters() -> list[Any]:
        return [Tensor(np.arange(12.0).reshape(4, 3) / 10, requires_grad=True), Tensor([0.5], requires_grad=True)]

    def step(optimizer: optimizers.Optimizer, p: list[Any]) -> None:
        optimizer.zero_grad()
        ((p[0] - 0.3) ** 2).sum().backward()
        optimizer.step()

    whole, cut, kept = parameters(), parameters(), [0, 2]
    first, second = make(whole), make(cut)
    for _ in range(3):
        step(first, whole)
        step(second, cut)
    state = second.state_dict()
    cut[0].data = cut[0].data[kept]
    for name, value in state["state"][0].items():
        if np.shape(value) == (4, 3):
            state["state"][0][name] = value[kept]
    second.rebuild(state)
    for _ in range(3):
        step(first, whole)
        step(second, cut)
    np.testing.assert_allclose(cut[0].numpy(), whole[0].numpy()[kept], rtol=1e-12)
