"""Activations agree with known values in float64 and hold at any magnitude, as formulas and as tuned kernels."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tt_core
from tt_core import Layer, activations, kernels, tensor
from tt_core.engine.dispatch import Op, quietly
from tt_core.engine.errors import ArgumentError, DTypeError, OutOfRangeError
from tt_core.engine.heap import BLOCK

LIMIT = float(np.finfo("f4").max)
EXTREMES = [-LIMIT, -1e30, -1e4, -88.0, -1e-30, -0.0, 0.0, 1e-30, 88.0, 1e4, 1e30, LIMIT]


@pytest.fixture(autouse=True)
def no_warning_and_no_floating_point_error() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        yield


def _erf(x: np.ndarray) -> np.ndarray:
    return np.array([math.erf(v) for v in x.flat]).reshape(x.shape)


def _softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


class Case:
    """An op with attributes, and what it should compute in float64."""

    def __init__(self, op: Op, expected: Callable[..., Any], **attributes: Any) -> None:
        self.op, self.expected, self.attributes = op, expected, attributes
        self.kernel = op.kernel

    def forward(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(quietly(self.kernel, x, **self.attributes))


A = activations
CASES = {
    "relu": Case(A.relu, lambda x: np.maximum(x, 0)),
    "leaky_relu": Case(A.leaky_relu, lambda x: np.where(x > 0, x, 0.01 * x)),
    "leaky_relu steep": Case(A.leaky_relu, lambda x: np.where(x > 0, x, 3 * x), negative_slope=3.0),
    "sigmoid": Case(A.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "tanh": Case(A.tanh, np.tanh),
    "silu": Case(A.silu, lambda x: x / (1 + np.exp(-x))),
    "softplus": Case(A.softplus, lambda x: np.log1p(np.exp(x))),
    "softplus sharp": Case(
        A.softplus, lambda x: np.where(3 * x > 2, x, np.log1p(np.exp(3 * x)) / 3), beta=3.0, threshold=2.0
    ),
    "gelu": Case(A.gelu, lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2),
    "gelu tanh": Case(
        A.gelu,
        lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
        approximate="tanh",
    ),
    "softmax": Case(A.softmax, _softmax),
    "log_softmax": Case(A.log_softmax, lambda x: np.log(_softmax(x))),
}


@pytest.fixture(params=[(name, form) for name in CASES for form in ("formula", "kernel")], ids=" ".join)
def case(request: pytest.FixtureRequest) -> Case:
    """Each activation, as its formula and as its tuned kernel."""
    name, form = request.param
    found = copy.copy(CASES[name])
    found.kernel = getattr(found.op, form)
    return found


@pytest.mark.parametrize("shape", [(), (5,), (3, 7), (2, 0), (300, 120), (40000, 10), (2, 3, 4)])
def test_values_in_both_dtypes(case: Case, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(0, 3, shape)
    with np.errstate(all="ignore"):
        expected = case.expected(x)
    for dtype, tolerance in (("f4", 2e-5), ("f8", 1e-12)):
        result = np.asarray(case.forward(x.astype(dtype)))
        assert result.dtype == dtype
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


def test_the_memory_layout_does_not_matter(case: Case) -> None:
    x = np.random.default_rng(0).normal(size=(200, 400)).astype("f4")
    for strided in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
        np.testing.assert_allclose(case.forward(strided), case.forward(x), rtol=1e-6, atol=1e-6)


def test_the_input_is_left_as_it_was(case: Case) -> None:
    x = np.random.default_rng(0).normal(size=(300, 120)).astype("f4")
    kept = x.copy()
    case.forward(x)
    np.testing.assert_array_equal(x, kept)


def test_extremes_saturate_in_silence(case: Case) -> None:
    result = case.forward(np.array(EXTREMES, "f4"))
    assert not np.isnan(result).any()
    assert result.dtype == np.float32


def test_infinities_and_nan_stay_silent(case: Case) -> None:
    x = np.array([np.nan, np.inf, -np.inf], "f4")
    assert np.isnan(case.forward(x)[0])


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_over_each_dimension(name: str, dim: int) -> None:
    case = CASES[name]
    x = np.random.default_rng(0).normal(size=(3, 4, 5))
    moved = np.moveaxis(case.forward(np.moveaxis(x, dim, -1)), -1, dim)
    np.testing.assert_allclose(case.op.kernel(x, dim=dim), moved, rtol=1e-12)


def test_softmax_at_the_extremes_is_a_distribution() -> None:
    rows = tensor([[1e4, 0.0, -1e4], [LIMIT, -LIMIT, 0.0], [-np.inf, 0.0, 0.0], [5e3, 5e3, 5e3]])
    expected = [[1, 0, 0], [1, 0, 0], [0, 0.5, 0.5], [1 / 3] * 3]
    np.testing.assert_allclose(tt_core.softmax(rows).numpy(), expected, rtol=1e-6)
    assert tt_core.log_softmax(tensor([1e4, 0.0])).tolist() == [0, -1e4]


@pytest.mark.parametrize("n", [1, 2, 3, 10, 64, 65, 129])
@pytest.mark.parametrize("rows", [0, 5, 2 * BLOCK // 10 + 1])  # none, some, three blocks of ten columns
def test_the_peak_of_rows_is_their_maximum(rows: int, n: int) -> None:
    x = np.random.default_rng(n).normal(size=(rows, n)).astype("f4")
    np.testing.assert_array_equal(kernels.activations.peaks(x, 1), x.max(-1, keepdims=True))
    np.testing.assert_array_equal(kernels.activations.peaks(x[::2, ::-1], -1), x[::2].max(-1, keepdims=True))


def test_the_peak_of_a_row_with_a_nan_is_nan() -> None:
    x = np.array([[1, np.nan, 3], [1, 2, 3]], dtype="f4")
    np.testing.assert_array_equal(kernels.activations.peaks(x, 1), [[np.nan], [3]])


def test_integers_become_float32_where_pytorch_does_so() -> None:
    for name in ("sigmoid", "tanh", "silu", "gelu", "softplus"):
        assert getattr(tt_core, name)(tensor([1, 2])).dtype == np.float32
    assert tt_core.relu(tensor([-1, 2])).tolist() == [0, 2]
    with pytest.raises(DTypeError, match=r"softmax: needs a floating dtype, got int64; call .float\(\) first"):
        tt_core.softmax(tensor([1, 2]))


def test_wrong_attributes_are_named() -> None:
    with pytest.raises(ArgumentError, match="approximate is 'none' or 'tanh', got 'fast'"):
        tt_core.gelu(tensor([1.0]), approximate="fast")
    with pytest.raises(ArgumentError, match="approximate is 'none' or 'tanh'"):
        tt_core.GELU("fast")
    with pytest.raises(OutOfRangeError, match="dim 2 is out of range for 1 dimensions"):
        tt_core.softmax(tensor([1.0]), dim=2)


@pytest.mark.parametrize(
    ("layer", "op", "text"),
    [
        (tt_core.ReLU(), tt_core.relu, "ReLU()"),
        (tt_core.LeakyReLU(0.2), lambda x: tt_core.leaky_relu(x, 0.2), "LeakyReLU(negative_slope=0.2)"),
        (tt_core.Sigmoid(), tt_core.sigmoid, "Sigmoid()"),
        (tt_core.Tanh(), tt_core.tanh, "Tanh()"),
        (tt_core.Softmax(dim=0), lambda x: tt_core.softmax(x, 0), "Softmax(dim=0)"),
        (tt_core.LogSoftmax(), tt_core.log_softmax, "LogSoftmax(dim=-1)"),
        (tt_core.GELU("tanh"), lambda x: tt_core.gelu(x, "tanh"), "GELU(approximate='tanh')"),
        (tt_core.SiLU(), tt_core.silu, "SiLU()"),
        (tt_core.Softplus(2.0), lambda x: tt_core.softplus(x, 2.0), "Softplus(beta=2.0, threshold=20.0)"),
    ],
)
def test_layers_name_the_ops(layer: Layer, op: Callable[[Any], Any], text: str) -> None:
    x = tensor([[-1.5, 0.0], [0.5, 2.0]])
    assert layer(x).tolist() == op(x).tolist()
    assert repr(layer) == text


@pytest.mark.parametrize("op", [A.sigmoid, A.tanh, A.silu, A.gelu, A.softplus])
@pytest.mark.parametrize("nothing", [None, "1", [None]])
def test_what_is_no_number_is_an_error_and_not_nan(op: Op, nothing: Any) -> None:
    with pytest.raises(DTypeError, match=f"^{op.name}: .* a tensor.* an array .*number"):
        op(nothing)
