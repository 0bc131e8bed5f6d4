"""Tensors do to numbers what NumPy does, under PyTorch's names."""

from __future__ import annotations

import operator
import sys
import warnings
from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tt_core
from tt_core import Tensor, from_numpy, tensor
from tt_core.engine.devices import DeviceError
from tt_core.engine.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError

floats = st.floats(-100, 100, width=32)
arrays = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4), elements=floats)
filled = hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=4), elements=floats)


def same(result: Any, expected: Any) -> None:
    """Equal in shape, dtype and, but for rounding, in value."""
    assert isinstance(result, Tensor)
    expected = np.asarray(expected)
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-5)


# --- dtypes


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        ([1.0, 2], "float32"),
        ([[1, 2], [3, 4]], "int64"),
        ([True, False], "bool"),
        ([], "float32"),
        (np.zeros(2), "float64"),
        (np.float64(1), "float64"),
        (np.zeros(2, "float16"), "float16"),
        (np.zeros(2, "uint8"), "uint8"),
        ([tensor(1.0), tensor(2.0)], "float32"),
        (range(3), "int64"),
    ],
)
def test_python_floats_become_float32_and_arrays_keep_their_dtype(data: Any, dtype: str) -> None:
    assert Tensor(data).dtype == tensor(data).dtype == np.dtype(dtype)


def test_a_dtype_that_is_given_holds() -> None:
    assert tensor([1, 2], dtype=np.float64).dtype == np.float64
    assert tensor([1.7], dtype="int64").tolist() == [1]


def test_tensor_copies_and_from_numpy_shares() -> None:
    array = np.zeros(2, "f4")
    copy, shared, wrapped = tensor(array), from_numpy(array), Tensor(array)
    array[0] = 1
    assert (copy.tolist(), shared.tolist(), wrapped.tolist()) == ([0, 0], [1, 0], [1, 0])


@pytest.mark.parametrize(
    ("data", "error"),
    [([[1, 2], [3]], ShapeError), ("text", DTypeError), ([None], DTypeError), (1j, DTypeError), (object(), DTypeError)],
)
def test_what_is_no_array_of_numbers_is_an_error(data: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^tensor: "):
        Tensor(data)


def test_from_numpy_takes_arrays_only() -> None:
    with pytest.raises(DTypeError, match=r"from_numpy: needs a NumPy array, got list; use tensor\(\)"):
        from_numpy([1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "dtype"),
    [("float", "f4"), ("double", "f8"), ("half", "f2"), ("long", "i8"), ("int", "i4"), ("bool", "?")],
)
def test_casts(method: str, dtype: str) -> None:
    x = tensor([0.0, 1.5, -2.0])
    same(getattr(x, method)(), x.numpy().astype(dtype))


def test_a_python_number_takes_the_dtype_of_the_tensor() -> None:
    for dtype in ("float16", "float32", "float64", "int64"):
        assert (tensor([1, 2], dtype=dtype) * 2).dtype == dtype
    assert (tensor([1.0]) * 2.5).dtype == np.float32


# --- operators


@pytest.mark.parametrize("op", [operator.add, operator.sub, operator.mul, operator.eq, operator.lt, operator.ge])
@given(pair=hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_dims=4, max_side=3), data=st.data())
def test_binary_operators_broadcast_as_numpys(op: Callable[[Any, Any], Any], pair: Any, data: st.DataObject) -> None:
    a, b = (data.draw(hnp.arrays(np.float32, shape, elements=floats)) for shape in pair.input_shapes)
    same(op(Tensor(a), Tensor(b)), op(a, b))
    same(op(Tensor(a), b), op(a, b))
    same(op(a, Tensor(b)), op(a, b))


@pytest.mark.parametrize(
    "op",
    [
        operator.add,
        operator.sub,
        operator.mul,
        operator.truediv,
        operator.floordiv,
        operator.mod,
        operator.pow,
        operator.eq,
        operator.ne,
        operator.lt,
        operator.le,
        operator.gt,
        operator.ge,
    ],
)
def test_reflected_operators(op: Callable[[Any, Any], Any]) -> None:
    x = np.array([1.0, 2.0, 3.0], "f4")
    same(op(2.0, Tensor(x)), op(np.float32(2), x))
    same(op(Tensor(x), 2.0), op(x, np.float32(2)))
    same(op(x, Tensor(x)), op(x, x))


def test_reflected_matmul_and_logic() -> None:
    x = np.arange(4, dtype="f4").reshape(2, 2)
    same(x @ Tensor(x), x @ x)
    yes = np.array([True, False])
    same(yes & Tensor(yes), yes)
    same(Tensor(yes) | ~yes, [True, True])
    same(~Tensor(yes), ~yes)


@pytest.mark.parametrize(
    "with_none",
    [
        lambda x: x & None,
        lambda x: None | x,
        lambda x: tt_core.logical_not(None),
        lambda x: x.masked_fill(None, 0.0),
        lambda x: tt_core.where(None, x, 0.0),
    ],
)
def test_none_is_no_mask(with_none: Callable[[Any], Any]) -> None:
    with pytest.raises(DTypeError, match="needs a tensor, an array or a number, got None"):
        with_none(tensor([1.0, 0.0]))


