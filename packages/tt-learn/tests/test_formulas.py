"""Every tuned kernel computes what the op's formula computes: values, dtypes, shapes and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tt_core
import tt_learn
from tt_core.command.checking import check
from tt_core.engine.dispatch import registry
from tt_learn import Tensor
from tt_learn.optimizers import tuned_updates

OURS = ("tt_core.", "tt_learn.")  # another act, which a test may have loaded, compares its ops itself
OPS = [op.name for op in registry.values() if op.kernel is not op.formula and op.formula.__module__.startswith(OURS)]


@pytest.fixture(scope="module")
def rows() -> dict[str, Any]:
    """What `tt plugins check formula` finds, for each op: seven dtypes in four memory layouts, empty and 0-d arrays."""
    return {row.op: row for row in check("formula", timed=False)}


@pytest.mark.parametrize("name", OPS)
def test_the_formula_and_the_kernel_agree(name: str, rows: dict[str, Any]) -> None:
    assert not rows[name].difference, str(rows[name])
    assert rows[name].calls >= 8  # at least float32 and float64 in four layouts


def losses_of_a_training_run() -> list[float]:
    """Twenty steps of a small MLP on fixed data."""
    tt_core.manual_seed(0)
    x = tt_core.randn(64, 8)
    y = Tensor(x.numpy()[:, :3].argmax(1))
    model = tt_core.Sequential(
        tt_core.Linear(8, 16), tt_core.LayerNorm(16), tt_core.GELU(), tt_core.Linear(16, 16), tt_core.ReLU(),
        tt_core.Dropout(0.1), tt_core.Linear(16, 3),
    )  # fmt: skip
    optimizer = tt_learn.SGD(model.parameters(), lr=0.5)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = tt_core.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_on_formulas_gives_the_same_losses() -> None:
    tuned = losses_of_a_training_run()
    with tt_core.use("formula"):
        formulas = losses_of_a_training_run()
    np.testing.assert_allclose(formulas, tuned, rtol=0, atol=1e-5)
    assert tuned[-1] < 0.8 * tuned[0]


# --- updates of optimizers


UPDATES: list[tuple[type[Any], dict[str, Any]]] = [
    (tt_learn.SGD, {"lr": 0.1}),
    (tt_learn.SGD, {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    (tt_learn.SGDMomentum, {"lr": 0.1, "dampening": 0.3, "weight_decay": 0.01}),
    (tt_learn.SGDMomentum, {"lr": 0.1, "nesterov": True, "maximize": True}),
    (tt_learn.RMSprop, {}),
    (tt_learn.RMSprop, {"centered": True, "momentum": 0.8, "weight_decay": 0.1}),
    (tt_learn.Adam, {}),
    (tt_learn.Adam, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    (tt_learn.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    (tt_learn.AdamW, {"lr": 0.01, "amsgrad": True, "maximize": True, "weight_decay": 0.0}),
]


def test_every_tuned_update_is_tried() -> None:
    assert {kind.update for kind, _ in UPDATES} == set(tuned_updates)


@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [("float64", 1e-12, 1e-14), ("float32", 1e-5, 1e-6), ("float16", 1e-2, 1e-2)]
)
@pytest.mark.parametrize(("kind", "options"), UPDATES)
def test_the_formula_and_the_tuned_update_agree(
    kind: type[Any], options: dict[str, Any], dtype: str, rtol: float, atol: float
) -> None:
    """Ten steps with a parameter of its own block, small ones that share a block, and one without dimensions."""

    def trained() -> list[Any]:
        draw = np.random.default_rng(0)
        ps = [Tensor(draw.standard_normal(s).astype(dtype), requires_grad=True) for s in ((90, 60), (3, 4), (), (0, 2))]
        optimizer = kind(ps, **options)
        for _ in range(10):
            for p in ps:
                p.grad = Tensor(draw.standard_normal(p.shape).astype(dtype))
            optimizer.step()
        states = [x for entry in optimizer.state_dict()["state"].values() for x in entry.values()]
        return [x.data for x in (*ps, *states) if isinstance(x, Tensor)]

    tuned = trained()
    with tt_core.use("formula"):
        formulas = trained()
    for a, b in zip(tuned, formulas):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(b, a, rtol, atol)


def test_a_formula_of_ones_own_runs_without_the_tuned_form_of_its_parent() -> None:
    class Backwards(tt_learn.SGD):
        def update(self, p: Any, g: Any, state: Any, step: int, group: Any) -> None:
            p += group["lr"] * g

    w = Tensor([1.0], requires_grad=True)
    w.sum().backward()
    Backwards([w], lr=0.5).step()
    assert w.item() == 1.5
