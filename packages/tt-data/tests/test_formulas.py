"""Every tuned kernel computes what the op's formula computes: values, dtypes, shapes and errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tt_core
import tt_data
import tt_learn
from tt_core.command.checking import compare, misdeclared
from tt_core.engine.dispatch import registry
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.plugins import manager
from tt_core.samples import SAMPLES as CORE_SAMPLES
from tt_data import spatial
from tt_data.command.cli import Act
from tt_data.samples import SAMPLES
from tt_learn import Tensor
from tt_learn.autograd.record import AutogradPlugin

OURS = [op for op in registry.values() if op.formula.__module__.startswith("tt_data.")]
TUNED = [op.name for op in OURS if op.kernel is not op.formula]


@pytest.fixture(scope="module", autouse=True)
def _samples() -> Iterator[None]:
    """The samples of Act III, which the command `tt` registers."""
    act, added = Act(), not manager.has_plugin("act-data")
    if added:
        manager.register(act, "act-data")
    yield
    if added:
        manager.unregister(act)


@pytest.fixture(scope="module")
def rows() -> dict[str, Any]:
    """Comparisons of each formula with its kernel: seven dtypes in four memory layouts, empty arrays, nan and inf."""
    return {row.op: row for row in compare({name: registry[name].formula for name in TUNED}, timed=False)}


@pytest.mark.parametrize("name", TUNED)
def test_the_formula_and_the_kernel_agree(name: str, rows: dict[str, Any]) -> None:
    assert not rows[name].difference, str(rows[name])
    assert rows[name].calls >= 8  # at least float32 and float64 in four layouts


@pytest.fixture(scope="module")
def zeros() -> dict[str, Any]:
    """Comparisons of each op with a kernel that returns 0."""
    return {row.op: row for row in compare({op.name: lambda *_, **__: 0 for op in OURS}, timed=False)}


@pytest.mark.parametrize("name", [op.name for op in OURS])
def test_the_samples_reach_every_op_and_notice_a_wrong_result(name: str, zeros: dict[str, Any]) -> None:
    assert zeros[name].difference != ""


def test_ops_are_random_and_views_as_they_declare() -> None:
    ours = [name for name, op in registry.items() if op.kernel.__module__.startswith(("tt_data.", "tt_learn."))]
    assert misdeclared(ours, {**CORE_SAMPLES, **SAMPLES, **AutogradPlugin().tt_samples()}) == {}


X = np.ones((2, 4, 5, 5), np.float32)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("conv2d", (X, np.ones((3, 3, 3, 3))), {}),
        ("conv2d", (X, np.ones((3, 4, 9, 9))), {}),
        ("conv2d", (X, np.ones((3, 4, 3, 3)), np.ones(4)), {}),
        ("conv2d", (X[0, 0], np.ones((3, 4, 3, 3))), {}),
        ("conv2d", (X, np.ones((4, 4, 3, 3))), {"groups": 3}),
        ("conv2d", (X, np.ones((3, 4, 3, 3))), {"stride": 0}),
        ("conv2d", ("text", X), {}),
        ("max_pool2d", (X[0, 0],), {"kernel_size": 2}),
        ("max_pool2d", (X,), {"kernel_size": 6}),
        ("max_pool2d", (X,), {"kernel_size": 2, "padding": 2}),
        ("max_pool2d_with_indices", (X > 0,), {"kernel_size": 2}),
        ("avg_pool2d", (X.astype(int),), {"kernel_size": 2}),
        ("avg_pool2d", (X,), {"kernel_size": 2, "divisor_override": 0}),
        ("batch_norm_training", (X.astype(int),), {}),
        ("batch_norm_training", (X[0, 0, 0],), {}),
        ("batch_norm_training", (X, np.ones(3)), {}),
        ("batch_norm_training", (X[:0],), {}),
        ("batch_norm_inference", (X, np.ones(3), np.ones(4)), {}),
        ("batch_norm_inference", (X, np.ones(4), np.ones(4), np.ones(3)), {}),
    ],
)
def test_both_forms_raise_the_same_error(name: str, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> None:
    with pytest.raises(TinyTorchError) as tuned:
        registry[name](*inputs, **attributes)
    with tt_core.use("formula"), pytest.raises(TinyTorchError) as formula:
        registry[name](*inputs, **attributes)
    assert type(formula.value) is type(tuned.value)
    assert str(formula.value) == str(tuned.value)


def losses_of_a_training_run() -> list[float]:
    """Ten steps of a small convolutional network on fixed images."""
    tt_core.manual_seed(0)
    x = tt_core.randn(16, 2, 8, 8)
    y = Tensor(x.numpy().mean((2, 3)).argmax(1))
    model = tt_core.Sequential(
        tt_data.Conv2d(2, 4, 3, padding=1), tt_data.BatchNorm2d(4), tt_core.ReLU(), tt_data.MaxPool2d(2),
        tt_data.Conv2d(4, 4, 3, stride=2, groups=2), tt_data.AvgPool2d(1), tt_data.Flatten(), tt_core.Linear(4, 2),
    )  # fmt: skip
    optimizer = tt_learn.SGD(model.parameters(), lr=0.5)
    losses = []
    for _ in range(10):
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
    np.testing.assert_allclose(formulas, tuned, rtol=0, atol=1e-4)
    assert tuned[-1] < 0.8 * tuned[0]


def test_max_pooling_of_a_kernel_without_residuals_has_its_gradient() -> None:
    """A plugin's kernel may return the maxima alone; the gradient rule then finds their places."""

    class Plain:
        @tt_core.hookimpl
        def tt_kernel(self, op: Any) -> Any:
            return spatial.max_pool2d.formula if op is spatial.max_pool2d else None

    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 7, 7)), requires_grad=True)
    y = Tensor(x.numpy(), requires_grad=True)
    spatial.max_pool2d(x, 3, stride=2, padding=1).square().sum().backward()
    with tt_core.use(Plain()):
        spatial.max_pool2d(y, 3, stride=2, padding=1).square().sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert np.array_equal(x.grad.numpy(), y.grad.numpy())