def test_division_and_powers_give_infinities_without_warnings() -> None:
    x = tensor([-1.0, 0.0, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (x / 0).tolist()[::2] == [-np.inf, np.inf]
        assert np.isnan((x / 0).tolist()[1])
        assert (x**-1).tolist() == [-1, np.inf, 1]
        assert np.isnan((x**0.5).tolist()[0])
        assert x.log().tolist()[1:] == [-np.inf, 0]
        assert tensor([1e4]).exp().tolist() == [np.inf]


@pytest.mark.parametrize("power", [-2, -1, 0, 0.5, 1, 2, 3, 3.0, 4])
def test_powers(power: float) -> None:
    x = np.array([0.5, 1.0, 3.0], "f4")
    same(Tensor(x) ** power, np.power(x, np.float32(power)))


@pytest.mark.parametrize(
    "name", ["exp", "log", "log1p", "expm1", "sqrt", "sin", "cos", "sign", "floor", "ceil", "round", "abs", "isnan"]
)
@given(x=hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_side=3), elements=st.floats(0, 10, width=32)))
def test_functions_of_one(name: str, x: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        same(getattr(Tensor(x), name)(), getattr(np, name)(x))


def test_erf_is_that_of_the_c_library() -> None:
    import math

    x = np.linspace(-6, 6, 1001)
    exact = np.array([math.erf(v) for v in x])
    np.testing.assert_allclose(Tensor(x).erf().numpy(), exact, rtol=1e-15)
    np.testing.assert_allclose(Tensor(x.astype("f4")).erf().numpy(), exact, atol=5e-7)


# --- reductions


@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin", "all", "any", "var", "std"])
@given(x=filled, data=st.data())
def test_reductions(name: str, x: np.ndarray, data: st.DataObject) -> None:
    dims = data.draw(st.none() | st.sets(st.integers(0, x.ndim - 1), min_size=1).map(lambda s: tuple(sorted(s))))
    keepdim = data.draw(st.booleans())
    options = {"ddof": 1} if name in ("var", "std") else {}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = getattr(np, name)(x.astype("f8"), axis=dims, keepdims=keepdim, **options)
    result = getattr(Tensor(x), name)(dim=dims, keepdim=keepdim)
    assert result.shape == np.shape(expected)
    if not np.isnan(expected).any():
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-3, atol=1e-2)
    else:  # less elements than degrees of freedom: PyTorch gives nan for these too
        assert not np.isfinite(result.numpy()[np.isnan(expected)]).any()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool"])
def test_integers_add_up_in_int64(dtype: str) -> None:
    x = np.array([1, 0, 100], dtype)
    same(Tensor(x).sum(), np.sum(x, dtype="i8"))
    same(Tensor(x).prod(), np.prod(x, dtype="i8"))
    same(Tensor(x).cumsum(0), np.cumsum(x, dtype="i8"))


@given(x=filled)
def test_max_and_min_along_a_dimension_give_values_and_indices(x: np.ndarray) -> None:
    for dim in range(-x.ndim, x.ndim):
        values, indices = Tensor(x).max(dim)
        same(values, x.max(dim))
        same(indices, x.argmax(dim))
        values, indices = Tensor(x).min(dim, keepdim=True)
        same(values, x.min(dim, keepdims=True))
        same(indices, x.argmin(dim, keepdims=True))
    same(Tensor(x).max(), x.max())
    same(Tensor(x).min(Tensor(x + 1)), x)


@given(x=filled, data=st.data())
def test_sort_argsort_and_topk(x: np.ndarray, data: st.DataObject) -> None:
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    k = data.draw(st.integers(0, x.shape[dim]))
    ordered = np.sort(x, axis=dim)
    same(Tensor(x).sort(dim).values, ordered)
    same(Tensor(x).sort(dim, descending=True).values, np.flip(ordered, dim))
    for largest in (True, False):
        values, indices = Tensor(x).topk(k, dim, largest)
        best = np.flip(ordered, dim) if largest else ordered
        same(values, np.take(best, range(k), axis=dim))
        np.testing.assert_array_equal(np.take_along_axis(x, indices.numpy(), dim), values.numpy())


def test_a_stable_sort_keeps_equals_in_their_order() -> None:
    x = tensor([1, 0, 1, 0])
    assert x.argsort(stable=True).tolist() == [1, 3, 0, 2]
    assert x.argsort(stable=True, descending=True).tolist() == [0, 2, 1, 3]


def test_topk_orders_unsigned_numbers_and_puts_nan_first() -> None:
    assert tensor(np.array([0, 255, 7], "u1")).topk(2).values.tolist() == [255, 7]
    assert np.isnan(tensor([1.0, float("nan"), 2.0]).topk(1).values.item())
    with pytest.raises(ShapeError, match="k is 4, but dimension -1 has 3 elements"):
        tensor([1, 2, 3]).topk(4)


def test_logsumexp_at_the_limits() -> None:
    limit = float(np.finfo("f4").max)
    x = tensor([[limit, -limit], [1e4, 1e4], [-np.inf, 0.0], [-np.inf, -np.inf], [np.inf, 0.0]])
    np.testing.assert_allclose(x.logsumexp(-1).numpy(), [limit, 1e4 + np.log(2), 0, -np.inf, np.inf], rtol=1e-6)
    assert tensor([0.0, 0.0]).logsumexp(0, keepdim=True).shape == (1,)


# --- matrix products


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 2)),
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3, 4)),
        ((5, 2, 3), (5, 3, 4)),
        ((5, 1, 2, 3), (6, 3, 4)),
        ((2, 3), (5, 3, 4)),
        ((0, 2, 3), (3, 4)),
        ((2, 3, 0), (0, 4)),
        ((2, 0), (0, 2)),
    ],
)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = np.random.default_rng(0).random(a, "f4"), np.random.default_rng(1).random(b, "f4")
    same(Tensor(x) @ Tensor(y), x @ y)


def test_matmul_of_shapes_that_do_not_fit_names_them() -> None:
    with pytest.raises(ShapeError, match=r"^matmul: .*\(a \(2, 3\), b \(2, 3\)\)"):
        tt_core.ones(2, 3) @ tt_core.ones(2, 3)


@pytest.mark.parametrize("equation", ["ij,jk->ik", "ij,ij->", "ij->ji", "ij,jk,kl->il"])
def test_einsum(equation: str) -> None:
    operands = [np.random.default_rng(i).random((3, 3), "f4") for i in range(equation.count(",") + 1)]
    same(tt_core.einsum(equation, *map(Tensor, operands)), np.einsum(equation, *operands))


# --- indexing


@given(x=arrays, data=st.data())
def test_basic_indices_are_numpys_and_share_memory(x: np.ndarray, data: st.DataObject) -> None:
    index = data.draw(hnp.basic_indices(x.shape, allow_newaxis=True, allow_ellipsis=True))
    taken = Tensor(x)[index]
    same(taken, x[index])
    assert np.shares_memory(taken.numpy(), x) or not taken.numel()


@given(x=filled, data=st.data())
def test_advanced_indices_are_numpys_and_copy(x: np.ndarray, data: st.DataObject) -> None:
    rows = data.draw(hnp.arrays(np.int64, hnp.array_shapes(max_dims=2), elements=st.integers(0, len(x) - 1)))
    mask = data.draw(hnp.arrays(np.bool_, x.shape))
    for index in (rows, mask):
        taken = Tensor(x)[Tensor(index)]
        same(taken, x[index])
        assert not np.shares_memory(taken.numpy(), x)
    same(Tensor(x)[rows.tolist()], x[rows.tolist()])


