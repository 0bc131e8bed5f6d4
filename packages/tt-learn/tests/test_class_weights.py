"""A class weight that is learned gets its gradient from every loss that takes one, or an error; never silence."""

from __future__ import annotations

import numpy as np
import pytest

import tt_core
from tt_learn import Tensor, gradcheck

TARGET = np.array([0, 2, -100, 1, 2])


def inputs() -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(0)
    return (
        Tensor(random.standard_normal((5, 3)), requires_grad=True),
        Tensor(random.uniform(0.5, 2.0, 3), requires_grad=True),
    )


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_nll_loss(reduction: str) -> None:
    assert gradcheck(lambda x, w: tt_core.nll_loss(x, tt_core.tensor(TARGET), w, reduction=reduction), inputs())


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_smoothed_cross_entropy(reduction: str) -> None:
    def loss(x: Tensor, w: Tensor) -> Tensor:
        return tt_core.cross_entropy(x, tt_core.tensor(TARGET), w, reduction=reduction, label_smoothing=0.1)

    assert gradcheck(loss, inputs())


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_cross_entropy(reduction: str) -> None:
    probabilities = tt_core.tensor(np.random.default_rng(1).random((5, 3)))
    for target in (tt_core.tensor(TARGET), probabilities):
        assert gradcheck(lambda x, w: tt_core.cross_entropy(x, target, w, reduction=reduction), inputs())  # noqa: B023


def test_a_mean_of_no_example_is_nan_but_moves_no_weight() -> None:
    x, _ = inputs()
    loss = tt_core.cross_entropy(x, tt_core.tensor([-100] * 5))
    loss.backward()
    assert np.isnan(loss.item())
    assert x.grad is not None
    assert not x.grad.data.any()
