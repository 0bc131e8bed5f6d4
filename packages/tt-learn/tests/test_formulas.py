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

OPS = [op.name for op in registry.values() if op.kernel is not op.formula]


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