@pytest.mark.parametrize(
    ("index", "shape", "flat"),
    [  # NumPy puts the dimension of the index arrays first in each
        ((0, slice(None), [1, 2]), (3, 2), [1, 2, 5, 6, 9, 10]),
        ((slice(None), [0, 2], None, 3), (2, 2, 1), [3, 11, 15, 23]),
        ((0, slice(0, 2), np.array([True, False, True, False])), (2, 2), [0, 2, 4, 6]),
        (([0, 1], slice(None), 0), (2, 3), [0, 4, 8, 12, 16, 20]),
        ((1, None, np.array([0, 2])), (1, 2, 4), [12, 13, 14, 15, 20, 21, 22, 23]),
        ((np.array(0), ..., np.array([3, 0])), (3, 2), [3, 0, 7, 4, 11, 8]),
    ],
)
def test_integers_take_their_entry_before_index_arrays_are_looked_at(index: Any, shape: Any, flat: Any) -> None:
    x = tensor(np.arange(24).reshape(2, 3, 4))
    assert x[index].shape == shape
    assert x[index].flatten().tolist() == flat
    x[index] = tensor(np.arange(len(flat)).reshape(shape) + 100)
    assert x[index].flatten().tolist() == list(range(100, 100 + len(flat)))
    assert int((x >= 100).sum()) == len(flat)


def test_an_element_is_a_view() -> None:
    x = tensor([1.0, 2.0])
    x[0].fill_(5.0)
    assert x.tolist() == [5, 2]


@given(x=filled, data=st.data())
def test_assignment_writes_where_the_index_points(x: np.ndarray, data: st.DataObject) -> None:
    index = data.draw(hnp.basic_indices(x.shape, allow_ellipsis=True))
    expected, result = x.copy(), tensor(x)
    expected[index] = 7
    result[index] = 7
    same(result, expected)
    expected[expected > 0] = -1
    result[result > 0] = tensor(-1.0)
    same(result, expected)


def test_a_wrong_index_is_an_error_that_names_the_shape() -> None:
    x = tt_core.zeros(2, 3)
    with pytest.raises(OutOfRangeError, match=r"getitem: index 2 is out of bounds .*\(x \(2, 3\)\)"):
        x[2]
    with pytest.raises(OutOfRangeError, match=r"assignment: index 5 is out of bounds .*tensor \(2, 3\) float32"):
        x[5] = 1
    with pytest.raises(ShapeError, match=r"assignment: could not broadcast"):
        x[0] = tt_core.zeros(4)


def test_gather_and_take_along_dim() -> None:
    x = np.arange(12, dtype="f4").reshape(3, 4)
    index = np.array([[0, 3], [1, 1]])
    same(Tensor(x).gather(1, Tensor(index)), np.take_along_axis(x[:2], index, 1))
    same(Tensor(x).gather(0, tensor([[2]])), [[np.float32(8)]])
    same(Tensor(x).take_along_dim(tensor([[0], [1], [2]]), 1), x[range(3), range(3)][:, None])


def test_index_select_and_masked_fill() -> None:
    x = np.arange(6, dtype="f4").reshape(2, 3)
    same(Tensor(x).index_select(1, tensor([2, 0])), x[:, [2, 0]])
    same(tt_core.index_select(Tensor(x), 1, tensor([2, 0])), x[:, [2, 0]])
    same(Tensor(x).masked_fill(Tensor(x) > 2, -1), np.where(x > 2, np.float32(-1), x))


# --- in place


def test_in_place_operators_keep_the_memory() -> None:
    x = tensor([1.0, 2.0])
    data, view = x.data, x[1:]
    x += 1
    x *= tensor([2.0, 3.0])
    x -= 1
    x /= 2
    assert x.data is data
    assert x.tolist() == [1.5, 4]
    assert view.tolist() == [4]
    assert x.add_(1, alpha=2).sub_(1).mul_(2).div_(4).tolist() == [1.25, 2.5]
    assert x.copy_([1, 2]).tolist() == [1, 2]
    assert x.fill_(3).tolist() == [3, 3]
    assert x.zero_().tolist() == [0, 0]


def test_in_place_errors_say_what_was_given() -> None:
    x, y = tt_core.zeros(2), tensor([1, 2])
    with pytest.raises(ShapeError, match=r"\+=: .*\(tensor \(2,\) float32\)"):
        x += tt_core.zeros(3)
    with pytest.raises(DTypeError, match=r"\+=: .*\(tensor \(2,\) int64\)"):
        y += 1.5
    with pytest.raises(ShapeError, match=r"fill_: this tensor is a read-only view .*clone\(\) it first"):
        tt_core.zeros(1).expand(3).fill_(1)


# --- shapes


@given(x=filled, data=st.data())
def test_permute_transpose_and_T(x: np.ndarray, data: st.DataObject) -> None:
    dims = data.draw(st.permutations(range(x.ndim)))
    same(Tensor(x).permute(dims), x.transpose(dims))
    same(Tensor(x).permute(*dims), x.transpose(dims))
    same(Tensor(x).transpose(0, -1), x.swapaxes(0, -1))
    same(Tensor(x).T, x.T)


@given(x=arrays)
def test_flatten_reshape_squeeze_unsqueeze(x: np.ndarray) -> None:
    same(Tensor(x).flatten(), x.reshape(x.size))
    same(Tensor(x).reshape(x.size), x.reshape(x.size))
    same(Tensor(x).unsqueeze(0), x[None])
    same(Tensor(x).unsqueeze(-1), x[..., None])
    same(Tensor(x).squeeze(), x.squeeze())
    if x.ndim > 1:
        same(Tensor(x).flatten(1), x.reshape(len(x), int(np.prod(x.shape[1:]))))
        same(Tensor(x).squeeze(0), x.squeeze(0) if len(x) == 1 else x)


def test_no_negative_size_but_one_is_worked_out() -> None:
    for call in (Tensor.reshape, Tensor.view):
        with pytest.raises(ShapeError, match=r"\(-2, 3\) has a negative size; only one size may be -1"):
            call(Tensor(np.arange(6)), -2, 3)
        assert call(Tensor(np.arange(6)), -1, 3).shape == (2, 3)


