"""Part of module 01, tensor: methods that PyTorch's tensors have and the journey does not need.

Scripts written for PyTorch find their names here. Every method is a composition of existing ops, so plugins see
what it computes. `tt_core.torch_names.functions` offers the same as functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tt_core.engine import devices
from tt_core.engine.arguments import explained_methods
from tt_core.engine.dispatch import Array, HasArray, Op, quietly, registry, wrap
from tt_core.engine.errors import ArgumentError, DTypeError, ShapeError, kind_of
from tt_core.tensor import elementwise as E
from tt_core.tensor import indexing as I
from tt_core.tensor import products as P
from tt_core.tensor import reductions as R
from tt_core.tensor import shapes as S
from tt_core.torch_names import ops as M
from tt_core.torch_names.elements import ElementMethods, needs, numbers, same_as

if TYPE_CHECKING:
    from typing_extensions import Self

    from tt_core.engine.hints import DTypeLike, TensorLike
    from tt_core.tensor.tensor import Tensor


class _Pair(NamedTuple):
    values: Tensor
    indices: Tensor


def _of_one(op: Op | str) -> Callable[[Any], Any]:
    """A method that calls an op; by name where the op's module is loaded later than this one."""

    def method(self: Any) -> Any:
        return (registry[op] if isinstance(op, str) else op)(self)

    method.__doc__ = f"Same as `{op}`." if isinstance(op, str) else sentence_of(op)
    return method


def _of_two(op: Op) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        return op(self, other)

    method.__doc__ = sentence_of(op)
    return method


def sentence_of(op: Op) -> str:
    """What an op does, without its example, which calls the op and not the method."""
    return (op.__doc__ or "").partition("\n\n")[0]


