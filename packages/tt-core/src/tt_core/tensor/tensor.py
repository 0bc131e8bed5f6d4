"""Module 01, tensor: an array with a shape, a dtype and the operations on it.

A Tensor holds one NumPy array in `data`. Its methods name the ops of `elementwise.py`, `reductions.py`, `shapes.py`,
`indexing.py` and `products.py`, where everything is computed. Methods of one kind are in files of their own:
`rearranging.py`, `conversion.py`, `printing.py` and `in_place.py`. Act II brings a subclass by answering a hook.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, overload

import numpy as np

from tt_core.engine import devices
from tt_core.engine.arguments import explained
from tt_core.engine.dispatch import AnyTensor, HasArray, Op, set_base_tensor_type
from tt_core.engine.errors import DTypeError, OutOfRangeError, ShapeError
from tt_core.engine.later import absent_in_tensor, absent_option
from tt_core.tensor import elementwise as E
from tt_core.tensor import indexing as I
from tt_core.tensor import products as P
from tt_core.tensor import reductions as R
from tt_core.tensor import shapes as S
from tt_core.tensor.conversion import Convertible, as_array, copy_of
from tt_core.tensor.in_place import Mutable
from tt_core.tensor.printing import Printable
from tt_core.tensor.rearranging import Rearrangeable
from tt_core.torch_names.methods import TorchMethods, sentence_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from tt_core.engine.hints import DeviceLike, DTypeLike, Index, TensorLike
    from tt_core.engine.protocols import Array

Dim = int | Sequence[int] | None
_int: TypeAlias = int  # inside the class these names are methods
_float: TypeAlias = float
_bool: TypeAlias = bool


class ValuesAndIndices(NamedTuple):
    """What `max(dim)`, `min(dim)`, `sort` and `topk` return: two tensors of one shape.

    >>> values, indices = Tensor([3, 1, 2]).sort()
    >>> values, indices
    (tensor([1, 2, 3]), tensor([1, 2, 0]))
    """

    values: Tensor
    indices: Tensor


def _unary(op: Op) -> Callable[[AnyTensor], AnyTensor]:
    def method(self: Any) -> Any:
        return op(self)

    return _described(method, op)


def _binary(op: Op) -> Callable[[AnyTensor, Any], AnyTensor]:
    def method(self: Any, other: Any) -> Any:
        return op(self, other)

    return _described(method, op)


def _reflected(op: Op) -> Callable[[AnyTensor, Any], AnyTensor]:
    def method(self: Any, other: Any) -> Any:
        return op(other, self)

    return _described(method, op)


def _comparison(op: Op) -> Callable[[AnyTensor, Any], AnyTensor]:
    """`==` and `!=`: with None and text, Python decides by identity, so that `mask != None` is True."""

    def method(self: Any, other: Any) -> Any:
        return NotImplemented if other is None or isinstance(other, str) else op(self, other)

    return _described(method, op)


def _described(method: Any, op: Op) -> Any:
    method.__name__, method.__doc__ = op.name, sentence_of(op)
    return method


def _of_variance(dim: Dim, correction: int, unbiased: bool | None) -> tuple[Dim, int]:
    """The dimensions and the correction that `var` and `std` are given, also as PyTorch's var(unbiased)."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    return dim, correction if unbiased is None else int(unbiased)