def test_unflatten_expand_repeat() -> None:
    x = np.arange(6, dtype="f4").reshape(1, 6)
    same(Tensor(x).unflatten(1, (2, 3)), x.reshape(1, 2, 3))
    same(Tensor(x).expand(4, -1), np.broadcast_to(x, (4, 6)))
    same(Tensor(x).expand(2, 4, 6), np.broadcast_to(x, (2, 4, 6)))
    same(Tensor(x).repeat(2, 1, 3), np.tile(x, (2, 1, 3)))
    same(Tensor(x).repeat_interleave(2, 1), np.repeat(x, 2, 1))
    same(Tensor(x).flip(1), x[:, ::-1])
    same(Tensor(x).roll(2, 1), np.roll(x, 2, 1))
    same(Tensor(x).tril(1), np.tril(x, 1))
    same(Tensor(x).triu(1), np.triu(x, 1))


def test_split_chunk_narrow_unbind() -> None:
    x = np.arange(10, dtype="f4").reshape(5, 2)
    assert [t.shape for t in Tensor(x).split(2)] == [(2, 2), (2, 2), (1, 2)]
    assert [t.shape for t in Tensor(x).split([1, 4])] == [(1, 2), (4, 2)]
    assert [t.shape for t in Tensor(x).chunk(3)] == [(2, 2), (2, 2), (1, 2)]
    assert [t.shape for t in Tensor(x).chunk(2, dim=-1)] == [(5, 1), (5, 1)]
    same(Tensor(x).narrow(0, -3, 2), x[2:4])
    assert [t.tolist() for t in Tensor(x).unbind(1)] == x.T.tolist()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x.view(5), ShapeError, "view: cannot reshape"),
        (lambda x: x.T.view(6), ShapeError, "view: .* use reshape, which copies"),
        (lambda x: x.reshape(4), ShapeError, r"reshape: .*\(x \(2, 3\)\)"),
        (lambda x: x.flatten(2), OutOfRangeError, r"flatten: dim 2 is out of range for shape \(2, 3\)"),
        (lambda x: x.flatten(1, 0), ShapeError, "start_dim 1 comes after end_dim 0"),
        (lambda x: x.narrow(0, 1, 2), OutOfRangeError, "2 entries from 1 on do not fit dimension 0"),
        (lambda x: x.split(0), ArgumentError, "split_size must be positive, got 0"),
        (lambda x: x.split([1, 2]), ShapeError, r"sizes \[1, 2\] add up to 3, dimension 0 has 2"),
        (lambda x: x.chunk(0), ArgumentError, "chunks must be positive"),
        (lambda x: x.unbind(2), OutOfRangeError, "dim 2 is out of range"),
        (lambda x: x.squeeze(4), OutOfRangeError, "squeeze: dim 4 is out of range for 2 dim"),
        (lambda x: x.transpose(0, 2), OutOfRangeError, "transpose: "),
        (lambda x: x.permute(0), ShapeError, "permute: "),
        (lambda x: x.expand(3, 3), ShapeError, "expand: "),
        (lambda x: x.repeat(2), ShapeError, "repeat: needs a size for each dimension"),
        (lambda x: x.sum(2), OutOfRangeError, "sum: dim 2 is out of range for 2 dimensions"),
        (lambda x: x.item(), ShapeError, "needs exactly one element, got shape"),
        (lambda x: bool(x), ShapeError, "has no single truth value"),
        (lambda x: len(x.sum()), DTypeError, "no length"),
        (lambda x: iter(x.sum()), DTypeError, "cannot be iterated"),
        (lambda x: [0][x.sum()], DTypeError, "needs an integer tensor, got float32"),
        (lambda x: x.clip(), ArgumentError, "clip: needs min or max, got neither"),
        (lambda x: x.sum().size(0), OutOfRangeError, r"size: a tensor of shape \(\) has no dimension 0"),
        (lambda x: x.sum().split(1), OutOfRangeError, "split: "),
        (lambda x: x.sum().chunk(1), OutOfRangeError, "chunk: "),
        (lambda x: x.sum().unbind(), OutOfRangeError, "unbind: "),
        (lambda x: x.sum().topk(1), OutOfRangeError, r"topk: a tensor of shape \(\) has no dimension -1"),
        (lambda x: x.topk(1, 2), OutOfRangeError, "topk: dim 2 is out of range"),
        (lambda x: x.sum().narrow(0, 0, 1), OutOfRangeError, "narrow: "),
        (lambda x: x.size(2), OutOfRangeError, "size: dim 2 is out of range"),
        (lambda x: x.reshape(2.5), DTypeError, "reshape: takes integers, got 2.5"),
        (lambda x: x.repeat(-1, 1), ShapeError, "repeat: needs a size for each dimension, 0 or more"),
        (lambda x: x[0].tril(), ShapeError, "tril: needs at least two dimensions"),
        (lambda x: x[0].triu(), ShapeError, "triu: needs at least two dimensions"),
        (lambda x: x.roll((1, 1), 0), ShapeError, "roll: needs a shift for each dimension"),
        (lambda x: x.to("cuda"), DeviceError, "device: there is only the CPU, got 'cuda'"),
        (lambda x: x.to("sparse"), DTypeError, "to: takes a NumPy dtype .* got 'sparse'"),
        (lambda x: x.norm(3), ArgumentError, "norm: p is 1, 2, 'fro' or inf, got 3"),
        (lambda x: x @ 3, DTypeError, r"matmul: b must be a tensor or an array \(a \(2, 3\), b int\)"),
        (lambda x: tt_core.sum([1.0]), DTypeError, r"sum: x must be a tensor or an array \(x list\)"),
        (lambda x: x.long() // 0, ArgumentError, "floor_divide: integers cannot be divided by 0"),
        (lambda x: x.long() % 0, ArgumentError, "remainder: integers cannot be divided by 0"),
        (lambda x: x.long().masked_fill(x > 0, float("inf")), ShapeError, "masked_fill: cannot convert float inf"),
        (lambda x: x.__setitem__(0, None), DTypeError, "assignment: needs a number or a tensor, got None"),
        (lambda x: x.gather(1, tensor([0])), ShapeError, r"gather: index \(1,\) needs as many dimensions"),
        (lambda x: x[:1].gather(1, tensor([[0], [0]])), ShapeError, "gather: .* reaches beyond the tensor"),
        (lambda x: x.index_select(0, tensor([[0]])), ShapeError, "index_select: index must have one dimension"),
        (lambda x: x.index_select(0, tensor([True, False])), DTypeError, "index_select: index must hold .* got bool"),
        (lambda x: tt_core.leaky_relu(x, "a"), DTypeError, "leaky_relu: ufunc"),
        (lambda x: tt_core.cat(x), DTypeError, "cat: takes a list or tuple of tensors, got one tensor"),
        (lambda x: tt_core.zeros(-1), ShapeError, "zeros: sizes are 0 or more, got -1$"),
        (lambda x: tt_core.ones(2.5), DTypeError, "ones: takes integers, got 2.5"),
        (lambda x: tt_core.eye(-1), ShapeError, "eye: sizes are 0 or more, got -1$"),
        (lambda x: tt_core.linspace(0, 1, -1), ShapeError, "linspace: Number of samples, -1"),
        (lambda x: tt_core.randn(2, dtype="int32"), DTypeError, "randn: Unsupported dtype"),
        (lambda x: tt_core.randint(5, 2, (2,)), ShapeError, "randint: there is no integer from 5 to below 2"),
        (lambda x: tt_core.arange(0, 5, 0), ArgumentError, "arange: steps of 0 do not lead from 0 to 5"),
        (lambda x: tt_core.arange(5, 1), ArgumentError, "arange: steps of 1 do not lead from 5 to 1"),
        (lambda x: tensor([300], dtype="uint8"), ShapeError, "tensor: Python integer 300 out of bounds"),
        (lambda x: tensor(2**70), DTypeError, "tensor: .* got an integer of more than 64 bits"),
        (lambda x: tensor([1.0, None]), DTypeError, "tensor: .* got NoneType"),
        (lambda x: tensor([1.0, None], dtype="float32"), DTypeError, "tensor: .* got NoneType"),
        (lambda x: Tensor("1.5", dtype="float32"), DTypeError, "tensor: .* got text, '1.5'"),
        (lambda x: Tensor([1, 2], dtype=str), DTypeError, "tensor: .* got dtype <U"),
        (lambda x: tensor([[1], [2, 3]]), ShapeError, "tensor: nested lists must have the same length"),
        (lambda x: tensor([1.0], dtype="foo"), DTypeError, "tensor: data type 'foo' not understood"),
        (lambda x: tt_core.full(2, None), DTypeError, "full: holds numbers or booleans, got NoneType"),
        (lambda x: from_numpy(np.array(["a"])), DTypeError, "from_numpy: holds numbers or booleans, got dtype <U1"),
        (lambda x: tt_core.zeros(2, dtype=str), DTypeError, "zeros: holds numbers or booleans, got dtype <U1"),
        (lambda x: tt_core.arange(2, dtype=complex), DTypeError, "arange: .* got dtype complex128"),
        (lambda x: x.to(object), DTypeError, "to: takes a NumPy dtype .* got <class 'object'>"),
        (lambda x: x.to(None), DTypeError, "to: takes a dtype such as 'float32', a device or a tensor, got None"),
        (lambda x: tt_core.zeros_like([1, 2]), DTypeError, "zeros_like: needs a tensor or an array, got list"),
        (lambda x: tt_core.ones_like(1), DTypeError, "ones_like: needs a tensor or an array, got int"),
        (lambda x: tt_core.full(2, x), DTypeError, "full: fill_value is a number, got a tensor"),
        (lambda x: tt_core.full_like(x, x), DTypeError, "full_like: fill_value is a number, got a tensor"),
        (lambda x: tt_core.full_like(1, 2), DTypeError, "full_like: needs a tensor or an array, got int"),
        (lambda x: tt_core.randperm(2.5), DTypeError, "randperm: takes integers, got 2.5"),
        (lambda x: tt_core.randperm(-1), ArgumentError, "randperm: n must not be negative, got -1"),
        (lambda x: tt_core.randint(0, 2.5, (2,)), DTypeError, "randint: takes integers, got 0, 2.5"),
        (lambda x: tt_core.cat(3), DTypeError, "cat: takes a list or tuple of tensors, got int"),
        (lambda x: tt_core.stack(x.numpy()), DTypeError, "stack: takes a list or tuple of tensors, got ndarray"),
        (
            lambda x: tt_core.where(x > 0, None, 1.0),
            DTypeError,
            "where: needs a tensor, an array or a number, got None",
        ),
        (lambda x: x.T.view(6), ShapeError, r"view: strides \(1, 3\) do not allow a view of shape \(6,\); use reshape"),
        (lambda x: x.unflatten(1, 3.0), DTypeError, "unflatten: takes integers, got 3.0"),
        (lambda x: x.split(1.5), DTypeError, "split: takes integers, got 1.5"),
        (lambda x: x.chunk(1.5), DTypeError, "chunk: takes integers, got 1.5"),
        (lambda x: x.fill_(None), DTypeError, "fill_: needs a number or a tensor, got None"),
        (
            lambda x: x.masked_fill(x == 0, None),
            DTypeError,
            "masked_fill: needs .* or a number, got None",
        ),
        (lambda x: x.to("uint8").__setitem__(0, 300), ShapeError, "assignment: Python integer 300 out of bounds"),
        (lambda x: x.long().fill_(2**70), ShapeError, "fill_: Python int too large"),
        (lambda x: x + "a", DTypeError, r"add: needs a tensor, an array or a number, got 'a' \(a \(2, 3\), b str\)"),
        (lambda x: x + None, DTypeError, r"add: .*\(a \(2, 3\), b NoneType\)"),
        (lambda x: tt_core.linear(None, x), DTypeError, "linear: x must be a tensor or an array"),
        (lambda x: x @ x, ShapeError, "matmul: a has rows of 3, b has columns of 2; they must be of one length"),
        (lambda x: tt_core.ones(4, 2, 3) @ x, ShapeError, "matmul: a has rows of 3, b has columns of 2"),
        (lambda x: x @ x.sum(), ShapeError, r"matmul: a number is not a matrix; multiply by it with \*"),
        (lambda x: x.expand(2, 2, 3) @ tt_core.ones(3, 3, 2), ShapeError, "matmul: shapes do not broadcast"),
        (lambda x: x.expand(4, 3), ShapeError, r"expand: cannot expand to \(4,3\): only a size of 1 can change"),
        (lambda x: x.expand(3), ShapeError, "expand: needs a size for each dim"),
        (lambda x: x.permute(0, 0), ShapeError, "permute: a dim is given twice"),
        (lambda x: x.permute(0), ShapeError, "permute: each dim must be given once"),
        (lambda x: x[:0].amax(), ShapeError, "amax: an empty tensor has no largest or smallest element"),
        (lambda x: x.long().add_(0.5), DTypeError, r"\+=: a tensor of int64 cannot hold a result of float64; assign"),
        (lambda x: x.__delitem__(0), DTypeError, "del: a tensor keeps its size"),
        (lambda x: tt_core.where(x, 1, 0), DTypeError, "where: the mask must be boolean, got float32; write a comp"),
        (lambda x: x.masked_fill(x, 0), DTypeError, "masked_fill: the mask must be boolean, got float32"),
        (lambda x: tt_core.einsum("ij,jk", x), ShapeError, "einsum: 'ij,jk' names 2 operands, got 1"),
        (lambda x: tt_core.einsum("i", x), ShapeError, r"einsum: 'i' names 1 dimensions, operand 0 has shape \(2, 3\)"),
        (lambda x: tt_core.einsum("ij,jk->ik", x, x), ShapeError, "einsum: j has two sizes, 3 and 2"),
        (lambda x: tt_core.einsum("...i,ii", x, x), ShapeError, "einsum: i has two sizes, 3 and 2"),
        (lambda x: tt_core.arange("a"), DTypeError, "arange: bounds and step are numbers, got 'a'"),
        (lambda x: tt_core.pad(x, 1), DTypeError, "pad: pad is a list of .* pairs, last dimension first, got 1"),
        (lambda x: tt_core.Linear(-2, 3), ShapeError, "Linear: sizes are 0 or more, got -2"),
        (lambda x: tt_core.LayerNorm((2, -3)), ShapeError, "LayerNorm: sizes are 0 or more, got -3"),
        (lambda x: f"{x:.3f}", ShapeError, r"format: '.3f' needs exactly one element, got shape \(2, 3\)"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[Tensor], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(tt_core.zeros(2, 3))


@pytest.mark.parametrize("sizes", [(1, 1), (4, 1), (2, 1, 1), (1, 3), (0, 1)])
def test_repeat_copies_also_where_a_view_would_do(sizes: tuple[int, ...]) -> None:
    x = tt_core.ones(1, 3)
    repeated = x.repeat(*sizes)
    x += 1
    repeated *= 5
    same(repeated, np.full(np.tile(np.ones((1, 3)), sizes).shape, 5, np.float32))
    same(x, np.full((1, 3), 2, np.float32))


def test_the_extremes_and_the_order_of_a_single_number_are_copies() -> None:
    x = tensor(3.0)
    for result in (x.max(0).values, x.sort().values):
        result.zero_()
    assert x.item() == 3


def test_alpha_multiplies_a_list_and_does_not_repeat_it() -> None:
    same(tt_core.zeros(3).add_([1, 2, 3], alpha=2), np.array([2, 4, 6], np.float32))
    same(tt_core.zeros(3).sub_([1, 2, 3], alpha=2), np.array([-2, -4, -6], np.float32))
    with pytest.raises(ShapeError, match="shapes do not broadcast"):
        tt_core.zeros(6).add_([1, 2, 3], alpha=2)


def test_a_number_times_alpha_keeps_the_dtype() -> None:
    same(tt_core.add(tt_core.zeros(2), 1, alpha=2), np.array([2, 2], np.float32))
    same(tt_core.sub(tt_core.zeros(2), 1.5, alpha=2), np.array([-3, -3], np.float32))
    same(tt_core.ones(2, dtype="int32").add(1, alpha=3), np.array([4, 4], np.int32))


def test_names_of_numpy_and_sizes_by_name() -> None:
    x = tt_core.arange(6.0).view(2, 3)
    assert tt_core.cat([x, x], axis=1).shape == (2, 6)
    assert tt_core.stack([x, x], axis=1).shape == (2, 2, 3)
    assert tt_core.unsqueeze(x, axis=0).shape == (1, 2, 3)
    assert tt_core.squeeze(x[None], axis=0).shape == (2, 3)
    same(tt_core.sort(-x, axis=0).values, np.sort(-x.numpy(), axis=0))
    same(tt_core.sum(x, axis=1, keepdims=True), x.numpy().sum(1, keepdims=True))
    assert tt_core.zeros(size=(2, 3)).shape == tt_core.rand(size=(2, 3)).shape == (2, 3)
    assert bool((tt_core.randint(high=2, size=(9,)) < 2).all())


def test_a_mask_of_bytes_is_a_mask() -> None:
    same(tt_core.where(tensor([1, 0], dtype="uint8"), 1, 2), np.array([1, 2]))


def test_floats_of_python_are_float32_on_either_side_of_where() -> None:
    condition = tensor([True, False])
    same(tt_core.where(condition, 0, 1.5), np.array([0, 1.5], np.float32))
    same(tt_core.where(condition, 1.5, 0), np.array([1.5, 0], np.float32))
    same(tt_core.where(condition, [1.0, 2.0], [3.0, 4.0]), np.array([1, 4], np.float32))
    same(tt_core.where(condition, 1, 0), np.array([1, 0]))


def test_a_dtype_of_none_is_the_default() -> None:
    assert tt_core.zeros(2, dtype=None).dtype == tt_core.eye(2, dtype=None).dtype == np.float32
    assert tt_core.randint(0, 3, (2,), dtype=None).dtype == np.int64


# --- what it is


def test_strides_count_elements_and_contiguity_is_told() -> None:
    x = tt_core.zeros(2, 3, 4)
    assert x.strides == x.stride() == (12, 4, 1)
    assert x.T.strides == (1, 4, 12)
    assert x.is_contiguous()
    assert not x.T.is_contiguous()
    assert x.contiguous() is x
    assert x.T.contiguous().is_contiguous()
    assert (x.nbytes, x.numel(), x.element_size(), x.ndim, x.dim(), x.size(1), len(x)) == (96, 24, 4, 3, 3, 3, 2)
    assert tt_core.zeros(()).contiguous().shape == ()


def test_scalars_become_python_numbers() -> None:
    assert (tensor(2.5).item(), float(tensor([2.5])), int(tensor(2.5)), bool(tensor(0))) == (2.5, 2.5, 2, False)
    assert ["a", "b"][tensor(1)] == "b"
    assert f"{tensor(1.23456):.2f}" == "1.23"
    assert 3 in tensor([1, 2, 3])


def test_numpy_reads_a_tensor_without_a_copy() -> None:
    x = tensor([1.0, 2.0])
    assert np.shares_memory(np.asarray(x), x.data)
    assert np.asarray(x, dtype="f8").dtype == np.float64


# --- repr


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (1.5, "tensor(1.5)"),
        (3, "tensor(3)"),
        (True, "tensor(True)"),
        ([], "tensor([])"),
        (np.zeros((0, 3), "f4"), "tensor([], shape=(0, 3))"),
        ([1, 20], "tensor([ 1, 20])"),
        ([float("nan"), float("inf"), -1.0], "tensor([nan, inf, -1.])"),
        ([0.0, float("nan")], "tensor([0., nan])"),
        ([0.0, -float("inf")], "tensor([0., -inf])"),
        ([1.25, float("nan"), 10.0], "tensor([ 1.25,   nan, 10.  ])"),
        ([float("nan")] * 20, f"tensor([{', '.join(['nan'] * 14)},\n        {', '.join(['nan'] * 6)}])"),
        ([[0.0, float("nan")], [1.0, 2.0]], "tensor([[ 0., nan],\n        [ 1.,  2.]])"),
        (np.array([0.5, np.inf], "f2"), "tensor([0.5, inf], dtype=float16)"),
        ([True], "tensor([True])"),
        ([True, False], "tensor([ True, False])"),
        ([[True], [True]], "tensor([[True],\n        [True]])"),
        (np.zeros(0, "i8"), "tensor([], dtype=int64)"),
        (np.zeros((2, 0), bool), "tensor([], shape=(2, 0), dtype=bool)"),
        ([-0.0], "tensor([-0.])"),
        (float("-inf"), "tensor(-inf)"),
        (np.array([1.0]), "tensor([1.], dtype=float64)"),
        (np.array([[1, 2], [3, 4]], "i4"), "tensor([[1, 2],\n        [3, 4]], dtype=int32)"),
        ([1e-8, 1.0], "tensor([1.e-08, 1.e+00])"),
        ([0.123456789], "tensor([0.1235])"),
    ],
)
def test_repr(data: Any, text: str) -> None:
    assert repr(tensor(data)) == text


