"""Part of module 01, tensor: functions that PyTorch has and the journey does not need.

Scripts written for PyTorch find their names here: every tensor method that is a function too, ways to create and join
tensors, and names of dtypes. All are compositions of existing ops; none is needed by a module of the journey.
"""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine import devices
from tt_core.engine.arguments import explained
from tt_core.engine.compositions import of_tensors
from tt_core.engine.devices import amp, autocast, backends, contiguous_format, cuda, device, preserve_format
from tt_core.engine.dispatch import Array, quietly, wrap
from tt_core.engine.errors import ArgumentError, ShapeError
from tt_core.engine.placing import of_numpy
from tt_core.random import Generator, source
from tt_core.tensor import creation as C
from tt_core.tensor import reductions as R
from tt_core.tensor import shapes as S
from tt_core.tensor.conversion import as_array
from tt_core.tensor.tensor import Tensor

if TYPE_CHECKING:
    from tt_core.engine.hints import DeviceLike, DTypeLike, TensorLike

# --- dtypes and numbers

float16, float32, float64 = map(np.dtype, ("float16", "float32", "float64"))
int8, int16, int32, int64, uint8 = map(np.dtype, ("int8", "int16", "int32", "int64", "uint8"))
half, float, double, bool = float16, float32, float64, np.dtype("bool")
short, int, long = int16, int32, int64
inf, nan, pi, e = math.inf, math.nan, math.pi, math.e
dtype, finfo, iinfo, Size = np.dtype, np.finfo, np.iinfo, tuple

# --- methods as functions


def _function(name: str) -> Callable[..., Any]:
    """The tensor method `name` as a function of a tensor, an array or a number."""
    method = getattr(Tensor, name)

    @functools.wraps(method)
    def function(input: Tensor | Array | builtins.float, *arguments: Any, **options: Any) -> Any:
        x = input if isinstance(input, Tensor) else wrap(as_array(input, what=name))
        arguments = tuple([wrap(as_array(y, what=name)) if type(y) is np.ndarray else y for y in arguments])
        return getattr(x, name)(*arguments, **of_numpy(options))

    function.__name__ = function.__qualname__ = name
    function.__annotations__ = {}  # the method checks them
    return explained(function, name)


tan, asin, acos, atan, atan2 = map(_function, ("tan", "asin", "acos", "atan", "atan2"))
arcsin, arccos, arctan, arctan2 = map(_function, ("arcsin", "arccos", "arctan", "arctan2"))
sinh, cosh, asinh, acosh, atanh = map(_function, ("sinh", "cosh", "asinh", "acosh", "atanh"))
log2, log10, exp2, trunc, fix, frac = map(_function, ("log2", "log10", "exp2", "trunc", "fix", "frac"))
square, rsqrt, reciprocal, sinc = map(_function, ("square", "rsqrt", "reciprocal", "sinc"))
hypot, logaddexp, fmod, logit, xlogy = map(_function, ("hypot", "logaddexp", "fmod", "logit", "xlogy"))
lerp, addcmul, addcdiv = map(_function, ("lerp", "addcmul", "addcdiv"))
clamp, clamp_min, clamp_max, nan_to_num = map(_function, ("clamp", "clamp_min", "clamp_max", "nan_to_num"))
absolute, negative, multiply, subtract = map(_function, ("absolute", "negative", "multiply", "subtract"))
divide, true_divide = map(_function, ("divide", "true_divide"))
greater, greater_equal, less = map(_function, ("greater", "greater_equal", "less"))
less_equal, not_equal, logical_xor = map(_function, ("less_equal", "not_equal", "logical_xor"))
bitwise_and, bitwise_or, bitwise_xor = map(_function, ("bitwise_and", "bitwise_or", "bitwise_xor"))
bitwise_not, isinf, isposinf, isneginf = map(_function, ("bitwise_not", "isinf", "isposinf", "isneginf"))
isclose, allclose, equal, count_nonzero = map(_function, ("isclose", "allclose", "equal", "count_nonzero"))
max, min, dist = map(_function, ("max", "min", "dist"))
median, kthvalue, quantile, nansum, nanmean = map(_function, ("median", "kthvalue", "quantile", "nansum", "nanmean"))
cumprod, cummax, cummin, diff = map(_function, ("cumprod", "cummax", "cummin", "diff"))
sort, topk, gather, take, unique = map(_function, ("sort", "topk", "gather", "take", "unique"))
nonzero, argwhere, masked_select, bincount = map(_function, ("nonzero", "argwhere", "masked_select", "bincount"))
scatter, scatter_add, index_add = map(_function, ("scatter", "scatter_add", "index_add"))
index_fill, index_copy = map(_function, ("index_fill", "index_copy"))
flatten, unflatten, ravel, chunk, split = map(_function, ("flatten", "unflatten", "ravel", "chunk", "split"))
tensor_split, unbind, narrow, select, tile = map(_function, ("tensor_split", "unbind", "narrow", "select", "tile"))
movedim, moveaxis, swapaxes, swapdims, t = map(_function, ("movedim", "moveaxis", "swapaxes", "swapdims", "t"))
fliplr, flipud, rot90, broadcast_to = map(_function, ("fliplr", "flipud", "rot90", "broadcast_to"))
diag, diagonal, diag_embed, trace = map(_function, ("diag", "diagonal", "diag_embed", "trace"))
mm, bmm, mv, dot, inner = map(_function, ("mm", "bmm", "mv", "dot", "inner"))
outer, ger, vdot, addmm, baddbmm = map(_function, ("outer", "ger", "vdot", "addmm", "baddbmm"))
linalg = SimpleNamespace(norm=lambda A, ord=2, dim=None, keepdim=False: R.norm(A, ord or 2, dim, keepdim))
multinomial, bernoulli, detach = map(_function, ("multinomial", "bernoulli", "detach"))
numel, is_floating_point = map(_function, ("numel", "is_floating_point"))