class Tensor(Rearrangeable, Convertible, Printable, Mutable, TorchMethods):
    """An n-dimensional array of numbers.

    `data`: nested lists, a NumPy array or a scalar. Without `dtype`, Python floats become float32 and integers int64,
    and an array keeps its own dtype and its memory. Act II adds `requires_grad`. Raises `ShapeError` for ragged lists,
    `DTypeError` for text.

    >>> x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> x.shape, x.dtype
    ((2, 2), dtype('float32'))
    >>> x @ x + 1
    tensor([[ 8., 11.],
            [16., 23.]])
    """

    is_parameter = False
    __array_priority__ = 1000
    __array_ufunc__ = None  # `array + tensor` asks the tensor
    __hash__ = object.__hash__

    def __init__(self, data: TensorLike, dtype: DTypeLike | None = None, **options: Any) -> None:
        self.data = as_array(data, dtype)
        if options:
            self._take("Tensor", options)

    def _take(self, what: str, options: dict[str, Any]) -> Self:
        """Takes the options that a later act gives to `what`, a function that makes tensors; Act I has none."""
        for name in options:
            raise DTypeError(f"{what}: {absent_option(name)}")
        return self

    if not TYPE_CHECKING:  # where it would hide misspelt names

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or name == "data":  # asked by Python, NumPy and copy
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            raise AttributeError(absent_in_tensor(self, name))

    # --- what it is

    @property
    def shape(self) -> tuple[_int, ...]:
        """Size of each dimension."""
        return self.data.shape

    @property
    def ndim(self) -> _int:
        """Number of dimensions."""
        return self.data.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.data.dtype

    @property
    def nbytes(self) -> _int:
        """Bytes of all elements."""
        return self.data.nbytes

    @property
    def strides(self) -> tuple[_int, ...]:
        """Elements (as in PyTorch, not bytes) from one entry of each dimension to the next."""
        return tuple(step // self.data.itemsize for step in self.data.strides)

    @property
    def T(self) -> Self:
        """All dimensions in reverse order; a view."""
        return S.permute(self, dims=tuple(range(self.ndim))[::-1])

    @property
    def mT(self) -> Self:
        """The last two dimensions exchanged; a view. Raises `OutOfRangeError` for fewer dimensions."""
        return S.transpose(self, dim0=-2, dim1=-1)

    def size(self, dim: _int | None = None) -> Any:
        """Shape, or the size of one dimension; raises `OutOfRangeError` for one that does not exist."""
        return self.shape if dim is None else self.shape[self._own_dim("size", dim)]

    def stride(self, dim: _int | None = None) -> Any:
        """`strides`, or the one of a dimension; raises `OutOfRangeError` for one that does not exist."""
        return self.strides if dim is None else self.strides[self._own_dim("stride", dim)]

    def dim(self) -> _int:
        """Number of dimensions."""
        return self.ndim

    def numel(self) -> _int:
        """Number of elements."""
        return self.data.size

    def element_size(self) -> _int:
        """Bytes of one element."""
        return self.data.itemsize

    def is_contiguous(self) -> _bool:
        """Whether the elements lie row by row in memory without gaps."""
        return bool(self.data.flags.c_contiguous)

    def is_floating_point(self) -> _bool:
        """Whether the dtype is a float."""
        return self.data.dtype.kind == "f"

    def __contains__(self, value: Tensor | Array | _float) -> _bool:
        return bool((self == value).any())

    def __len__(self) -> _int:
        if not self.ndim:
            raise DTypeError("len: a tensor without dimensions has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Self]:
        if not self.ndim:
            raise DTypeError("iter: a tensor without dimensions cannot be iterated; use item()")
        return (self[i] for i in range(len(self)))

    # --- arithmetic, in elementwise.py and products.py

    __add__ = _binary(E.add)
    __sub__ = _binary(E.sub)
    mul = __mul__ = _binary(E.mul)
    __truediv__ = _binary(E.div)
    pow = __pow__ = _binary(E.pow)
    __floordiv__ = _binary(E.floor_divide)
    __mod__ = _binary(E.remainder)
    matmul = __matmul__ = _binary(P.matmul)
    __radd__ = _reflected(E.add)
    __rsub__ = _reflected(E.sub)
    __rmul__ = _reflected(E.mul)
    __rtruediv__ = _reflected(E.div)
    __rpow__ = _reflected(E.pow)
    __rfloordiv__ = _reflected(E.floor_divide)
    __rmod__ = _reflected(E.remainder)
    __rmatmul__ = _reflected(P.matmul)
    eq, ne = _binary(E.eq), _binary(E.ne)
    __eq__ = _comparison(E.eq)  # type: ignore[assignment]  # object's returns a bool
    __ne__ = _comparison(E.ne)  # type: ignore[assignment]
    lt = __lt__ = _binary(E.lt)
    le = __le__ = _binary(E.le)
    gt = __gt__ = _binary(E.gt)
    ge = __ge__ = _binary(E.ge)
    maximum = _binary(E.maximum)
    minimum = _binary(E.minimum)
    logical_and = __and__ = __rand__ = _binary(E.logical_and)
    logical_or = __or__ = __ror__ = _binary(E.logical_or)

    abs = __abs__ = _unary(E.abs)
    neg = __neg__ = _unary(E.neg)
    exp = _unary(E.exp)
    log = _unary(E.log)
    log1p = _unary(E.log1p)
    expm1 = _unary(E.expm1)
    sqrt = _unary(E.sqrt)
    sin = _unary(E.sin)
    cos = _unary(E.cos)
    erf = _unary(E.erf)
    sign = _unary(E.sign)
    floor = _unary(E.floor)
    ceil = _unary(E.ceil)
    round = _unary(E.round)
    isnan = _unary(E.isnan)
    isfinite = _unary(E.isfinite)
    __invert__ = logical_not = _unary(E.logical_not)

    def rsqrt(self) -> Self:
        """`1 / sqrt(x)`."""
        return E.pow(self, -0.5)

    def square(self) -> Self:
        """`x * x`."""
        return E.mul(self, self.long() if self.dtype == np.bool_ else self)

    def reciprocal(self) -> Self:
        """`1 / x`."""
        return 1.0 / self

    def __pos__(self) -> Self:
        return self

    def clip(self, min: _float | Tensor | None = None, max: _float | Tensor | None = None) -> Self:
        """Limited to [min, max], which are numbers or tensors; raises `ArgumentError` if both are None.

        >>> Tensor([1, 2, 3]).clip(max=Tensor([3, 1, 1]))
        tensor([1, 1, 1])
        """
        return E.clip(self, min, max)

    clamp = clip

    # --- dtype and memory

    def to(self, *target: DTypeLike | DeviceLike | Tensor | None, **options: Any) -> Self:
        """Converts to `dtype`, or to the dtype of another tensor; returns self if nothing changes.

        Raises `DTypeError` for anything but a dtype of numbers, `DeviceError` for a device other than the CPU.
        """
        dtype = target[0] if len(target) == 1 else None
        if isinstance(dtype, (type, np.dtype)) and self.dtype == dtype and not options:
            return self
        if dtype is None and len(target) < 2 and not options:
            raise DTypeError("to: takes a dtype such as 'float32', a device or a tensor, got None")
        known = devices.dtype_of("to", *target, **options)
        return self if known is None or known == self.dtype else S.cast(self, dtype=known)

    def type(self, dtype: DTypeLike) -> Self:
        """Same as `to`."""
        return self.to(dtype)

    def float(self) -> Self:
        """Converts to float32."""
        return self.to(np.float32)

    def double(self) -> Self:
        """Converts to float64."""
        return self.to(np.float64)

    def half(self) -> Self:
        """Converts to float16."""
        return self.to(np.float16)

    def long(self) -> Self:
        """Converts to int64."""
        return self.to(np.int64)

    def int(self) -> Self:
        """Converts to int32."""
        return self.to(np.int32)

    def bool(self) -> Self:
        """Converts to booleans: False for zero."""
        return self.to(np.bool_)

    def contiguous(self) -> Self:
        """Elements row by row in memory; returns self if they are already."""
        return self if self.is_contiguous() else S.contiguous(self)

    def clone(self) -> Self:
        """A copy in new memory."""
        return S.clone(self)

    def detach(self) -> Self:
        """Another tensor on the same memory; in Act II, without the history of this one."""
        other = object.__new__(type(self))
        other.data = self.data
        return other

    def __deepcopy__(self, memo: dict[_int, Any]) -> Self:
        other = object.__new__(type(self))
        other.data, other.is_parameter = copy_of(self.data, memo), self.is_parameter
        for name, value in self.__dict__.items():
            if name not in ("data", "is_parameter") and not name.startswith("_"):
                setattr(other, name, deepcopy(value, memo))  # what a user or a later act noted on it
        return other

    def as_parameter(self) -> Self:
        """Marks this tensor as one that training changes, and returns it; later acts do more here."""
        self.is_parameter = True
        return self

    # --- indexing, in indexing.py

    def __getitem__(self, index: Index) -> Self:
        x = self
        for step in I.steps_of(I.plain_index(index), self.ndim):
            x = I.getitem(x, index=step)
        return x

    def take_along_dim(self, indices: Tensor, dim: _int) -> Self:
        """Elements at `indices` along `dim`; raises `ShapeError` if the numbers of dimensions differ."""
        return I.take_along_dim(self, indices, dim=dim)

    def gather(self, dim: _int, index: Tensor) -> Self:
        """Elements at `index` along `dim`; along the others, `index` may be smaller and takes the first entries.

        Raises `ShapeError` if it is larger there, `OutOfRangeError` for an index that does not exist.

        >>> Tensor([[1, 2], [3, 4]]).gather(1, Tensor([[1, 1], [0, 1]]))
        tensor([[2, 2],
                [3, 4]])
        """
        dim = self._dim("gather", dim)
        if index.ndim != self.ndim:
            raise ShapeError(
                f"gather: index {index.shape} needs as many dimensions as the tensor {self.shape}; unsqueeze() adds one"
            )
        if any(n > m for d, (n, m) in enumerate(zip(index.shape, self.shape)) if d != dim):
            raise ShapeError(f"gather: index {index.shape} reaches beyond the tensor {self.shape} outside dim {dim}")
        if index.data.size and index.data.min() < 0:
            raise OutOfRangeError(f"gather: index {index.data.min()} is negative; entries are counted from 0")
        first = tuple(slice(None) if d == dim else slice(n) for d, n in enumerate(index.shape))
        covered = self if index.shape == self.shape else self[first]
        return I.take_along_dim(covered, index, dim=dim)

    def index_select(self, dim: _int, index: Tensor) -> Self:
        """Entries of `dim` chosen by a one-dimensional `index`; raises `OutOfRangeError` beyond them."""
        return I.index_select.call(self, index, dim=dim)

    def masked_fill(self, mask: Tensor, value: _float) -> Self:
        """`value` where `mask` holds; raises `ShapeError` if the mask does not broadcast with this tensor."""
        return E.masked_fill(self, mask, value)

    # --- reductions, in reductions.py

    def sum(
        self,
        dim: Dim = None,
        keepdim: _bool = False,
        dtype: DTypeLike | None = None,
        axis: Dim = None,
        keepdims: _bool = False,
    ) -> Self:
        """Sum over `dim`, or over everything; `axis` and `keepdims` are NumPy's names."""
        x = self if dtype is None else self.to(dtype)
        result = R.sum(x, dim=dim if axis is None else axis, keepdim=keepdim or keepdims)
        return result if dtype is None else result.to(dtype)

    def mean(
        self,
        dim: Dim = None,
        keepdim: _bool = False,
        dtype: DTypeLike | None = None,
        axis: Dim = None,
        keepdims: _bool = False,
    ) -> Self:
        """Arithmetic mean over `dim`, or over everything; raises `DTypeError` for integers."""
        x = self if dtype is None else self.to(dtype)
        result = R.mean(x, dim=dim if axis is None else axis, keepdim=keepdim or keepdims)
        return result if dtype is None else result.to(dtype)

    def var(
        self,
        dim: Dim = None,
        correction: _int = 1,
        keepdim: _bool = False,
        unbiased: _bool | None = None,
        axis: Dim = None,
    ) -> Self:
        """Variance, divided by n - `correction`, which is 1 where `unbiased`; raises `DTypeError` for integers."""
        dim, correction = _of_variance(dim if axis is None else axis, correction, unbiased)
        return R.var(self, dim=dim, correction=correction, keepdim=keepdim)

    def std(
        self,
        dim: Dim = None,
        correction: _int = 1,
        keepdim: _bool = False,
        unbiased: _bool | None = None,
        axis: Dim = None,
    ) -> Self:
        """Standard deviation: the square root of the variance, whose arguments it takes."""
        dim, correction = _of_variance(dim if axis is None else axis, correction, unbiased)
        return R.std(self, dim=dim, correction=correction, keepdim=keepdim)

    def prod(
        self, dim: _int | None = None, keepdim: _bool = False, dtype: DTypeLike | None = None, axis: _int | None = None
    ) -> Self:
        """Product."""
        x = self if dtype is None else self.to(dtype)
        result = R.prod(x, dim=dim if axis is None else axis, keepdim=keepdim)
        return result if dtype is None else result.to(dtype)

    def amax(self, dim: Dim = None, keepdim: _bool = False, axis: Dim = None) -> Self:
        """Largest element."""
        return R.amax(self, dim=dim if axis is None else axis, keepdim=keepdim)

    def amin(self, dim: Dim = None, keepdim: _bool = False, axis: Dim = None) -> Self:
        """Smallest element."""
        return R.amin(self, dim=dim if axis is None else axis, keepdim=keepdim)

    @overload
    def max(
        self, dim: Tensor | None = None, keepdim: _bool = False, axis: None = None, keepdims: _bool = False
    ) -> Self: ...
    @overload
    def max(
        self, dim: _int | None = None, keepdim: _bool = False, axis: _int | None = None, keepdims: _bool = False
    ) -> ValuesAndIndices: ...
    @explained
    def max(
        self,
        dim: _int | Tensor | None = None,
        keepdim: _bool = False,
        axis: _int | None = None,
        keepdims: _bool = False,
    ) -> Any:
        """Largest element; with `dim`, `(values, indices)`; with a tensor, the larger of each pair.

        Raises `ShapeError` if there are no elements, `OutOfRangeError` for a dimension that does not exist.

        >>> Tensor([[1, 5], [4, 2]]).max(dim=1).indices
        tensor([1, 0])
        """
        return self._extreme(R.amax, R.argmax, E.maximum, dim if axis is None else axis, keepdim or keepdims)

    @overload
    def min(
        self, dim: Tensor | None = None, keepdim: _bool = False, axis: None = None, keepdims: _bool = False
    ) -> Self: ...
    @overload
    def min(
        self, dim: _int | None = None, keepdim: _bool = False, axis: _int | None = None, keepdims: _bool = False
    ) -> ValuesAndIndices: ...
    @explained
    def min(
        self,
        dim: _int | Tensor | None = None,
        keepdim: _bool = False,
        axis: _int | None = None,
        keepdims: _bool = False,
    ) -> Any:
        """Smallest element; with `dim`, `(values, indices)`; with a tensor, the smaller of each pair.

        Raises as `max` does.

        >>> Tensor([3, 1, 2]).min(), Tensor([3, 1, 2]).min(Tensor([2, 2, 2]))
        (tensor(1), tensor([2, 1, 2]))
        """
        return self._extreme(R.amin, R.argmin, E.minimum, dim if axis is None else axis, keepdim or keepdims)

    def _extreme(self, whole: Any, index: Any, pairwise: Any, dim: Any, keepdim: Any) -> Any:
        if dim is None:
            return whole(self)
        if isinstance(dim, HasArray):
            return pairwise(self, dim)
        indices = index(self, dim=dim, keepdim=True)
        values = I.take_along_dim(self, indices, dim=dim) if self.ndim else self.clone()
        return ValuesAndIndices(*(t if keepdim else t.squeeze(dim) for t in (values, indices)))

    def argmax(self, dim: _int | None = None, keepdim: _bool = False, axis: _int | None = None) -> Self:
        """Index of the first largest element."""
        return R.argmax(self, dim=dim if axis is None else axis, keepdim=keepdim)

    def argmin(self, dim: _int | None = None, keepdim: _bool = False, axis: _int | None = None) -> Self:
        """Index of the first smallest element."""
        return R.argmin(self, dim=dim if axis is None else axis, keepdim=keepdim)

    def all(self, dim: Dim = None, keepdim: _bool = False, axis: Dim = None) -> Self:
        """Whether all elements are true."""
        return R.all(self, dim=dim if axis is None else axis, keepdim=keepdim)

    def any(self, dim: Dim = None, keepdim: _bool = False, axis: Dim = None) -> Self:
        """Whether any element is true."""
        return R.any(self, dim=dim if axis is None else axis, keepdim=keepdim)

    def logsumexp(self, dim: Dim = None, keepdim: _bool = False, axis: Dim = None) -> Self:
        """`log(sum(exp(x)))`."""
        return R.logsumexp(self, dim=dim if axis is None else axis, keepdim=keepdim)

    def norm(self, p: _float | str = 2, dim: Dim = None, keepdim: _bool = False, axis: Dim = None) -> Self:
        """Length: Euclidean for 2 (or "fro"), the sum of magnitudes for 1, the largest of them for inf.

        Raises `ArgumentError` for any other `p`.

        >>> Tensor([3.0, -4.0]).norm(), Tensor([3.0, -4.0]).norm(1)
        (tensor(5.), tensor(7.))
        """
        return R.norm(self, p=p, dim=dim if axis is None else axis, keepdim=keepdim)

    def cumsum(self, dim: _int, dtype: DTypeLike | None = None) -> Self:
        """Running sum along `dim`."""
        return R.cumsum(self if dtype is None else self.to(dtype), dim=dim)

    @explained
    def sort(self, dim: _int = -1, descending: _bool = False, stable: _bool = False) -> ValuesAndIndices:
        """Ordered along `dim`: `(values, indices)`; raises `OutOfRangeError` for a dimension that does not exist.

        >>> Tensor([3, 1, 2]).sort(descending=True).indices
        tensor([0, 2, 1])
        """
        indices = R.argsort(self, dim=dim, descending=descending, stable=stable)
        return ValuesAndIndices(I.take_along_dim(self, indices, dim=dim) if self.ndim else self.clone(), indices)

    def argsort(self, dim: _int = -1, descending: _bool = False, stable: _bool = False) -> Self:
        """Indices that order the elements along `dim`."""
        return R.argsort(self, dim=dim, descending=descending, stable=stable)

    @explained
    def topk(self, k: _int, dim: _int = -1, largest: _bool = True, sorted: _bool = True) -> ValuesAndIndices:
        """The `k` largest (or smallest) along `dim`, best first, also without `sorted`: `(values, indices)`.

        Raises `ShapeError` if there are fewer, `OutOfRangeError` for a tensor without dimensions.

        >>> Tensor([3, 1, 4, 2]).topk(2).values
        tensor([4, 3])
        """
        self._own_dim("topk", dim)
        indices = R.topk_indices(self, k=k, dim=dim, largest=largest)
        return ValuesAndIndices(I.take_along_dim(self, indices, dim=dim), indices)


set_base_tensor_type(Tensor)