@given(x=hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=12)))
def test_repr_of_any_shape_is_short_and_names_what_it_leaves_out(x: np.ndarray) -> None:
    text = repr(Tensor(x))
    assert text.startswith("tensor(")
    assert max(map(len, text.splitlines())) <= 100
    assert ("..." in text) == (x.size > 1000 and max(x.shape) > 6)  # up to 6 entries are shown


def test_repr_of_a_large_tensor_is_quick_to_read() -> None:
    text = repr(tt_core.zeros(10_000, 1_000))
    assert len(text.splitlines()) == 7
    assert "..." in text


# --- creation


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (tt_core.zeros(2, 3), np.zeros((2, 3), "f4")),
        (tt_core.ones((2,)), np.ones(2, "f4")),
        (tt_core.zeros(()), np.zeros((), "f4")),
        (tt_core.full((2,), 3), np.full(2, 3)),
        (tt_core.full((2,), 3.0), np.full(2, 3, "f4")),
        (tt_core.full_like(tensor([1, 2]), 3), np.full(2, 3)),
        (tt_core.zeros_like(tensor([1, 2])), np.zeros(2, "i8")),
        (tt_core.ones_like(tensor([1.0]), dtype="f8"), np.ones(1)),
        (tt_core.arange(3), np.arange(3)),
        (tt_core.arange(1, 2, 0.5), np.array([1, 1.5], "f4")),
        (tt_core.arange(3, dtype="f4"), np.arange(3, dtype="f4")),
        (tt_core.linspace(0, 1, 3), np.array([0, 0.5, 1], "f4")),
        (tt_core.eye(2, 3), np.eye(2, 3, dtype="f4")),
        (tt_core.cat([tensor([[1]]), tensor([[2]])], dim=1), np.array([[1, 2]])),
        (tt_core.stack([tensor([1]), tensor([2])], dim=1), np.array([[1, 2]])),
        (tt_core.where(tensor([True, False]), 1.0, 0.0), np.array([1, 0], "f4")),
        (tt_core.where(tensor([True, False]), tensor([1.0, 2.0]), 0), np.array([1, 0], "f4")),
        (tt_core.pad(tensor([[1.0]]), (1, 2)), np.array([[0, 1, 0, 0]], "f4")),
        (tt_core.pad(tensor([[1.0]]), (0, 0, 1, 0), value=5), np.array([[5], [1]], "f4")),
    ],
)
def test_creation(made: Tensor, expected: np.ndarray) -> None:
    same(made, expected)