# --- creation


@explained
def is_tensor(obj: object) -> builtins.bool:
    """Whether `obj` is a tensor.

    >>> is_tensor(C.ones(2)), is_tensor(np.ones(2))
    (True, False)
    """
    return isinstance(obj, Tensor)


@explained
def as_tensor(data: TensorLike, dtype: DTypeLike | None = None, device: DeviceLike | None = None) -> Tensor:
    """`data` as a tensor that shares memory with an array or tensor where it can; raises as `tensor` does.

    >>> array = np.zeros(2, np.float32)
    >>> as_tensor(array).numpy() is array
    True
    """
    devices.check(device)
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    return C.from_numpy(as_array(data, dtype, "as_tensor"))


asarray = as_tensor


@of_tensors("input")
def empty_like(input: Tensor, dtype: DTypeLike | None = None, **options: Any) -> Tensor:
    """Uninitialized memory in the shape and dtype of `input`.

    >>> empty_like(C.ones(2, 3)).shape
    (2, 3)
    """
    return C.empty(input.shape, dtype=dtype or input.dtype, **options)


@of_tensors("input")
def rand_like(input: Tensor, dtype: DTypeLike | None = None, **options: Any) -> Tensor:
    """Uniform in [0, 1) in the shape and dtype of `input`.

    >>> rand_like(C.ones(2, 3)).shape
    (2, 3)
    """
    return C.rand(input.shape, dtype=dtype or input.dtype, **options)


@of_tensors("input")
def randn_like(input: Tensor, dtype: DTypeLike | None = None, **options: Any) -> Tensor:
    """Standard normal in the shape and dtype of `input`.

    >>> randn_like(C.ones(2, 3)).shape
    (2, 3)
    """
    return C.randn(input.shape, dtype=dtype or input.dtype, **options)


@of_tensors("input")
def randint_like(
    input: Tensor, low: builtins.int, high: builtins.int | None = None, dtype: DTypeLike | None = None
) -> Tensor:
    """Whole numbers from `low` to `high` - 1 in the shape and dtype of `input`.

    >>> randint_like(C.zeros(2, 3), 5).shape
    (2, 3)
    """
    return C.randint(low, input.shape if high is None else high, input.shape).to(dtype or input.dtype)


