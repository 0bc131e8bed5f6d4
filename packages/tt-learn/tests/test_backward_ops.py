"""The backward ops of Act I are the slopes of their ops, as formulas and as tuned kernels."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tt_core import activations as A
from tt_core import losses
from tt_core.engine.dispatch import Op, quietly
from tt_learn.rules import activations as R
from tt_learn.rules import losses as RO

LIMIT = float(np.finfo("f4").max)
EXTREMES = [-LIMIT, -1e30, -1e4, -88.0, -1e-30, -0.0, 0.0, 1e-30, 88.0, 1e4, 1e30, LIMIT]
FORMS = ("formula", "kernel")


@pytest.fixture(autouse=True)
def no_floating_point_error() -> Iterator[None]:
    with np.errstate(all="raise", under="ignore"):
        yield


class Case:
    """An op, its backward op, and what that needs: "x", "out" or both."""

    def __init__(self, op: Op, backward: Op, needs: str, **attributes: Any) -> None:
        self.op, self.backward, self.needs, self.attributes = op, backward, needs, attributes
        self.kernel = backward.kernel

    def forward(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(quietly(self.op.kernel, x, **self.attributes))

    def gradient(self, g: np.ndarray, x: np.ndarray) -> np.ndarray:
        out = self.forward(x)
        needed = {"x": (x,), "out": (out,), "x and out": (x, out)}[self.needs]
        return np.asarray(quietly(self.kernel, g, *needed, **self.attributes))


CASES = {
    "relu": Case(A.relu, R.relu_backward, "out"),
    "leaky_relu": Case(A.leaky_relu, R.leaky_relu_backward, "x"),
    "leaky_relu steep": Case(A.leaky_relu, R.leaky_relu_backward, "x", negative_slope=3.0),
    "sigmoid": Case(A.sigmoid, R.sigmoid_backward, "out"),
    "tanh": Case(A.tanh, R.tanh_backward, "out"),
    "silu": Case(A.silu, R.silu_backward, "x"),
    "softplus": Case(A.softplus, R.softplus_backward, "x"),
    "softplus sharp": Case(A.softplus, R.softplus_backward, "x", beta=3.0, threshold=2.0),
    "gelu": Case(A.gelu, R.gelu_backward, "x and out"),
    "gelu tanh": Case(A.gelu, R.gelu_backward, "x and out", approximate="tanh"),
    "softmax": Case(A.softmax, R.softmax_backward, "out"),
    "log_softmax": Case(A.log_softmax, R.log_softmax_backward, "out"),
}


def case_of(name: str, form: str) -> Case:
    found = copy.copy(CASES[name])
    found.kernel = getattr(found.backward, form)
    return found


@pytest.fixture(params=[(name, form) for name in CASES for form in FORMS], ids=" ".join)
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(*request.param)


@pytest.mark.parametrize("shape", [(3, 4), (300, 120)])
def test_the_backward_op_is_the_slope(case: Case, shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(2)
    x, g, step = generator.normal(0, 2, shape), generator.normal(size=shape), generator.normal(size=shape)
    x[np.abs(x) < 1e-3] = 0.5  # away from corners
    if "threshold" in case.attributes:
        x[np.abs(3 * x - 2) < 1e-3] = 0.5
    h = 1e-6
    numeric = ((case.forward(x + h * step) - case.forward(x - h * step)) / (2 * h) * g).sum()
    np.testing.assert_allclose((case.gradient(g, x) * step).sum(), numeric, rtol=1e-5)


def test_the_memory_layout_does_not_matter(case: Case) -> None:
    x, g = np.random.default_rng(0).normal(size=(2, 200, 400)).astype("f4")
    for strided in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
        np.testing.assert_allclose(case.gradient(g, strided), case.gradient(g, x), rtol=1e-5, atol=1e-5)


def test_the_input_and_the_gradient_are_left_as_they_were(case: Case) -> None:
    x, g = np.random.default_rng(0).normal(size=(2, 300, 120)).astype("f4")
    kept_x, kept_g = x.copy(), g.copy()
    case.gradient(g, x)
    np.testing.assert_array_equal(x, kept_x)
    np.testing.assert_array_equal(g, kept_g)


def test_the_slope_at_the_extremes_is_finite(case: Case) -> None:
    x = np.array(EXTREMES, "f4")
    slope = case.gradient(np.ones_like(x), x)
    assert np.isfinite(slope).all()
    assert slope.dtype == np.float32


def test_infinities_and_nan_stay_silent(case: Case) -> None:
    x = np.array([np.nan, np.inf, -np.inf], "f4")
    case.gradient(np.ones_like(x), x)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_the_slope_of_gelu_around_0_is_a_half(dtype: str, form: str) -> None:
    least, eps = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).eps
    x = np.array([0.0, -0.0, least, -least, 4 * np.finfo(dtype).tiny, -4 * np.finfo(dtype).tiny, 1e-6, -1e-6], dtype)
    for name in ("gelu", "gelu tanh"):
        gradient = case_of(name, form).gradient(np.ones_like(x), x)
        np.testing.assert_allclose(gradient, 0.5, atol=2e-6 + 4 * float(eps))


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_over_each_dimension(name: str, dim: int) -> None:
    for case in (case_of(name, form) for form in FORMS):
        x, g = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
        slope = np.moveaxis(case.gradient(np.moveaxis(g, dim, -1), np.moveaxis(x, dim, -1)), -1, dim)
        np.testing.assert_allclose(case.kernel(g, case.op.kernel(x, dim=dim), dim=dim), slope, rtol=1e-10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", np.longdouble])
def test_rectifiers_let_no_infinite_gradient_become_nan(dtype: Any, form: str) -> None:
    g = np.array([np.inf, np.inf, -np.inf, -np.inf, np.nan, np.nan, -2, 3], dtype)
    x = np.array([1, -1, 1, -1, 1, -1, 1, -1], dtype)
    relu = getattr(R.relu_backward, form)(g, np.maximum(x, 0))
    np.testing.assert_array_equal(relu, [np.inf, 0, -np.inf, 0, np.nan, 0, -2, 0])
    leaky = getattr(R.leaky_relu_backward, form)(g, x, negative_slope=0.5)
    np.testing.assert_array_equal(leaky, [np.inf, np.inf, -np.inf, -np.inf, np.nan, np.nan, -2, 1.5])
    assert relu.dtype == leaky.dtype == np.dtype(dtype)
    assert getattr(R.relu_backward, form)(g[-1:], np.array([np.nan], dtype)) == 3  # a nan is not hidden


# --- losses


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", [(7, 5), (2, 5, 3), (5,), (1500, 40)])
def test_the_backward_op_of_cross_entropy_is_the_slope(shape: tuple[int, ...], reduction: str, form: str) -> None:
    generator = np.random.default_rng(1)
    x, step, weight = (
        generator.normal(size=shape),
        generator.normal(size=shape),
        generator.random(shape[1 % len(shape)]),
    )
    target = np.asarray(generator.integers(0, 5, (shape[0], *shape[2:]) if len(shape) > 1 else ()))
    if target.size > 1:
        target.flat[1] = -100
    attributes: dict[str, Any] = {"ignore_index": -100, "reduction": reduction}
    kernel = losses.cross_entropy.kernel
    loss, peak, total = kernel(x, target, weight, **attributes)
    g = generator.normal(size=np.shape(loss))
    kept = [array.copy() for array in (x, peak, total, g)]
    slope = getattr(RO.cross_entropy_backward, form)(g, x, target, peak, total, weight, **attributes)
    h = 1e-6
    moved = (
        kernel(x + h * step, target, weight, **attributes)[0] - kernel(x - h * step, target, weight, **attributes)[0]
    )
    assert slope.shape == x.shape
    np.testing.assert_allclose((slope * step).sum(), (moved / (2 * h) * g).sum(), rtol=1e-6)
    for array, before in zip((x, peak, total, g), kept):
        np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_at_the_limits_is_finite(form: str) -> None:
    x = np.array([[1e4, -1e4], [LIMIT, -LIMIT]], "f4")
    target = np.array([1, 0])
    _, peak, total = quietly(losses.cross_entropy.kernel, x, target)
    slope = quietly(getattr(RO.cross_entropy_backward, form), np.ones((), "f4"), x, target, peak, total)
    np.testing.assert_allclose(slope, [[0.5, -0.5], [0, 0]])


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_the_backward_op_of_cross_entropy_computes_what_it_is_not_handed(reduction: str) -> None:
    x, target, g = np.random.default_rng(0).normal(size=(6, 4)), np.array([0, 3, -100, 1, 2, 2]), np.ones(())
    _, peak, total = losses.cross_entropy.kernel(x, target)
    kernel = RO.cross_entropy_backward.kernel
    g = np.ones(6) if reduction == "none" else g
    np.testing.assert_allclose(
        kernel(g, x, target, reduction=reduction), kernel(g, x, target, peak, total, reduction=reduction)
    )


def test_the_slope_of_binary_cross_entropy_at_the_limits() -> None:
    backward = RO.binary_cross_entropy_backward.kernel
    slope = backward(np.ones(2, "f4"), np.array([0, 0.5], "f4"), np.array([0, 1], "f4"), reduction="none")
    assert slope.tolist() == [0, -2]