def test_random_creation() -> None:
    assert tt_core.rand(2, 3).dtype == tt_core.randn(2, 3).dtype == np.float32
    assert tt_core.randn(2, dtype=np.float64).dtype == np.float64
    assert tt_core.randint(3, (50,)).max() <= 2
    assert tt_core.randint(3, 5, (50,)).min() >= 3
    assert tt_core.randint(3, size=(2, 2)).shape == (2, 2)
    assert sorted(tt_core.randperm(5).tolist()) == list(range(5))


def test_nothing_to_join_is_an_error() -> None:
    for join in (tt_core.cat, tt_core.stack):
        with pytest.raises(ArgumentError, match="needs at least one tensor"):
            join([])


def test_all_that_is_exported_exists_and_hides_no_builtin() -> None:
    import builtins

    assert not set(tt_core.__all__) & set(dir(builtins))
    assert all(hasattr(tt_core, name) for name in tt_core.__all__)


# --- where PyTorch and NumPy differ


@pytest.mark.parametrize("name", ["sum", "mean", "var", "amax", "amin", "all", "any", "logsumexp"])
def test_dimensions_may_stand_in_a_list(name: str) -> None:
    x = tensor(np.arange(24.0).reshape(2, 3, 4))
    same(getattr(x, name)(dim=[0, -1]), getattr(x, name)(dim=(0, -1)).data)
    same(getattr(tt_core, name)(x, [1]), getattr(tt_core, name)(x, 1).data)


