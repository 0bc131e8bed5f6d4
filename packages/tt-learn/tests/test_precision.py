"""Gradients of float16 tensors, at ties, at nan and at the edge of a function's domain."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_core.tensor import elementwise as E
from tt_learn import Function, Tensor


def slopes(function: Any, *values: Any, dtype: str = "float64") -> list[Any]:
    inputs = [Tensor(np.array(value, dtype), requires_grad=True) for value in values]
    function(*inputs).sum().backward()
    assert all(x.grad is not None and x.grad.dtype == x.dtype for x in inputs)
    return [x.grad.data.tolist() for x in inputs]  # type: ignore[union-attr]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    "name", ["sum", "mean", "var", "std", "norm", "prod", "logsumexp", "cumsum", "amax", "softmax", "log_softmax"]
)
def test_a_float16_gradient_is_the_float64_one_rounded(name: str, axis: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0.5, 1.5, (40, 30)).astype("float16")
    values[:, 0] *= np.float16(300 if name in ("norm", "std", "var") else 1)
    g = rng.uniform(0.5, 1.5, (40, 30)).astype("float16")

    def gradient(dtype: str) -> Any:
        x = Tensor(values.astype(dtype), requires_grad=True)
        apply = getattr(tt, name) if "softmax" in name else lambda x, dim: getattr(x, name)(dim=dim)
        out = apply(x, axis) if "softmax" not in name else apply(x, dim=axis)
        weight = g if out.shape == g.shape else g.take(0, axis)
        out.backward(weight.astype(dtype))
        return x.grad.data  # type: ignore[union-attr]

    exact = gradient("float64")
    np.testing.assert_allclose(gradient("float16"), exact, rtol=3e-3, atol=2e-3 * np.abs(exact).max())


def test_float16_gradients_that_overflow_on_the_way_only() -> None:
    assert slopes(lambda x: x.norm(), [300, 400], dtype="float16")[0] == pytest.approx([0.6, 0.8], rel=1e-3)
    many = np.ones(70000)
    assert slopes(lambda x: x.mean() * 1000, many, dtype="float16")[0][:2] == pytest.approx([1 / 70] * 2, rel=2e-3)
    assert slopes(lambda x: (x**3) * 1e-3, [300], dtype="float16")[0] == pytest.approx([270], rel=2e-3)
    taken = np.zeros(4096, int)
    assert slopes(lambda x: x[taken], [1, 1], dtype="float16") == [[4096, 0]]
    assert slopes(lambda x: x.expand(5000, 2), [[1, 1]], dtype="float16") == [[[5000, 5000]]]


def test_a_functions_backward_is_given_float16_for_float16() -> None:
    class Double(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            assert g.dtype == np.float16
            return g * 2

    assert slopes(Double.apply, [1, 2], dtype="float16") == [[2, 2]]


def test_ties_at_bounds_go_to_the_input() -> None:
    for low in (1.0, Tensor([1.0, 1.0])):
        assert slopes(lambda x, low=low: x.clamp(min=low), [1.0, 0.0]) == [[1, 0]]
    assert slopes(lambda x, low, high: x.clamp(low, high), [1, 0, 3, 5], [1, 1, 1, 4], [2, 2, 3, 2]) == [
        [1, 0, 1, 0],
        [0, 1, 0, 0],
        [0, 0, 0, 1],
    ]


def test_powers_at_the_edge() -> None:
    assert slopes(lambda a, b: a**b, [np.nan, 0, 0], [0, 0, 2])[0] == [0, 0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert slopes(lambda a, b: a**b, [0.0], [-1.0])[1] == [-np.inf]
        assert slopes(lambda b: 0.0**b, [-1.0, 0.0, 1.0]) == [[-np.inf, 0, 0]]
    assert slopes(lambda a: a**0, [np.nan, np.inf]) == [[0, 0]]


def test_value_and_gradient_name_the_same_element_at_nan() -> None:
    x = [1.0, np.nan, 3.0, 2.0]
    for name in ("max", "min", "amax", "amin"):
        assert slopes(lambda x, name=name: getattr(x, name)(), x) == [[0, 1, 0, 0]]
    for name in ("max", "min"):
        values, indices = getattr(Tensor(x), name)(dim=0)
        assert values.isnan()
        assert indices.item() == 1
        assert slopes(lambda x, name=name: getattr(x, name)(dim=0).values, x) == [[0, 1, 0, 0]]
    assert Tensor(x).topk(2).indices.tolist() == [1, 2]
    assert Tensor(x).sort().indices.tolist() == [0, 3, 2, 1]
    assert Tensor(x).sort(descending=True).indices.tolist() == [1, 2, 3, 0]
    assert Tensor(x).argmax().item() == Tensor(x).argmin().item() == 1
    assert slopes(lambda x: E.maximum(x, 2.0), x) == [[0, 1, 1, 0.5]]


def test_gradients_of_new_arguments() -> None:
    assert slopes(lambda x: x.repeat_interleave(tt.tensor([1, 0, 2]), 0), [1, 2, 3]) == [[1, 0, 2]]
    assert slopes(lambda x: x.roll((1,)) * tt.tensor([1.0, 2.0, 3.0]), [1, 2, 3]) == [[2, 3, 1]]
    assert slopes(lambda x: x.index_select(0, tt.tensor([0])), 5.0) == [1]
    assert slopes(lambda x: tt.pad(x, (-1, 2)), [1, 2, 3]) == [[0, 1, 1]]
    assert slopes(lambda x, w, b: tt.linear(x, w, b), [[1, 2], [3, 4]], [5, 6], 1) == [
        [[5, 6], [5, 6]],
        [4, 6],
        2,
    ]