@explained
def normal(
    mean: Tensor | builtins.float = 0.0,
    std: Tensor | builtins.float = 1.0,
    size: Sequence[builtins.int] | None = None,
    *,
    generator: Generator | None = None,
    **options: Any,
) -> Tensor:
    """Normal numbers whose `mean` and `std` are numbers, with a `size`, or tensors; options as for `randn`.

    >>> normal(0.0, 1.0, (2, 3)).shape, normal(C.zeros(4), 0.0)
    ((2, 3), tensor([0., 0., 0., 0.]))
    """
    if size is None:
        size = np.broadcast_shapes(np.shape(mean), np.shape(std))
    dtype = next((x.dtype for x in (mean, std) if isinstance(x, Tensor) and x.dtype.kind == "f"), float32)
    devices.check(options.pop("device", None))
    dtype = options.pop("dtype", None) or dtype
    drawn = (C.randn(size, generator=generator).to(dtype) * std + mean).to(dtype)
    return drawn._take("normal", options) if options else drawn


@explained
def logspace(
    start: builtins.float,
    end: builtins.float,
    steps: builtins.int,
    base: builtins.float = 10.0,
    dtype: DTypeLike = np.float32,
) -> Tensor:
    """`steps` numbers from `base ** start` to `base ** end`, evenly spaced in their logarithm.

    >>> logspace(0, 2, 3)
    tensor([  1.,  10., 100.])
    """
    bounds = C.as_bound(start, dtype), C.as_bound(end, dtype)
    return wrap(quietly(np.logspace, *bounds, steps, base=base, dtype=dtype))


@explained
def tril_indices(row: builtins.int, col: builtins.int, offset: builtins.int = 0) -> Tensor:
    """Rows and columns of the lower triangle of a (row, col) matrix, as a tensor (2, n).

    >>> tril_indices(2, 2)
    tensor([[0, 1, 1],
            [0, 0, 1]])
    """
    return wrap(np.stack(np.tril_indices(row, offset, col)))


@explained
def triu_indices(row: builtins.int, col: builtins.int, offset: builtins.int = 0) -> Tensor:
    """Rows and columns of the upper triangle of a (row, col) matrix, as a tensor (2, n).

    >>> triu_indices(2, 2)
    tensor([[0, 0, 1],
            [0, 1, 1]])
    """
    return wrap(np.stack(np.triu_indices(row, offset, col)))


@of_tensors("input")
def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson numbers with the rates `input`.

    >>> poisson(C.zeros(3))
    tensor([0., 0., 0.])
    """
    return wrap(source(generator).poisson(input.data).astype(input.dtype))


class _Legacy:
    """PyTorch's older constructors, and its names of dtypes in `type()`."""

    dtype: np.dtype[Any]

    def __new__(cls, *data: Any, device: Any = None) -> Any:
        devices.check(device)
        if len(data) == 1 and not isinstance(data[0], builtins.int):
            return C.tensor(data[0], cls.dtype)
        return C.zeros(*data, dtype=cls.dtype)


class FloatTensor(_Legacy):
    """A float32 tensor of data, or of zeros with this size.

    >>> FloatTensor([1, 2])
    tensor([1., 2.])
    """

    dtype = float32


class LongTensor(_Legacy):
    """An int64 tensor of data, or of zeros with this size.

    >>> LongTensor([1, 2])
    tensor([1, 2])
    """

    dtype = int64


class BoolTensor(_Legacy):
    """A tensor of booleans from data, or of False with this size.

    >>> BoolTensor([1, 0])
    tensor([ True, False])
    """

    dtype = bool


# --- joining and combining


def _tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else wrap(as_array(x))


concat = concatenate = S.cat