def test_a_tensor_without_dimensions_has_dim_0_as_in_pytorch() -> None:
    x = tensor(3.0)
    for result in (x.mean(0), x.cumsum(-1), x.squeeze(0), x.max(0)[0], x.min(-1)[0], x.sort()[0], x.logsumexp(0)):
        same(result, np.float32(3))
    for index in (x.argsort(), x.argsort(descending=True), x.max(0)[1]):
        same(index, np.int64(0))
    assert x.var(0).isnan()


def test_norm_takes_p_first() -> None:
    x = tensor([[3.0, -4.0], [0.0, 0.0]])
    assert x.norm() == x.norm("fro") == 5
    assert x.norm(1, dim=1).tolist() == [7, 0]
    assert x.norm(2, 1, True).tolist() == [[5], [0]]
    assert x.norm(float("inf"), dim=0).tolist() == [3, 4]


def test_roll_repeat_interleave_and_stride_without_and_with_dimensions() -> None:
    x = tensor(np.arange(6).reshape(2, 3))
    same(x.roll(1), np.roll(x.data, 1))
    same(x.roll((1, -1), (0, 1)), np.roll(x.data, (1, -1), (0, 1)))
    same(x.repeat_interleave(2), np.repeat(x.data, 2))
    assert (x.stride(0), x.stride(-1), x.stride()) == (3, 1, (3, 1))
    assert [part.shape for part in x.split(np.int64(2), 1)] == [(2, 2), (2, 1)]