@explained_methods
class TorchMethods(ElementMethods):
    """What `Tensor` inherits under PyTorch's names."""

    if TYPE_CHECKING:  # Act II's Tensor defines these; ops return it once `tt_learn` is imported
        grad: Self | None
        requires_grad: bool

        def requires_grad_(self, requires_grad: bool = True) -> Self: ...
        def backward(
            self, gradient: Tensor | None = None, retain_graph: bool = False, create_graph: bool = False
        ) -> None: ...

    # --- the device, and what the tensor is

    @property
    def device(self: Any) -> devices.device:
        """Always the CPU."""
        return devices.CPU

    is_cuda = False

    def cpu(self: Any) -> Tensor:
        """The tensor itself."""
        return self

    def cuda(self: Any, *_: Any, **__: Any) -> Tensor:
        """Raises `DeviceError`: there is only the CPU."""
        devices.check("cuda")
        return self

    def byte(self: Any) -> Tensor:
        """As uint8."""
        return self.to(np.uint8)

    def short(self: Any) -> Tensor:
        """As int16."""
        return self.to(np.int16)

    def type_as(self: Any, other: Tensor) -> Tensor:
        """In the dtype of `other`."""
        return self.to(other.dtype)

    nelement = same_as("numel")
    ndimension = same_as("dim")

    def new_tensor(self: Any, data: TensorLike, dtype: DTypeLike | None = None, **options: Any) -> Tensor:
        """A tensor of `data` in this tensor's dtype; options as for `tensor`."""
        return self._new("tensor", data, dtype=dtype, **options)

    def new_zeros(self: Any, *size: int | Sequence[int], **options: Any) -> Tensor:
        """All 0 in this tensor's dtype; options as for `zeros`."""
        return self._new("zeros", *size, **options)

    def new_ones(self: Any, *size: int | Sequence[int], **options: Any) -> Tensor:
        """All 1 in this tensor's dtype; options as for `ones`."""
        return self._new("ones", *size, **options)

    def new_empty(self: Any, *size: int | Sequence[int], **options: Any) -> Tensor:
        """Uninitialized memory in this tensor's dtype; options as for `empty`."""
        return self._new("empty", *size, **options)

    def new_full(self: Any, size: int | Sequence[int], fill_value: float, **options: Any) -> Tensor:
        """All `fill_value` in this tensor's dtype; options as for `full`."""
        return self._new("full", size, fill_value, **options)

    def _new(self: Any, create: str, *inputs: Any, dtype: DTypeLike | None = None, **options: Any) -> Tensor:
        from tt_core.tensor import creation  # which needs Tensor

        return getattr(creation, create)(*inputs, dtype=self.dtype if dtype is None else dtype, **options)

    # --- element by element

    tan, asin, acos, atan = map(_of_one, (M.tan, M.asin, M.acos, M.atan))
    sinh, cosh, asinh, acosh, atanh = map(_of_one, (M.sinh, M.cosh, M.asinh, M.acosh, M.atanh))
    log2, log10, exp2, trunc = map(_of_one, (M.log2, M.log10, M.exp2, M.trunc))
    relu, sigmoid, tanh = map(_of_one, ("relu", "sigmoid", "tanh"))
    bitwise_not = _of_one(M.bitwise_not)
    bitwise_and, bitwise_or, bitwise_xor = map(_of_two, (M.bitwise_and, M.bitwise_or, M.bitwise_xor))
    atan2, hypot, logaddexp, fmod = map(_of_two, (M.atan2, M.hypot, M.logaddexp, M.fmod))
    floor_divide, remainder = map(_of_two, (E.floor_divide, E.remainder))
    arcsin, arccos, arctan, arctan2 = map(same_as, ("asin", "acos", "atan", "atan2"))
    absolute, negative, multiply, fix = map(same_as, ("abs", "neg", "mul", "trunc"))
    greater, greater_equal, less, less_equal, not_equal = map(same_as, ("gt", "ge", "lt", "le", "ne"))

    def add(self: Any, other: Tensor | float, *, alpha: float = 1) -> Tensor:
        """`self + alpha * other`; raises `ShapeError` for shapes that do not broadcast."""
        return E.add(self, E.scaled(other, alpha))

    def sub(self: Any, other: Tensor | float, *, alpha: float = 1) -> Tensor:
        """`self - alpha * other`; raises `ShapeError` for shapes that do not broadcast."""
        return E.sub(self, E.scaled(other, alpha))

    def div(self: Any, other: Tensor | float, *, rounding_mode: str | None = None) -> Tensor:
        """`self / other`, then rounded: None keeps the fraction, "floor" rounds down, "trunc" towards 0.

        Raises `ArgumentError` for any other `rounding_mode`.
        """
        if rounding_mode is None:
            return E.div(self, other)
        if rounding_mode == "floor":
            return E.floor_divide(self, other)
        if rounding_mode != "trunc":
            raise ArgumentError(f"div: rounding_mode is None, 'floor' or 'trunc', got {rounding_mode!r}")
        quotient = M.trunc(E.div(self, other))
        return quotient.to(np.result_type(self.dtype, getattr(other, "dtype", type(other))))

    subtract, divide, true_divide = map(same_as, ("sub", "div", "div"))

    def frac(self: Any) -> Tensor:
        """The fractional part, with the sign of the number."""
        return self - M.trunc(self)

    def sinc(self: Any) -> Tensor:
        """`sin(pi x) / (pi x)`, 1 at 0."""
        x = E.where(E.eq(self, 0), 1.0, self) * math.pi
        return E.where(E.eq(self, 0), 1.0, E.sin(x) / x)

    def logit(self: Any, eps: float | None = None) -> Tensor:
        """`log(x / (1 - x))`, with x first limited to [eps, 1 - eps]."""
        x = self if eps is None else E.clip(self, min=eps, max=1 - eps)
        return E.log(x / (1 - x))

    def xlogy(self: Any, other: Tensor | float) -> Tensor:
        """`self * log(other)`, 0 where `self` is 0."""
        none = E.eq(self, 0) & E.logical_not(E.isnan(other))
        x = self if self.is_floating_point() else self.float()
        return E.where(none, 0.0, x * E.log(E.where(none, 1.0, other)))

    def lerp(self: Any, end: Tensor | float, weight: Tensor | float) -> Tensor:
        """`self + weight * (end - self)`."""
        return self + (end - self) * weight

    def addcmul(self: Any, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
        """`self + value * tensor1 * tensor2`."""
        return self + tensor1 * tensor2 * value

    def addcdiv(self: Any, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
        """`self + value * tensor1 / tensor2`."""
        return self + tensor1 / tensor2 * value

    def clamp_min(self: Any, min: Tensor | float) -> Tensor:
        """At least `min`."""
        return self.clip(min=min)

    def clamp_max(self: Any, max: Tensor | float) -> Tensor:
        """At most `max`."""
        return self.clip(max=max)

    def nan_to_num(self: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
        """Numbers in place of nan and of the infinities, by default the largest and the smallest of the dtype."""
        if self.dtype.kind != "f":
            return self.clone()
        limits = np.finfo(self.dtype)
        x = E.masked_fill(self, E.isnan(self), nan)
        x = E.masked_fill(x, E.eq(x, math.inf), float(limits.max) if posinf is None else posinf)
        return E.masked_fill(x, E.eq(x, -math.inf), float(limits.min) if neginf is None else neginf)

    def softmax(self: Any, dim: int = -1, dtype: DTypeLike | None = None, axis: int | None = None) -> Tensor:
        """`softmax` over `dim`, in `dtype` if one is given."""
        x = self if dtype is None else self.to(dtype)
        return registry["softmax"](x, dim=dim if axis is None else axis)

    def log_softmax(self: Any, dim: int = -1, dtype: DTypeLike | None = None, axis: int | None = None) -> Tensor:
        """`log_softmax` over `dim`, in `dtype` if one is given."""
        x = self if dtype is None else self.to(dtype)
        return registry["log_softmax"](x, dim=dim if axis is None else axis)

    # --- questions

    def isinf(self: Any) -> Tensor:
        """Whether each element is infinite."""
        return wrap(np.isinf(self.data))

    def isposinf(self: Any) -> Tensor:
        """Whether each element is +infinity."""
        return E.eq(self, math.inf)

    def isneginf(self: Any) -> Tensor:
        """Whether each element is -infinity."""
        return E.eq(self, -math.inf)

    def logical_xor(self: Any, other: Tensor | float) -> Tensor:
        """Whether exactly one of both is true (not zero)."""
        return E.ne(self.bool(), E.ne(other, 0))

    def isclose(self: Any, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
        """Whether each element is within `atol + rtol * |other|` of the other one.

        Raises `DTypeError` for two dtypes, `ShapeError` for shapes that do not broadcast, and `ArgumentError` for a
        negative tolerance.
        """
        if self.dtype != other.dtype:
            raise DTypeError(f"isclose: needs one dtype, got {self.dtype} and {other.dtype}; convert one with to()")
        if not (rtol >= 0 and atol >= 0):
            raise ArgumentError(f"isclose: rtol and atol must be at least 0, got {rtol} and {atol}")
        return wrap(quietly(_close, self.data, other.data, rtol, atol, equal_nan))

    def allclose(self: Any, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
        """Whether `isclose` holds for all elements; raises as it does."""
        return bool(self.isclose(other, rtol, atol, equal_nan).data.all())

    def equal(self: Any, other: Tensor) -> bool:
        """Whether both have one shape and equal elements."""
        return bool(np.array_equal(self.data, numbers("equal", other)))

    def count_nonzero(self: Any, dim: int | Sequence[int] | None = None) -> Tensor:
        """Number of elements that are not 0, over `dim` or all."""
        return R.sum(E.ne(self, 0), dim=dim)

    # --- shape

    def t(self: Any) -> Tensor:
        """A matrix transposed, anything smaller as it is; raises `ShapeError` above two dimensions."""
        if self.ndim > 2:
            raise ShapeError(f"t: needs at most two dimensions, got shape {self.shape}; use mT or transpose()")
        return self.T

    ravel, broadcast_to, split_with_sizes = map(same_as, ("flatten", "expand", "split"))
    swapaxes, swapdims = map(same_as, ("transpose", "transpose"))

    def reshape_as(self: Any, other: Tensor) -> Tensor:
        """Same as `reshape(other.shape)`."""
        return self.reshape(other.shape)

    def tile(self: Any, *dims: int | Sequence[int]) -> Tensor:
        """`repeat` that takes fewer counts than dimensions, those of the last ones."""
        counts = S.as_size("tile", dims)
        return self.repeat((1,) * (self.ndim - len(counts)) + counts)

    def movedim(self: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
        """Dimensions moved to other places, the rest in order; a view. Raises `ShapeError` where the numbers differ."""
        try:
            start, end = (normalize_axis_tuple(each, self.ndim) for each in (source, destination))
        except (ValueError, IndexError) as error:
            raise (kind_of(error) or ShapeError)(f"movedim: {error} (shape {self.shape})") from None
        if len(start) != len(end):
            raise ShapeError(f"movedim: {len(start)} dimensions cannot move to {len(end)} places")
        order = [d for d in range(self.ndim) if d not in start]
        for place, d in sorted(zip(end, start)):
            order.insert(place, d)
        return S.permute(self, dims=tuple(order))

    moveaxis = same_as("movedim")

    def select(self: Any, dim: int, index: int) -> Tensor:
        """Entry `index` of dimension `dim`; a view. Raises `OutOfRangeError` for one that does not exist."""
        return self[(*(slice(None),) * self._own_dim("select", dim), index)]

    def fliplr(self: Any) -> Tensor:
        """Columns in reverse order."""
        return self.flip(1)

    def flipud(self: Any) -> Tensor:
        """Rows in reverse order."""
        return self.flip(0)

    def rot90(self: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
        """Turned `k` times by 90 degrees in the plane of `dims`, from the first towards the second."""
        first, second = dims
        turned: list[Callable[[], Any]] = [
            lambda: self.clone(),
            lambda: self.flip(second).transpose(first, second),
            lambda: self.flip(first, second),
            lambda: self.flip(first).transpose(first, second),
        ]
        return turned[k % 4]()

    def tensor_split(self: Any, indices_or_sections: int | Sequence[int] | Tensor, dim: int = 0) -> tuple[Tensor, ...]:
        """Pieces whose sizes differ by at most 1, or pieces that end at the listed indices; views."""
        total = self.shape[self._own_dim("tensor_split", dim)]
        if isinstance(indices_or_sections, bytes):
            raise DTypeError("tensor_split: takes a number of pieces or a list of indices, got bytes")
        if isinstance(indices_or_sections, int):
            sizes = [len(piece) for piece in np.array_split(np.empty((total, 0)), indices_or_sections)]
        else:
            ends = [min(int(end), total) for end in indices_or_sections]
            sizes = [b - a for a, b in zip([0, *ends], [*ends, total])]
        return self.split(sizes, dim)

    def unfold(self: Any, dimension: int, size: int, step: int) -> Tensor:
        """All windows of `size` entries along `dimension`, `step` apart; the window is the last dimension. A copy."""
        dim = self._own_dim("unfold", dimension)
        if size > self.shape[dim] or step < 1:
            raise ShapeError(f"unfold: windows of {size}, {step} apart, do not fit dimension {dim} of {self.shape}")
        starts = np.arange(0, self.shape[dim] - size + 1, step)
        return self[(*(slice(None),) * dim, starts[:, None] + np.arange(size))].movedim(dim + 1, -1)

    def diagonal(self: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
        """The diagonal of the plane of `dim1` and `dim2` as the last dimension; a copy.

        `offset` counts above the main diagonal, below it where negative.
        """
        x = self.movedim((dim1, dim2), (-2, -1))
        return x[(..., *_diagonal_places(x.shape[-2], x.shape[-1], offset))]

    def diag_embed(self: Any, offset: int = 0) -> Tensor:
        """The last dimension on the diagonal of matrices, zero elsewhere; (..., n) gives (..., n, n)."""
        n = self.shape[-1] + abs(offset)
        index = (..., *_diagonal_places(n, n, offset))
        return I.add_at(self, index=index, shape=(*self.shape[:-1], n, n))

    def diag(self: Any, diagonal: int = 0) -> Tensor:
        """The diagonal of a matrix, or a matrix with this vector on the diagonal."""
        if self.ndim not in (1, 2):
            raise ShapeError(f"diag: needs a vector or a matrix, got {self.shape}; use diagonal() or diag_embed()")
        return self.diag_embed(diagonal) if self.ndim == 1 else self.diagonal(diagonal)

    def trace(self: Any) -> Tensor:
        """Sum of the diagonal of a matrix; raises `ShapeError` for anything else."""
        needs("trace", (self, 2))
        return self.diagonal().sum()

    # --- products

    def mm(self: Any, mat2: Tensor) -> Tensor:
        """Product of two matrices; raises `ShapeError` for anything else."""
        needs("mm", (self, 2), (mat2, 2))
        return P.matmul(self, mat2)

    def bmm(self: Any, mat2: Tensor) -> Tensor:
        """Products of two batches of matrices; raises `ShapeError` for anything else."""
        needs("bmm", (self, 3), (mat2, 3))
        if len(self) != len(mat2):
            raise ShapeError(f"bmm: batches of {len(self)} and {len(mat2)} matrices; matmul() broadcasts")
        return P.matmul(self, mat2)

    def mv(self: Any, vec: Tensor) -> Tensor:
        """Product of a matrix and a vector; raises `ShapeError` for anything else."""
        needs("mv", (self, 2), (vec, 1))
        return P.matmul(self, vec)

    def dot(self: Any, tensor: Tensor) -> Tensor:
        """Product of two vectors; raises `ShapeError` for anything else."""
        needs("dot", (self, 1), (tensor, 1))
        return P.matmul(self, tensor)

    def inner(self: Any, other: Tensor) -> Tensor:
        """Products of all rows of both, over the last dimension."""
        if not self.ndim or not other.ndim:
            return self * other
        rows = P.matmul(self.reshape(-1, self.shape[-1]), other.reshape(-1, other.shape[-1]).T)
        return rows.reshape(self.shape[:-1] + other.shape[:-1])

    def outer(self: Any, vec2: Tensor) -> Tensor:
        """Every element of one vector times every element of the other; raises `ShapeError` for anything else."""
        needs("outer", (self, 1), (vec2, 1))
        return self.unsqueeze(1) * vec2

    ger, vdot = map(same_as, ("outer", "dot"))

    def addmm(self: Any, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """`beta * self + alpha * mat1 @ mat2`."""
        needs("addmm", (mat1, 2), (mat2, 2))
        product = P.matmul(mat1, mat2)
        return (self if beta == 1 else self * beta) + (product if alpha == 1 else product * alpha)

    def baddbmm(self: Any, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """`beta * self + alpha * batch1 @ batch2` for batches; raises `DTypeError` for integers times floats."""
        if not self.is_floating_point() and not (float(beta).is_integer() and float(alpha).is_integer()):
            raise DTypeError(f"baddbmm: beta {beta} and alpha {alpha} must be integers for tensors of {self.dtype}")
        product = batch1.bmm(batch2)
        return (self if beta == 1 else self * beta) + (product if alpha == 1 else product * alpha)

    # --- reductions and order

    def kthvalue(self: Any, k: int, dim: int = -1, keepdim: bool = False) -> _Pair:
        """The `k`-th smallest along `dim`, counted from 1: `(values, indices)`."""
        if not 1 <= k <= self.shape[self._own_dim("kthvalue", dim)]:
            raise ShapeError(f"kthvalue: k is {k}, dimension {dim} has {self.shape[dim]} elements")
        return self._at(R.argsort(self, dim=dim, stable=True).narrow(dim, k - 1, 1), dim, keepdim)

    def _at(self: Any, indices: Any, dim: int, keepdim: bool) -> _Pair:
        pair = I.take_along_dim(self, indices, dim=dim), indices
        return _Pair(*(x if keepdim else x.squeeze(dim) for x in pair))

    def median(self: Any, dim: int | None = None, keepdim: bool = False) -> Any:
        """The element in the middle (the lower of two), nan where there is one; with `dim`, `(values, indices)`."""
        if dim is None:
            return self.flatten().median(0).values
        size = self.shape[self._own_dim("median", dim)]
        if not size:
            raise ShapeError(f"median: dimension {dim} has no elements")
        middle = R.argsort(self, dim=dim, stable=True).narrow(dim, (size - 1) // 2, 1)
        if self.dtype.kind == "f":
            nan = E.isnan(self)
            middle = E.where(nan.any(dim, keepdim=True), R.argmax(nan, dim=dim, keepdim=True), middle)
        return self._at(middle, dim, keepdim)

    def quantile(
        self: Any, q: float | Sequence[float] | Tensor, dim: int | None = None, keepdim: bool = False
    ) -> Tensor:
        """The value below which a share `q` (a number or a vector, in [0, 1]) lies; interpolates linearly."""
        shares = np.asarray(q.data if isinstance(q, HasArray) else q, np.float64)
        if shares.size and not (shares.min() >= 0 and shares.max() <= 1):
            raise ArgumentError(f"quantile: q is between 0 and 1, got {shares.tolist()}")
        x, axis = (self.flatten(), 0) if dim is None else (self, self._own_dim("quantile", dim))
        ordered = x.sort(axis).values.movedim(axis, 0)
        places = np.atleast_1d(shares) * (len(ordered) - 1)
        low = np.floor(places).astype(int)
        weight = wrap((places - low).astype(self.dtype).reshape((-1,) + (1,) * (ordered.ndim - 1)))
        found = ordered[low].lerp(ordered[np.ceil(places).astype(int)], weight)
        if keepdim:
            found = found.reshape(len(low), *(1,) * self.ndim) if dim is None else found.unsqueeze(axis + 1)
        return found if shares.ndim else found[0]

    def nansum(self: Any, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
        """Sum of what is not nan."""
        return R.sum(E.masked_fill(self, E.isnan(self), 0.0), dim=dim, keepdim=keepdim)

    def nanmean(self: Any, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
        """Mean of what is not nan."""
        count = R.sum(E.logical_not(E.isnan(self)), dim=dim, keepdim=keepdim)
        return self.nansum(dim, keepdim) / count.to(self.dtype)

    def cumprod(self: Any, dim: int, dtype: DTypeLike | None = None) -> Tensor:
        """Running product along `dim`."""
        return M.cumprod(self if dtype is None else self.to(dtype), dim=dim)

    def cummax(self: Any, dim: int) -> _Pair:
        """Largest element so far along `dim`: `(values, indices)`."""
        return self._at(M.running_extreme(self, dim=dim, largest=True), dim, keepdim=True)

    def cummin(self: Any, dim: int) -> _Pair:
        """Smallest element so far along `dim`: `(values, indices)`."""
        return self._at(M.running_extreme(self, dim=dim, largest=False), dim, keepdim=True)

    def diff(self: Any, n: int = 1, dim: int = -1) -> Tensor:
        """Differences of neighbours along `dim`, `n` times over."""
        x = self
        for _ in range(min(n, x.shape[x._own_dim("diff", dim)])):  # nothing is left after that many
            size = max(x.shape[x._own_dim("diff", dim)] - 1, 0)
            x = x.narrow(dim, min(1, x.shape[dim]), size) - x.narrow(dim, 0, size)
        return x

    def dist(self: Any, other: Tensor, p: float = 2) -> Tensor:
        """`norm(self - other, p)`."""
        return (self - other).norm(p)


def _close(a: Array, b: Array, rtol: float, atol: float, equal_nan: bool) -> Array:
    """Integers and booleans are compared in float64, as in NumPy."""
    right = b if b.dtype.kind == "f" else b.astype(np.float64)
    near = (a == b) | (np.isfinite(right) & (np.abs(a - right) <= atol + rtol * np.abs(right)))
    return near | (np.isnan(a) & np.isnan(b)) if equal_nan else near


def _diagonal_places(rows: int, columns: int, offset: int) -> tuple[Array, Array]:
    length = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    along = np.arange(length)
    return along + max(-offset, 0), along + max(offset, 0)
