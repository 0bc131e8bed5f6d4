"""Every tuned kernel computes what the op's formula computes: values, dtypes, shapes and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tt_core
from tt_core.command.checking import check
from tt_core.engine.dispatch import quietly, registry
from tt_core.engine.errors import TinyTorchError

OPS = [
    op.name for op in registry.values() if op.kernel is not op.formula and op.formula.__module__.startswith("tt_core.")
]


@pytest.fixture(scope="module")
def rows() -> dict[str, Any]:
    """What `tt plugins check formula` finds, for each op: seven dtypes in four memory layouts, empty and 0-d arrays."""
    return {row.op: row for row in check("formula", timed=False)}


@pytest.mark.parametrize("name", OPS)
def test_the_formula_and_the_kernel_agree(name: str, rows: dict[str, Any]) -> None:
    assert not rows[name].difference, str(rows[name])
    assert rows[name].calls >= 8  # at least float32 and float64 in four layouts


X = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("softmax", (np.ones(3, int),), {}),
        ("softmax", (X,), {"dim": 2}),
        ("log_softmax", (np.ones(3, bool),), {}),
        ("log_softmax", (X,), {"dim": -3}),
        ("gelu", (X,), {"approximate": "fast"}),
        ("linear", (X, X.T), {}),
        ("linear", (X, X[None]), {}),
        ("layer_norm", (X.astype(int),), {}),
        ("layer_norm", (X,), {"dims": 3}),
        ("layer_norm", (X, X[0, :2]), {}),
        ("layer_norm", (X, None, X[0, :2]), {}),
        ("cross_entropy", (X, np.array([0, 3])), {}),
        ("cross_entropy", (X, np.array([0, -1])), {}),
        ("cross_entropy", (X, np.array([0.0, 1.0])), {}),
        ("cross_entropy", (X, np.array([0])), {}),
        ("cross_entropy", (X.astype(int), np.array([0, 1])), {}),
        ("cross_entropy", (X, np.array([0, 1]), np.ones(2)), {}),
        ("cross_entropy", (X, np.array([0, 1])), {"reduction": "max"}),
        ("cross_entropy", (X, np.array([0, 1])), {"label_smoothing": 1.5}),
        ("cross_entropy", (X, np.array([0, 1])), {"ignore_index": "none"}),
        ("mean", (X.astype(int),), {}),
        ("var", (X.astype(bool),), {"dim": 0}),
        ("std", (X.astype(int),), {}),
        ("sum", (X,), {"dim": 2}),
        ("mean", (X,), {"dim": -3}),
        ("topk_indices", (X,), {"k": 4}),
        ("topk_indices", (X,), {"k": 1, "dim": 2}),
        ("matmul", (X, X), {}),
        ("matmul", (X[None], X), {}),
        ("matmul", (X, X[0, 0]), {}),
        ("pow", (X.astype(int), -1), {}),
        *[(name, (X, np.ones(2)), {}) for name in ("add", "sub", "mul", "div", "maximum", "minimum", "pow")],
        *[(name, ("text",), {}) for name in ("gelu", "silu", "sigmoid", "softplus", "leaky_relu", "softmax")],
    ],
)
def test_both_forms_raise_the_same_error(name: str, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> None:
    with pytest.raises(TinyTorchError) as tuned:
        registry[name](*inputs, **attributes)
    with tt_core.use("formula"), pytest.raises(TinyTorchError) as formula:
        registry[name](*inputs, **attributes)
    assert type(formula.value) is type(tuned.value)
    assert str(formula.value) == str(tuned.value)


def test_the_plugin_runs_every_op_on_its_formula() -> None:
    kernels = {name: registry[name].base for name in OPS}
    with tt_core.use("formula"):
        assert all(registry[name].chain is not kernels[name] for name in OPS)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("ignore_index", [-100, 1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 2), (4,), (0, 4), (300, 100)])
def test_cross_entropy_agrees_in_all_its_options(
    shape: tuple[int, ...], weighted: bool, ignore_index: int, reduction: str
) -> None:
    rng = np.random.default_rng(0)
    classes = shape[min(len(shape) - 1, 1)]
    x, target = rng.standard_normal(shape), rng.integers(0, classes, (*shape[:1], *shape[2:]) if shape[1:] else ())
    weight = rng.random(classes) if weighted else None
    op = tt_core.cross_entropy
    expected = quietly(op.formula, x, target, weight, ignore_index, reduction)
    result, *_ = quietly(op.kernel, x, target, weight, ignore_index, reduction)
    assert np.shape(result) == np.shape(expected)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64"])
@pytest.mark.parametrize("shape", [(4,), (0, 4), (3, 4), (2, 3, 4), (2, 0, 4)])
@pytest.mark.parametrize("outputs", [(), (5,), (0,)])
def test_linear_agrees_on_each_number_of_dimensions(shape: Any, outputs: Any, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, weight, bias = ((rng.standard_normal(s) * 3).astype(dtype) for s in (shape, (*outputs, 4), outputs))
    for given in (None, bias):
        expected, result = tt_core.linear.formula(x, weight, given), tt_core.linear.kernel(x, weight, given)
        assert (np.shape(result), result.dtype) == (np.shape(expected), expected.dtype)
        np.testing.assert_allclose(result, expected, rtol=2e-3 if dtype == "float16" else 1e-5, atol=1e-5)