def _each(tensors: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Tensors that are given one by one or in one list."""
    return tuple(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors


@explained
def atleast_1d(*tensors: Tensor | Array | Sequence[Tensor | Array]) -> Any:
    """Converts a number to a vector of length 1; other tensors are returned unchanged.

    >>> atleast_1d(C.tensor(1)).shape
    (1,)
    """
    made = tuple([x if x.ndim else x.reshape(1) for x in map(_tensor, _each(tensors))])
    return made if len(made) > 1 else made[0]


@explained
def atleast_2d(*tensors: Tensor | Array | Sequence[Tensor | Array]) -> Any:
    """Converts vectors to matrices of one row; other tensors are returned unchanged.

    >>> atleast_2d(C.ones(3)).shape
    (1, 3)
    """
    made = tuple([x if x.ndim > 1 else x.reshape(1, -1) for x in map(_tensor, _each(tensors))])
    return made if len(made) > 1 else made[0]


@explained
def hstack(tensors: Sequence[Tensor | Array]) -> Tensor:
    """Joined side by side: vectors along their dimension, others along dimension 1.

    >>> hstack([C.ones(1), C.zeros(2)])
    tensor([1., 0., 0.])
    """
    parts = [atleast_1d(x) for x in tensors]
    return S.cat(parts, 0 if parts and parts[0].ndim == 1 else 1)


@explained
def vstack(tensors: Sequence[Tensor | Array]) -> Tensor:
    """Joined row by row; vectors are rows.

    >>> vstack([C.ones(2), C.zeros(2)])
    tensor([[1., 1.],
            [0., 0.]])
    """
    return S.cat([atleast_2d(x) for x in tensors], 0)


@explained
def column_stack(tensors: Sequence[Tensor | Array]) -> Tensor:
    """Joined side by side; vectors are columns.

    >>> column_stack([C.ones(2), C.zeros(2)])
    tensor([[1., 0.],
            [1., 0.]])
    """
    return S.cat([x if x.ndim > 1 else x.reshape(-1, 1) for x in tensors], 1)


@explained
def broadcast_tensors(*tensors: Tensor | Array) -> tuple[Tensor, ...]:
    """All tensors expanded to the one shape that they broadcast to.

    >>> [x.shape for x in broadcast_tensors(C.ones(2, 1), C.ones(3))]
    [(2, 3), (2, 3)]
    """
    given = [_tensor(x) for x in tensors]
    shape = np.broadcast_shapes(*[x.shape for x in given])
    return tuple([x.expand(shape) for x in given])


@explained
def meshgrid(*tensors: Tensor | Array | Sequence[Tensor | Array], indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinates of the grid that vectors span: a tensor for each of them, all of one shape.

    With `indexing="xy"`, the first two dimensions are exchanged. Raises `ArgumentError` for any other `indexing`.

    >>> x, y = meshgrid(C.arange(2), C.arange(3))
    >>> y
    tensor([[0, 1, 2],
            [0, 1, 2]])
    """
    if indexing not in ("ij", "xy"):
        raise ArgumentError(f"meshgrid: indexing is 'ij' or 'xy', got {indexing!r}")
    given = _each(tensors)
    rank = len(given)
    grid = [x.reshape((1,) * i + (-1,) + (1,) * (rank - i - 1)) for i, x in enumerate(given)]
    grid = list(broadcast_tensors(*grid))
    return tuple([x.transpose(0, 1) for x in grid] if indexing == "xy" and rank > 1 else grid)


@explained
def cartesian_prod(*tensors: Tensor | Array) -> Tensor:
    """Every combination of one element of each vector, a row for each.

    >>> cartesian_prod(C.arange(2), C.arange(2)).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    if len(tensors) == 1:
        return _tensor(tensors[0])
    return S.stack([x.reshape(-1) for x in meshgrid(*tensors)], 1)


@of_tensors("a b")
def tensordot(a: Tensor, b: Tensor, dims: builtins.int | Sequence[Any] | Tensor = 2) -> Tensor:
    """Products of `a` and `b`, summed over the last `dims` of one and the first of the other, or over two lists.

    >>> tensordot(C.ones(2, 3), C.ones(3, 4), dims=1).shape
    (2, 4)
    """
    if isinstance(dims, builtins.int):
        dims = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    over_a, over_b = ([d % x.ndim for d in np.atleast_1d(each).tolist()] for x, each in zip((a, b), dims))
    free_a, free_b = ([d for d in range(x.ndim) if d not in over] for x, over in ((a, over_a), (b, over_b)))
    n = math.prod(a.shape[d] for d in over_a)
    left = a.permute(*free_a, *over_a).reshape(-1, n)
    right = b.permute(*over_b, *free_b).reshape(n, -1)
    return (left @ right).reshape([a.shape[d] for d in free_a] + [b.shape[d] for d in free_b])


@of_tensors("input")
def std_mean(
    input: Tensor, dim: R.Dim = None, correction: builtins.int = 1, keepdim: builtins.bool = False
) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean over `dim`.

    >>> std_mean(C.tensor([1.0, 3.0]), correction=0)
    (tensor(1.), tensor(2.))
    """
    return input.std(dim, correction, keepdim), input.mean(dim, keepdim)


@of_tensors("input")
def var_mean(
    input: Tensor, dim: R.Dim = None, correction: builtins.int = 1, keepdim: builtins.bool = False
) -> tuple[Tensor, Tensor]:
    """Variance and mean over `dim`.

    >>> var_mean(C.tensor([1.0, 3.0]), correction=0)
    (tensor(1.), tensor(2.))
    """
    return input.var(dim, correction, keepdim), input.mean(dim, keepdim)


# --- sums


@of_tensors("y x?")
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: builtins.float = 1.0, dim: builtins.int = -1) -> Tensor:
    """The area under `y` along `dim` by the trapezoidal rule, at the points `x` or at a distance of `dx`.

    Raises `OutOfRangeError` for a dimension that is not there.

    >>> trapezoid(C.tensor([1.0, 2.0, 4.0])), trapezoid(C.tensor([1.0, 3.0]), C.tensor([0.0, 2.0]))
    (tensor(4.5), tensor(4.))
    """
    n = y.size(dim)
    pairs = y.narrow(dim, 1, n - 1) + y.narrow(dim, 0, n - 1) if n else y
    if x is None:
        return pairs.sum(dim) * (dx / 2)
    if x.ndim == 1:
        x = x.reshape([-1] + [1] * (y.ndim - 1 - dim % y.ndim))
        return (pairs * x.diff(dim=0)).sum(dim) / 2
    return (pairs * x.diff(dim=dim)).sum(dim) / 2