def test_bounds_of_clip_may_be_tensors() -> None:
    x = tensor([-1.0, 0.5, 3.0])
    assert x.clip(tensor([0.0, 1.0, 0.0]), tensor(2.0)).tolist() == [0, 1, 2]
    assert x.clamp(max=tensor([0.0, 0.0, 5.0])).tolist() == [-1, 0, 3]


def test_a_tensor_contains_what_any_element_equals() -> None:
    x = tensor([[1.0, 2.0], [3.0, 4.0]])
    assert 4 in x
    assert 5 not in x


def test_sums_of_float16_beyond_its_range_still_have_a_mean_and_a_variance() -> None:
    x = tensor(np.tile([200.0, 400.0], 500)).half()
    same(x.mean(), np.float16(300))
    same(x.var(correction=0), np.float16(10000))


def test_float16_sums_do_not_stop_at_2048() -> None:
    assert tt_core.ones(4096, 2, dtype="float16").sum(0).tolist() == [4096.0, 4096.0]


@pytest.mark.parametrize("name", ["sum", "mean", "var", "cumsum"])
def test_a_million_rows_keep_their_digits(name: str) -> None:
    x = np.random.default_rng(0).random((1_000_000, 2), dtype=np.float32)
    exact = getattr(tensor(x.astype(np.float64)), name)(0).data
    result = getattr(tensor(x), name)(0)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.data, exact, rtol=2e-7)


def test_logsumexp_of_nothing_and_of_integers() -> None:
    same(tt_core.zeros(2, 0).logsumexp(1), np.full(2, -np.inf, np.float32))
    same(tensor([0, 0]).logsumexp(0), np.log(np.float32(2)))


def test_nan_and_infinity_pass_without_warnings() -> None:
    x = tensor([np.inf, np.nan])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert x.sin().isnan().all()
        assert x.cos().isnan().all()
        x.long()
        y = tensor([1.0, 0.0])
        y /= 0
    assert y.isfinite().tolist() == [False, False]


def test_creation_takes_a_size_as_a_number_and_einsum_a_list() -> None:
    assert tt_core.full(2, 1.5).tolist() == [1.5, 1.5]
    assert tt_core.randint(0, 5, 3).shape == (3,)
    x = tensor([[1.0, 2.0]])
    assert tt_core.einsum("ij,kj->ik", [x, x]).tolist() == [[5]]
    assert tt_core.where(x > 1, input=x, other=0.0).tolist() == [[0, 2]]


def test_an_ellipsis_that_stands_for_nothing_moves_no_dimension() -> None:
    x = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)
    rows, columns = np.array([0, 2]), np.array([1, 3])
    expected = x[:, rows, columns]  # (2, 2), as in PyTorch; with the ellipsis, NumPy takes it for a gap
    same(Tensor(x)[:, tensor(rows), ..., tensor(columns)], expected)
    same(Tensor(x)[None, :, rows, ..., columns], expected[None])
    written = Tensor(np.zeros_like(x))
    written[:, rows, ..., columns] = expected
    same(written[:, rows, columns], expected)
    same(Tensor(x)[rows[:1], ..., columns], x[rows[:1], ..., columns])  # here it stands for one


def test_a_notebook_shows_a_tensor_with_its_shape_and_dtype() -> None:
    shown = tensor([[1.0, 2.0]])._repr_html_()
    assert shown == "<pre>tensor([[1., 2.]])</pre><small>shape (1, 2), float32, 2 elements</small>"


# --- what later acts bring, byte order


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("Conv2d", "Act III Data & Scale brings it; import tt_data"),
        ("DataLoader", "Act III Data & Scale brings it; import tt_data"),
        ("lr_scheduler", "Act II Learning brings schedules: import tt_learn"),
        ("functional", "functions are in tt_core.nn.functional"),
        ("Module", "it is tt_core.nn.Module"),
        ("relo", "did you mean relu"),
        ("no_such_thing", "no act has it"),
    ],
)
def test_an_absent_name_is_answered(name: str, answer: str) -> None:
    with pytest.raises(AttributeError, match=f"tt_core has no {name}: .*{answer}"):
        getattr(tt_core, name)


def test_gradients_are_answered_with_the_act_that_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tt_learn", raising=False)
    x = tt_core.Tensor([1.0])
    for name in ("backward", "grad", "requires_grad"):
        with pytest.raises(AttributeError, match=f"has no {name}: Act II Learning brings gradients; import tt_learn"):
            getattr(x, name)
    with pytest.raises(DTypeError, match="import tt_learn"):
        tt_core.Tensor([1.0], requires_grad=True)
    with pytest.raises(AttributeError, match=r"has no gelu: write tt_core.gelu\(x\)"):
        x.gelu()
    assert not hasattr(x, "__array_interface__")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i2", "i4", "i8", "u2", "u4", "u8"])
def test_every_byte_order_becomes_the_machines(dtype: str) -> None:
    foreign = np.dtype(dtype).newbyteorder()
    array = np.array([1, 2], foreign)
    made = [
        tt_core.tensor(array),
        Tensor(array),
        Tensor([1, 2], dtype=foreign),
        tt_core.tensor([1, 2], dtype=foreign),
        tt_core.arange(1, 3, dtype=foreign),
        tt_core.tensor([1, 2]).to(foreign),
    ]
    for x in made:
        assert x.dtype == np.dtype(dtype)
        assert x.tolist() == [1, 2]
    with pytest.raises(DTypeError, match="foreign byte order"):
        tt_core.from_numpy(array)
