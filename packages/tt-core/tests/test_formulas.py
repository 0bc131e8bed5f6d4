"""Every tuned kernel computes what the op's formula computes: values, dtypes, shapes and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tt_core
from tt_core.checking import check
from tt_core.dispatch import registry
from tt_core.errors import TinyTorchError

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