trapz = trapezoid

# --- searching


@explained
def isin(elements: TensorLike, test_elements: TensorLike) -> Tensor:
    """Whether each element is among `test_elements`.

    >>> isin(C.tensor([1, 2, 3]), C.tensor([3, 1]))
    tensor([ True, False,  True])
    """
    return wrap(np.isin(as_array(elements, what="isin"), as_array(test_elements, what="isin")))


@explained
def searchsorted(sorted_sequence: Tensor | Array, values: TensorLike, *, right: builtins.bool = False) -> Tensor:
    """Where each value would be inserted into a sorted vector, before (or, with `right`, after) its equals.

    >>> searchsorted(C.tensor([1, 3, 5]), C.tensor([3, 6]))
    tensor([1, 3])
    """
    ordered, wanted = as_array(sorted_sequence, what="searchsorted"), as_array(values, what="searchsorted")
    if ordered.ndim != 1:
        raise ShapeError(f"searchsorted: takes one sorted vector, got shape {ordered.shape}")
    return wrap(np.asarray(np.searchsorted(ordered, wanted, "right" if right else "left")))


@explained
def bucketize(input: Tensor | Array, boundaries: Tensor | Array, *, right: builtins.bool = False) -> Tensor:
    """The bucket between sorted `boundaries` that each element falls into.

    >>> bucketize(C.tensor([0.5, 2.5]), C.tensor([1.0, 2.0]))
    tensor([0, 2])
    """
    return searchsorted(boundaries, input, right=right)


@of_tensors("input")
def histc(input: Tensor, bins: builtins.int = 100, min: builtins.float = 0, max: builtins.float = 0) -> Tensor:
    """How many elements fall into each of `bins` equal intervals between `min` and `max` (both 0: of the data).

    >>> histc(C.tensor([0.0, 1.0, 1.0, 2.0]), bins=2)
    tensor([1., 3.])
    """
    limits = (input.data.min(), input.data.max()) if min == max == 0 and input.numel() else (min, max)
    data = input.data.astype(np.uint8) if input.dtype == np.bool_ else input.data
    return wrap(quietly(np.histogram, data, bins, limits)[0].astype(input.dtype))


# --- testing


