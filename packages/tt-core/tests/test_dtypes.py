"""Which dtype a result has, how precise it is, and where floating-point warnings go."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_core import Tensor, tensor
from tt_core.engine.dispatch import Op, op, registry
from tt_core.engine.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from tt_core.tensor import elementwise as E

FLOAT_OPS = (E.exp, E.log, E.log1p, E.expm1, E.sqrt, E.sin, E.cos, E.erf, tt.sigmoid, tt.tanh, tt.silu, tt.gelu,
             tt.softplus, tt.leaky_relu, tt.logsumexp)  # fmt: skip
INTEGERS = ("bool", "uint8", "int8", "int16", "int32", "int64")


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("function", FLOAT_OPS, ids=lambda f: f.name)
def test_a_float_op_of_integers_computes_in_float32(function: Op, dtype: str) -> None:
    x = np.array([1, 0, 1], dtype) if dtype == "bool" else np.array([1, 12, 100], dtype)
    result, expected = function(tensor(x)), function(tensor(x.astype("float32")))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result.data, expected.data)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(
    "compute",
    [lambda x: x + 0.5, lambda x: 0.5 - x, lambda x: x * 0.5, lambda x: x / 255, lambda x: x / x, lambda x: x**0.5,
     lambda x: x // 0.75, lambda x: x % 0.75, lambda x: x.clip(0.5), lambda x: tt.where(x > 0, x, 0.5),
     lambda x: x.maximum(0.5), lambda x: x.reciprocal(), lambda x: x.rsqrt(), lambda x: x * np.float64(0.5),
     lambda x: x.add([0.5, 0.25])],
)  # fmt: skip
def test_a_python_float_makes_float32_of_integers(compute: Callable[[Any], Any], dtype: str) -> None:
    x = np.array([1, 1], dtype)
    assert compute(tensor(x)).dtype == np.float32
    np.testing.assert_allclose(compute(tensor(x)).data, compute(tensor(x.astype("float64"))).data, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numbers_and_lists_take_the_dtype_of_floats(dtype: str) -> None:
    x = tensor([1.0, 2.0], dtype)
    assert (x * np.float64(0.1)).dtype == (x * 0.1).dtype == x.dtype
    assert x.add([0.1, 0.2]).dtype == x.dtype


def test_two_tensors_follow_numpys_promotion() -> None:
    assert (tensor([1]) + tensor([1.0])).dtype == np.float64
    assert (tensor([1], "int8") + tensor([1.0], "float16")).dtype == np.float16


@pytest.mark.parametrize("axis", [0, 1])
def test_float16_sums_are_rounded_once(axis: int) -> None:
    x = np.random.default_rng(0).uniform(0, 1, (3000, 2) if axis == 0 else (2, 3000)).astype("float16")
    large, exact = tensor(x * np.float16(100)), x.astype("float64")
    for name in ("sum", "mean", "var", "std", "norm", "logsumexp", "cumsum"):
        found = getattr(tensor(x), name)(dim=axis).data
        wanted = getattr(tensor(exact), name)(dim=axis).data
        assert found.dtype == np.float16
        np.testing.assert_allclose(found, wanted, rtol=1.5e-3, err_msg=name)
    np.testing.assert_allclose(large.std(axis).data, (exact * 100).std(axis, ddof=1), rtol=2e-3)
    for function in (tt.softmax, tt.log_softmax):
        found, wanted = function(tensor(x), dim=axis).data, function(tensor(exact), dim=axis).data
        np.testing.assert_allclose(found, wanted, rtol=2e-3)
    kept = "ij->j" if axis == 0 else "ij->i"
    np.testing.assert_allclose(tt.einsum(kept, tensor(x)).data, exact.sum(axis), rtol=1e-3)
    product = tensor(x.T if axis == 0 else x) @ tt.ones(3000, dtype="float16")
    np.testing.assert_allclose(product.data, exact.sum(axis), rtol=1e-3)


def test_what_overflows_on_the_way_only() -> None:
    assert tensor([300, 400], "float16").norm().item() == 500
    assert tensor([300, -300], "float16").std(correction=0).item() == 300
    assert tensor([1000, 1000, 1e-3, 1e-3], "float16").prod().item() == pytest.approx(1, rel=2e-3)
    assert tt.mse_loss(tensor([300, 0] + [0] * 98, "float16"), tt.zeros(100, dtype="float16")).item() == 900
    assert tensor([200, 200], "uint8").norm().item() == pytest.approx(282.8427)
    assert tt.softmax(tt.zeros(5000, 2, dtype="float16"), dim=0).sum(0).tolist() == pytest.approx([1, 1], rel=1e-3)
    assert tt.kl_div(tensor([0.0]), tensor([-1.0])).isnan()


def test_integers_are_added_up_in_int64() -> None:
    assert tt.einsum("ij->i", tensor([[True, True]])).tolist() == [2]
    assert tt.einsum("i->", tt.ones(300, dtype="uint8")).item() == 300
    assert tt.ones(300, dtype="int8").sum().item() == 300


def test_no_floating_point_warning_leaves_an_op() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (tensor([3e38]) * 10).item() == np.inf
        assert (tensor([np.inf]) - np.inf).isnan()
        assert tensor([1e300], "float64").float().item() == np.inf
        assert tensor([1e5]).half().item() == np.inf
        assert tensor([1e300]).item() == np.inf
        assert np.isinf((tensor([1.0]) / 0).item())
        x = tensor([3e38])
        x *= 10
        x.add_(-np.inf)
    assert np.geterr()["over"] == "warn"  # of the user's own NumPy code
    with pytest.raises(ArgumentError, match="integers cannot be divided by 0"):
        tensor([1]) // 0


def test_an_op_inside_a_kernel_runs_and_threads_are_quiet_too() -> None:
    @op
    def _nested(x: Any, /) -> Any:
        return E.mul(E.exp(x), 2.0).data

    @op
    def _failing(x: Any, /) -> Any:
        return tt.matmul(x, x).data

    found = []
    try:
        assert _nested(tensor([1e4])).item() == np.inf
        with pytest.raises(ShapeError, match="_failing"):
            _failing(tt.ones(2, 3))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            thread = threading.Thread(target=lambda: found.append((tensor([3e38]) * 10).item()))
            thread.start()
            thread.join()
        assert found == [np.inf]
    finally:
        del registry["_nested"], registry["_failing"]


def test_an_integer_without_dimensions_is_an_integer_index() -> None:
    x = tt.ones(3, 4)
    for i in (tensor(0), np.array(0), np.int64(0)):
        x[i].zero_()
    x[:, tensor(1)].zero_()
    x[1, tensor(2)].zero_()
    x[..., tensor(-1)].fill_(7)
    assert x.tolist() == [[0, 0, 0, 7], [1, 0, 0, 7], [1, 0, 1, 7]]
    mask = tensor([1, 0, 1], "uint8")
    assert tensor([5, 6, 7])[mask].tolist() == [5, 7]


def test_a_value_of_one_element_goes_where_one_belongs() -> None:
    x = tt.zeros(2)
    x[0] = tensor([1.0])
    x[1] = tensor([[2.0]])
    assert x.tolist() == [1, 2]
    y = tt.zeros(2, 2)
    y[0] = tensor([[3.0, 4.0]])
    assert y.tolist() == [[3, 4], [0, 0]]
    with pytest.raises(ShapeError):
        x[0] = tensor([1.0, 2.0])


def test_comparing_with_none_asks_for_identity() -> None:
    mask = tensor([True, False])
    assert mask != None  # noqa: E711
    assert (mask == None) is False  # noqa: E711
    assert mask != "a"


def test_creation_of_integers_cuts_towards_0() -> None:
    assert tt.linspace(-5, 5, 4, dtype="int64").tolist() == [-5, -1, 1, 5]
    assert tt.arange(3.1, dtype="int64").tolist() == [0, 1, 2]
    assert tt.tensor([np.array([1 / 3])]).dtype == tt.tensor([np.float64(1 / 3)]).dtype == np.float64
    assert tt.tensor([1 / 3, 2]).dtype == np.float32
    with pytest.raises(ShapeError, match="numbers"):
        tt.linspace(np.zeros(2), 1, 3)  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match="bool"):
        tt.linspace(0, 1, 3, dtype="bool")
    assert tt.zeros(2, dtype="int64").copy_(tensor([1.7, -1.7])).tolist() == [1, -1]


def test_negative_indices_are_refused_where_pytorch_refuses_them() -> None:
    x = tensor([[1, 2], [3, 4]])
    with pytest.raises(OutOfRangeError, match="negative"):
        x.gather(1, tensor([[-1], [0]]))
    with pytest.raises(OutOfRangeError, match="negative"):
        x.index_select(0, tensor([-1]))
    assert tensor(5).index_select(0, tensor([0])).shape == ()
    assert x.index_select(0, tensor(1)).tolist() == [[3, 4]]


def test_rolling_repeating_and_padding() -> None:
    x = tensor([[1, 2], [3, 4]])
    assert tt.roll(x, 1, dims=0).tolist() == x.roll((1,), (0,)).tolist() == [[3, 4], [1, 2]]
    with pytest.raises(ShapeError, match="a shift for each dimension"):
        x.roll((1, 2))
    assert tt.repeat_interleave(x, 2).tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert x.repeat_interleave(tensor([0, 2]), 0).tolist() == [[3, 4], [3, 4]]
    with pytest.raises(DTypeError, match="integers"):
        x.repeat_interleave(tensor([0.5]), 0)
    assert tt.pad(x, (-1, 1)).tolist() == [[2, 0], [4, 0]]
    assert tt.pad(tensor([1, 2, 3]), (2, 1), "reflect").tolist() == [3, 2, 1, 2, 3, 2]
    assert tt.pad(tensor([1, 2, 3]), (2, 1), "replicate").tolist() == [1, 1, 1, 2, 3, 3]
    assert tt.pad(tensor([1, 2, 3]), (2, -1), "circular").tolist() == [1, 2, 1, 2]
    with pytest.raises(ShapeError, match="at most 1"):
        tt.pad(x, (2, 0), "reflect")
    with pytest.raises(ArgumentError, match="mode is one of"):
        tt.pad(x, (2, 0), "mirror")
    with pytest.raises(ShapeError, match="cuts off"):
        tt.pad(x, (-3, 0))
    assert tt.cat([tensor([]), tt.ones(2, 3), tensor([])], dim=1).shape == (2, 3)
    assert tt.linear(tensor([[1.0, 2.0]]), tensor([3.0, 4.0]), tensor(1.0)).tolist() == [12]


def test_copies_share_the_memory_that_their_originals_share() -> None:
    a = tt.arange(6).reshape(2, 3)
    first, row, turned, backwards = copy.deepcopy([a, a[1], a.T, a.flip(1)])
    first[1, 2] = 50
    assert row.tolist() == [3, 4, 50]
    assert turned[2, 1].item() == backwards[1, 0].item() == 50
    assert a[1, 2].item() == 5
    wide = copy.deepcopy(tt.ones(2, 1).expand(2, 3))
    wide.zero_()
    assert isinstance(wide, Tensor)
    large = copy.deepcopy(tt.zeros(200, 200))
    assert large.data.ctypes.data % 64 == 0