def _assert_close(actual: Any, expected: Any, *, rtol: Any = None, atol: Any = None, equal_nan: Any = False) -> None:
    """Raise `AssertionError` unless two tensors agree in shape, dtype and values.

    Tolerances default to PyTorch's for their dtype; lists and tuples are compared entry by entry.
    """
    if isinstance(actual, (list, tuple)) and isinstance(expected, (list, tuple)) and len(actual) == len(expected):
        for pair in zip(actual, expected):
            _assert_close(*pair, rtol=rtol, atol=atol, equal_nan=equal_nan)
        return
    x, y = as_array(actual, what="assert_close"), as_array(expected, what="assert_close")
    for what, ours, theirs in (("shapes", x.shape, y.shape), ("dtypes", x.dtype, y.dtype)):
        if ours != theirs:
            raise AssertionError(f"assert_close: the {what} are {ours} and {theirs}")
    usual = _TOLERANCES.get(x.dtype, (0.0, 0.0))
    rtol, atol = (given if given is not None else own for given, own in zip((rtol, atol), usual))
    far = ~np.isclose(x, y, rtol, atol, equal_nan=equal_nan)
    if far.any():
        worst = np.abs(np.subtract(x, y, dtype=np.float64))[far].max()
        raise AssertionError(f"assert_close: {far.sum()} of {x.size} elements differ, by up to {worst:.3g}")


_TOLERANCES = {float16: (1e-3, 1e-5), float32: (1.3e-6, 1e-5), float64: (1e-7, 1e-7)}
"""PyTorch's relative and absolute tolerance for each dtype."""

testing = SimpleNamespace(assert_close=_assert_close)

# --- names

__all__ = [  # noqa: RUF022
    "BoolTensor", "FloatTensor", "Generator", "LongTensor", "Size", "absolute", "acos", "acosh", "addcdiv",
    "addcmul", "addmm", "allclose", "amp", "arccos", "arcsin", "arctan", "arctan2", "argwhere", "as_tensor",
    "asarray", "asin", "asinh", "atan", "atan2", "atanh", "atleast_1d", "atleast_2d", "autocast", "backends",
    "baddbmm", "bernoulli", "bincount", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "bmm",
    "bool", "broadcast_tensors", "broadcast_to", "bucketize", "cartesian_prod", "chunk", "clamp", "clamp_max",
    "clamp_min", "column_stack", "concat", "concatenate", "contiguous_format", "cosh", "count_nonzero", "cuda",
    "cummax", "cummin", "cumprod", "detach", "device", "diag", "diag_embed", "diagonal", "diff", "dist",
    "divide", "dot", "double", "dtype", "e", "empty_like", "equal", "exp2", "finfo", "fix", "flatten", "fliplr",
    "flipud", "float", "float16", "float32", "float64", "fmod", "frac", "gather", "ger", "greater",
    "greater_equal", "half", "histc", "hstack", "hypot", "iinfo", "index_add", "index_copy", "index_fill",
    "inf", "inner", "int", "int16", "int32", "int64", "int8", "is_floating_point", "is_tensor", "isclose",
    "isin", "isinf", "isneginf", "isposinf", "kthvalue", "lerp", "less", "less_equal", "linalg", "log10",
    "log2", "logaddexp", "logical_xor", "logit", "logspace", "long", "masked_select", "max", "median",
    "meshgrid", "min", "mm", "moveaxis", "movedim", "multinomial", "multiply", "mv", "nan", "nan_to_num",
    "nanmean", "nansum", "narrow", "negative", "nonzero", "normal", "not_equal", "numel", "outer", "pi",
    "poisson", "preserve_format", "quantile", "rand_like", "randint_like", "randn_like", "ravel", "reciprocal",
    "rot90", "rsqrt", "scatter", "scatter_add", "searchsorted", "select", "short", "sinc", "sinh", "sort",
    "split", "square", "std_mean", "subtract", "swapaxes", "swapdims", "t", "take", "tan", "tensor_split",
    "tensordot", "testing", "tile", "topk", "trace", "trapezoid", "trapz", "tril_indices", "triu_indices",
    "true_divide", "trunc", "uint8", "unbind", "unflatten", "unique", "var_mean", "vdot", "vstack", "xlogy",
]  # fmt: skip
