"""Module 01, tensor: an array with a shape, a dtype and the operations on it.

A Tensor holds one NumPy array in `data`; every computation is an op (`elementwise.py`, `reductions.py`, `shapes.py`,
`products.py`), and the methods here only name them as PyTorch does. No gradients: Act II brings a subclass that
remembers its history, by answering a hook, without changing a line of this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, overload

import numpy as np

from tt_core.engine import devices, mutation
from tt_core.engine.arguments import explained
from tt_core.engine.dispatch import AnyTensor, Array, HasArray, Op, quietly, set_base_tensor_type
from tt_core.engine.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError, kind_of
from tt_core.engine.heap import LINE
from tt_core.engine.later import absent_in_tensor
from tt_core.tensor import elementwise as E
from tt_core.tensor import indexing as I
from tt_core.tensor import products as P
from tt_core.tensor import reductions as R
from tt_core.tensor import shapes as S
from tt_core.torch_names.methods import TorchMethods

if TYPE_CHECKING:
    from typing_extensions import Self

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


def as_array(data: Any, dtype: Any = None, what: str = "tensor") -> Array:
    """`data` as an array: Python floats become float32, integers int64; arrays keep their dtype. Copies nothing
    that is an array already. `what` goes into the error messages.

    Raises `ShapeError` for ragged lists, `DTypeError` for what holds no numbers or booleans.

    >>> as_array([0.5, 2]).dtype, as_array([1, 2]).dtype
    (dtype('float32'), dtype('int64'))
    """
    if isinstance(data, HasArray):
        data = data.data
    given = isinstance(data, (np.ndarray, np.generic))
    if not given and isinstance(data, (list, tuple)):
        data = _unwrap_nested(data)
    try:
        array = quietly(np.asarray, data, dtype=dtype)
        read = array if given or dtype is None else np.asarray(data)  # with a dtype, NumPy makes nan of None
    except (ValueError, TypeError, OverflowError) as error:
        fact = "nested lists must be of one length each" if "inhomogeneous" in str(error) else error
        raise (kind_of(error) or ShapeError)(f"{what}: {fact}") from None
    for held in (read, array):
        if held.dtype.kind not in "fiub":
            raise DTypeError(f"{what}: holds numbers or booleans, got {_foreign(held)}")
    if dtype is None and not given and array.dtype == np.float64 and not _holds_float64(data):
        array = quietly(array.astype, np.float32)
    return array if array.dtype.isnative else array.astype(native(array.dtype))


def native(dtype: Any) -> Any:
    """A dtype in this machine's byte order, in which everything is computed and saved.

    >>> native(np.dtype(">f4")) == np.float32, native(np.dtype("<f4")) == np.float32
    (True, True)
    """
    return dtype.newbyteorder("=")


def _holds_float64(data: Any) -> bool:
    """Whether nested lists hold an array or a NumPy number of float64, which keeps its precision."""
    if not isinstance(data, (list, tuple)):
        return getattr(data, "dtype", None) == np.float64
    if set(map(type, data)) <= {float, int, bool}:
        return False
    return any(map(_holds_float64, data))


def _foreign(array: Array) -> str:
    """What an array holds in place of numbers."""
    if array.dtype != object:
        return f"dtype {array.dtype}"
    others = (type(entry).__name__ for entry in array.flat if not isinstance(entry, (int, float)))
    return next(others, "an integer of more than 64 bits")


def _unwrap_nested(data: Any) -> Any:
    return [
        _unwrap_nested(part) if isinstance(part, (list, tuple)) else part.data if isinstance(part, HasArray) else part
        for part in data
    ]


def _copy_of(array: Array, memo: dict[int, Any]) -> Array:
    """A copy for `copy.deepcopy`: arrays that share memory share it in their copies too, as in PyTorch.

    `memo` holds the copies of whole pieces of memory, by the array that owns them. A copy begins at the same place
    within a cache line as its original.
    """
    owner = mutation.owner(array)
    if not (array.flags.writeable and owner.flags.c_contiguous):
        return array.copy()
    if id(owner) not in memo:
        memory = np.empty(owner.nbytes + LINE, np.uint8)
        copied = np.ndarray(owner.shape, owner.dtype, memory, (_address(owner) - _address(memory)) % LINE)
        copied[...] = owner
        memo[id(owner)] = copied
        memo.setdefault(id(memo), []).append(owner)  # kept until the end, so that no other array gets its id
    offset = _address(array) - _address(owner)
    return np.ndarray(array.shape, array.dtype, memo[id(owner)], offset, array.strides)


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


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
    sentence = (op.kernel.__doc__ or "").partition("\n\n")[0]  # without the example, which calls the op
    method.__name__, method.__doc__ = op.name, sentence
    return method


class Tensor(TorchMethods, HasArray):
    """An n-dimensional array of numbers.

    `data`: nested lists, a NumPy array or a scalar. Without `dtype`, Python floats become float32 and integers int64,
    and an array keeps its own dtype and its memory. Raises `ShapeError` for ragged lists, `DTypeError` for text.

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

    if TYPE_CHECKING:  # ops return Act II's Tensor once `tt_learn` is imported, which defines these
        grad: Self | None
        requires_grad: _bool

        def requires_grad_(self, requires_grad: _bool = True) -> Self: ...
        def backward(self, gradient: Any = None, retain_graph: _bool = False, create_graph: _bool = False) -> None: ...

    def __init__(self, data: Any, dtype: Any = None, requires_grad: _bool = False) -> None:
        self.data = as_array(data, dtype)
        if requires_grad and not hasattr(self, "requires_grad_"):
            raise DTypeError("Tensor: requires_grad needs Act II: import tt_learn, and use tensor() or its Tensor")

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
        """The last two dimensions exchanged; a view. Raises `OutOfRangeError` where there are fewer."""
        return S.transpose(self, dim0=-2, dim1=-1)

    def size(self, dim: _int | None = None) -> Any:
        """Shape, or the size of one dimension; raises `OutOfRangeError` for one that is not there."""
        return self.shape if dim is None else self.shape[self._own_dim("size", dim)]

    def stride(self, dim: _int | None = None) -> Any:
        """`strides`, or the one of a dimension; raises `OutOfRangeError` for one that is not there."""
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

    def __contains__(self, value: Any) -> _bool:
        return bool((self == value).any())

    def __len__(self) -> _int:
        if not self.ndim:
            raise DTypeError("len: a tensor without dimensions has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Self]:
        if not self.ndim:
            raise DTypeError("iter: a tensor without dimensions cannot be iterated; use item()")
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"tensor({_format(self.data)}{self._repr_suffix()})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the `repr`, and the shape and dtype below it."""
        from tt_core.engine.notebook import captioned

        return captioned(repr(self), f"shape {self.shape}, {self.dtype}, {self.numel():,} elements")

    def _repr_suffix(self) -> str:
        default = self.dtype == np.float32 or (self.data.size and self.dtype in (np.int64, np.bool_))
        empty = f", shape={self.shape}" if not self.data.size and self.ndim > 1 else ""
        return empty + ("" if default else f", dtype={self.dtype}")

    def __format__(self, spec: str) -> str:
        if spec and self.data.size == 1:
            return format(self.item(), spec)
        try:
            return format(repr(self), spec)
        except ValueError:
            raise ShapeError(f"format: {spec!r} needs exactly one element, got shape {self.shape}") from None

    # --- out of the tensor

    def numpy(self) -> Array:
        """The array itself; it shares memory with the tensor."""
        return self.data

    def __array__(self, dtype: Any = None, copy: _bool | None = None) -> Array:
        if copy is False and dtype is not None and np.dtype(dtype) != self.dtype:
            raise ShapeError(f"numpy: {self.dtype} as {np.dtype(dtype)} needs a copy")
        return np.array(self.data, dtype=dtype) if copy else np.asarray(self.data, dtype=dtype)

    def item(self) -> Any:
        """The only element as a Python number; raises `ShapeError` where there are more or none."""
        if self.data.size != 1:
            raise ShapeError(f"item: needs exactly one element, got shape {self.shape}; use tolist()")
        return self.data.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self.data.tolist()

    def __float__(self) -> _float:
        return float(self.item())

    def __int__(self) -> _int:
        return int(self.item())

    def __index__(self) -> _int:
        if self.dtype.kind not in "iu":
            raise DTypeError(f"index: needs an integer tensor, got {self.dtype}")
        return int(self.item())

    def __bool__(self) -> _bool:
        if self.data.size != 1:
            raise ShapeError(f"bool: shape {self.shape} has no single truth value; use any() or all()")
        return bool(self.data.item())

    # --- dtype and memory

    def to(self, dtype: Any = None, *more: Any, **options: Any) -> Self:
        """In another dtype, or that of another tensor; itself where it has it already, and for `to("cpu")`.

        Raises `DTypeError` for what is no dtype of numbers, `DeviceError` for a device other than the CPU.
        """
        if isinstance(dtype, (type, np.dtype)) and self.dtype == dtype and not (more or options):
            return self
        if dtype is None and not (more or options):
            raise DTypeError("to: takes a dtype such as 'float32', a device or a tensor, got None")
        known = devices.dtype_of("to", dtype, *more, **options)
        return self if known is None or known == self.dtype else S.cast(self, dtype=known)

    def type(self, dtype: Any) -> Self:
        """Same as `to`."""
        return self.to(dtype)

    def float(self) -> Self:
        """As float32."""
        return self.to(np.float32)

    def double(self) -> Self:
        """As float64."""
        return self.to(np.float64)

    def half(self) -> Self:
        """As float16."""
        return self.to(np.float16)

    def long(self) -> Self:
        """As int64."""
        return self.to(np.int64)

    def int(self) -> Self:
        """As int32."""
        return self.to(np.int32)

    def bool(self) -> Self:
        """As booleans: False for zero."""
        return self.to(np.bool_)

    def contiguous(self) -> Self:
        """Row by row in memory; itself where it is so already."""
        return self if self.is_contiguous() else S.contiguous(self)

    def clone(self) -> Self:
        """A copy in memory of its own."""
        return S.clone(self)

    def detach(self) -> Self:
        """The same memory without history."""
        other = object.__new__(type(self))
        other.data = self.data
        return other

    def __deepcopy__(self, memo: dict[_int, Any]) -> Self:
        other = object.__new__(type(self))
        other.data, other.is_parameter = _copy_of(self.data, memo), self.is_parameter
        for name, value in self.__dict__.items():
            if name not in ("data", "is_parameter", "grad", "grad_fn") and not name.startswith("_"):
                setattr(other, name, deepcopy(value, memo))  # what a user or a later act noted on it
        return other

    def as_parameter(self) -> Self:
        """Mark this tensor as one that training changes, and return it; Act II turns its gradients on here."""
        self.is_parameter = True
        return self

    # --- shape

    def reshape(self, *shape: Any) -> Self:
        """The same elements in another shape; a view where the memory allows it, else a copy.

        Raises `ShapeError` for a shape of another number of elements.

        >>> Tensor([1, 2, 3, 4, 5, 6]).reshape(2, -1).shape
        (2, 3)
        """
        return S.reshape(self, shape=S.as_size("reshape", shape))

    def view(self, *shape: Any) -> Self:
        """The same memory in another shape; raises `ShapeError` where that would need a copy."""
        return S.view(self, shape=S.as_size("view", shape))

    def view_as(self, other: Tensor) -> Self:
        """Same as `view(other.shape)`."""
        return S.view(self, shape=other.shape)

    def flatten(self, start_dim: _int = 0, end_dim: _int = -1) -> Self:
        """Dimensions `start_dim` to `end_dim` as one; raises `OutOfRangeError` for one that is not there.

        >>> Tensor(np.zeros((2, 3, 4))).flatten(1).shape
        (2, 12)
        """
        start, end = self._dim("flatten", start_dim), self._dim("flatten", end_dim)
        if start > end:
            raise ShapeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} (shape {self.shape})")
        together = math.prod(self.shape[start : end + 1])
        return S.reshape(self, shape=(*self.shape[:start], together, *self.shape[end + 1 :]))

    def unflatten(self, dim: _int, sizes: Sequence[_int]) -> Self:
        """Dimension `dim` as several; raises `ShapeError` where `sizes` do not multiply to its size.

        >>> Tensor(np.zeros((2, 12))).unflatten(1, (3, 4)).shape
        (2, 3, 4)
        """
        dim = self._dim("unflatten", dim)
        return S.reshape(self, shape=(*self.shape[:dim], *S.as_size("unflatten", (sizes,)), *self.shape[dim + 1 :]))

    def transpose(self, dim0: _int, dim1: _int) -> Self:
        """Two dimensions exchanged; a view. Raises `OutOfRangeError` for one that is not there."""
        return S.transpose(self, dim0=dim0, dim1=dim1)

    def permute(self, *dims: Any) -> Self:
        """Dimensions in another order; a view. Raises `ShapeError` unless each is named once."""
        return S.permute(self, dims=S.as_size("permute", dims))

    def squeeze(self, dim: _int | tuple[_int, ...] | None = None) -> Self:
        """Without dimensions of size 1; a view. Raises `OutOfRangeError` for a dimension that is not there."""
        return S.squeeze(self, dim=dim)

    def unsqueeze(self, dim: _int) -> Self:
        """With a dimension of size 1 at `dim`; a view. Raises `OutOfRangeError` beyond those of the result."""
        return S.unsqueeze(self, dim=dim)

    def expand(self, *shape: Any) -> Self:
        """Dimensions of size 1 repeated, at no cost in memory; a read-only view.

        Raises `ShapeError` where another size would have to change.
        """
        return S.expand(self, shape=S.as_size("expand", shape))

    def expand_as(self, other: Tensor) -> Self:
        """Same as `expand(other.shape)`."""
        return S.expand(self, shape=other.shape)

    def repeat(self, *sizes: Any) -> Self:
        """Copies laid side by side: `sizes[i]` times along dimension i (PyTorch's `repeat`, NumPy's `tile`).

        Raises `ShapeError` for fewer sizes than dimensions and for a negative one.

        >>> Tensor([1, 2]).repeat(2, 2)
        tensor([[1, 2, 1, 2],
                [1, 2, 1, 2]])
        """
        sizes = S.as_size("repeat", sizes)
        lead = len(sizes) - self.ndim
        if lead < 0 or min(sizes, default=0) < 0:
            raise ShapeError(f"repeat: needs a size for each dimension, 0 or more, got {sizes} for shape {self.shape}")
        shape = (1,) * lead + self.shape
        spread = S.expand(
            S.reshape(self, shape=tuple(n for size in shape for n in (1, size))),
            shape=tuple(n for pair in zip(sizes, shape) for n in pair),
        )
        # without the copy, whole rows side by side would stay a view, and a read-only one
        return S.reshape(S.clone(spread), shape=tuple(a * b for a, b in zip(sizes, shape)))

    def repeat_interleave(self, repeats: Any, dim: _int | None = None) -> Self:
        """Each entry of `dim` (None: of the flattened tensor) `repeats` times in a row: a number, or one for each.

        Raises `ShapeError` for a negative number of times.
        """
        return S.repeat_interleave(self, repeats=S.repeats_of(repeats), dim=dim)

    def split(self, split_size: _int | Sequence[_int], dim: _int = 0) -> tuple[Self, ...]:
        """Pieces of one size (the last may be smaller) or of the listed sizes; views.

        Raises `ShapeError` for a size below 1 and for a list that does not add up, `OutOfRangeError` for no such `dim`.

        >>> Tensor([1, 2, 3, 4, 5]).split(2)
        (tensor([1, 2]), tensor([3, 4]), tensor([5]))
        """
        dim = self._own_dim("split", dim)
        total = self.shape[dim]
        if isinstance(split_size, (int, np.integer)):
            if split_size < 1:
                raise ArgumentError(f"split: split_size must be positive, got {split_size}")
            sizes: Sequence[int] = [min(split_size, total - at) for at in range(0, total, split_size)] or [0]
        else:
            sizes = S.as_size("split", (split_size,))
        if sum(sizes) != total:
            raise ShapeError(f"split: sizes {list(sizes)} add up to {sum(sizes)}, dimension {dim} has {total}")
        ends = np.cumsum(sizes).tolist()
        return tuple(self.narrow(dim, end - size, size) for size, end in zip(sizes, ends))

    def chunk(self, chunks: _int, dim: _int = 0) -> tuple[Self, ...]:
        """At most `chunks` pieces of equal size, but for the last; views. Raises `ArgumentError` for fewer than one.

        >>> [piece.shape for piece in Tensor([1, 2, 3, 4, 5]).chunk(3)]
        [(2,), (2,), (1,)]
        """
        (chunks,) = S.as_size("chunk", (chunks,))
        if chunks < 1:
            raise ArgumentError(f"chunk: chunks must be positive, got {chunks}")
        return self.split(max(1, -(-self.shape[self._own_dim("chunk", dim)] // chunks)), dim)

    def narrow(self, dim: _int, start: _int, length: _int) -> Self:
        """`length` entries of `dim` from `start` on; a view. Raises `OutOfRangeError` where there are not so many.

        >>> Tensor([1, 2, 3, 4]).narrow(0, 1, 2)
        tensor([2, 3])
        """
        dim = self._own_dim("narrow", dim)
        start = start + self.shape[dim] if start < 0 else start
        if not 0 <= start <= start + length <= self.shape[dim]:
            raise OutOfRangeError(
                f"narrow: {length} entries from {start} on do not fit dimension {dim} of {self.shape}"
            )
        return self[(slice(None),) * dim + (slice(start, start + length),)]

    def _dim(self, what: str, dim: _int) -> _int:
        """`dim` counted from the front."""
        if not -max(self.ndim, 1) <= dim < max(self.ndim, 1):
            raise OutOfRangeError(f"{what}: dim {dim} is out of range for shape {self.shape}")
        return dim % max(self.ndim, 1)

    def _own_dim(self, what: str, dim: _int) -> _int:
        """`dim` counted from the front, of a tensor that has dimensions."""
        if not self.ndim:
            raise OutOfRangeError(f"{what}: a tensor of shape () has no dimension {dim}")
        return self._dim(what, dim)

    def unbind(self, dim: _int = 0) -> tuple[Self, ...]:
        """The entries of one dimension; views. Raises `OutOfRangeError` for one that is not there.

        >>> a, b = Tensor([[1, 2], [3, 4]]).unbind(1)
        >>> b
        tensor([2, 4])
        """
        dim = self._own_dim("unbind", dim)
        return tuple(self[(*(slice(None),) * dim, i)] for i in range(self.shape[dim]))

    def flip(self, *dims: Any) -> Self:
        """In reverse order along `dims`."""
        return S.flip(self, dims=S.as_size("flip", dims))

    def roll(self, shifts: _int | Sequence[_int], dims: _int | Sequence[_int] | None = None) -> Self:
        """Shifted along one dimension or several (without any: as if flattened), what leaves entering again.

        Raises `ShapeError` unless there is a shift for each dimension, `OutOfRangeError` for one that is not there.

        >>> Tensor([[1, 2], [3, 4], [5, 6]]).roll((1, 1), (0, 1))
        tensor([[6, 5],
                [2, 1],
                [4, 3]])
        """
        return S.roll(self, shifts=shifts, dims=dims)

    def tril(self, diagonal: _int = 0) -> Self:
        """Lower triangle, zero above."""
        return S.tril(self, diagonal=diagonal)

    def triu(self, diagonal: _int = 0) -> Self:
        """Upper triangle, zero below."""
        return S.triu(self, diagonal=diagonal)

    # --- indexing

    def __getitem__(self, index: Any) -> Self:
        x = self
        for step in I.steps_of(I.plain_index(index), self.ndim):
            x = I.getitem(x, index=step)
        return x

    def __setitem__(self, index: Any, value: Any) -> None:
        write = lambda data: I.write_at(data, index, value)  # noqa: E731
        self._in_place("assignment", "where() or masked_fill()", value, write)

    def take_along_dim(self, indices: Tensor, dim: _int) -> Self:
        """Elements at `indices` along `dim`; raises `ShapeError` where the numbers of dimensions differ."""
        return I.take_along_dim(self, indices, dim=dim)

    def gather(self, dim: _int, index: Tensor) -> Self:
        """Elements at `index` along `dim`; along the others, `index` may be smaller and takes the first entries.

        Raises `ShapeError` where it is larger there, `OutOfRangeError` for an index that is not there.

        >>> Tensor([[1, 2], [3, 4]]).gather(1, Tensor([[1, 1], [0, 1]]))
        tensor([[2, 2],
                [3, 4]])
        """
        dim = self._dim("gather", dim)
        if index.ndim != self.ndim or any(n > m for d, (n, m) in enumerate(zip(index.shape, self.shape)) if d != dim):
            raise ShapeError(f"gather: index {index.shape} reaches beyond the tensor {self.shape} outside dim {dim}")
        if index.data.size and index.data.min() < 0:
            raise OutOfRangeError(f"gather: index {index.data.min()} is negative; entries are counted from 0")
        first = tuple(slice(None) if d == dim else slice(n) for d, n in enumerate(index.shape))
        covered = self if index.shape == self.shape else self[first]
        return I.take_along_dim(covered, index, dim=dim)

    def index_select(self, dim: _int, index: Tensor) -> Self:
        """Entries of `dim` chosen by a one-dimensional `index`; raises `OutOfRangeError` for one that is not there."""
        return I.index_select.call(self, index, dim=dim)

    def masked_fill(self, mask: Tensor, value: _float) -> Self:
        """`value` where `mask` holds; raises `ShapeError` where the mask does not broadcast with this tensor."""
        return E.masked_fill(self, mask, value)

    # --- in place: nothing here is recorded, and Act II refuses it on a tensor that has history

    def _in_place(self, what: str, instead: str, source: Any, write: Callable[[Array], Any]) -> Self:
        """The one door to a change in place: `write(data)` from `source`, noted for whoever kept this memory.

        `what` and `instead` go into the error messages.
        """
        if not self.data.flags.writeable:
            raise ShapeError(f"{what}: this tensor is a read-only view (of expand, or of a file); clone() it first")
        if source is None:  # NumPy would write nan
            raise DTypeError(f"{what}: needs a number or a tensor, got None")
        try:
            quietly(write, self.data)
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            kind = kind_of(error) or ShapeError
            raise kind(f"{what}: {error} (tensor {self.shape} {self.dtype})") from None
        mutation.record(self.data)
        return self

    def _accumulate(self, sign: str, ufunc: Any, other: Any) -> Self:
        value = other.data if isinstance(other, HasArray) else other
        return self._in_place(f"{sign}=", f"x = x {sign} ...", other, lambda data: ufunc(data, value, out=data))

    def __iadd__(self, other: Any) -> Self:
        return self._accumulate("+", np.add, other)

    def __isub__(self, other: Any) -> Self:
        return self._accumulate("-", np.subtract, other)

    def __imul__(self, other: Any) -> Self:
        return self._accumulate("*", np.multiply, other)

    def __itruediv__(self, other: Any) -> Self:
        return self._accumulate("/", np.true_divide, other)

    def add_(self, other: Any, *, alpha: _float = 1) -> Self:
        """`self += alpha * other`; raises `ShapeError` where `other` does not broadcast to this shape.

        It also raises `ShapeError` for a read-only tensor, and `DTypeError` for floats that are to go into integers.

        >>> x = Tensor([1.0, 2.0])
        >>> x.add_(Tensor([1.0, 1.0]), alpha=10) is x, x
        (True, tensor([11., 12.]))
        """
        return self.__iadd__(other if alpha == 1 else E.mul(other, alpha))

    def sub_(self, other: Any, *, alpha: _float = 1) -> Self:
        """`self -= alpha * other`; raises as `add_` does."""
        return self.__isub__(other if alpha == 1 else E.mul(other, alpha))

    def mul_(self, other: Any) -> Self:
        """`self *= other`; raises as `add_` does."""
        return self.__imul__(other)

    def div_(self, other: Any) -> Self:
        """`self /= other`; raises as `add_` does, so for every tensor of integers."""
        return self.__itruediv__(other)

    def copy_(self, source: Any) -> Self:
        """Take over the values of `source`, broadcast to this shape and cut to this dtype; raises as `fill_` does.

        >>> Tensor([[0, 0], [0, 0]]).copy_(Tensor([1, 2]))
        tensor([[1, 2],
                [1, 2]])
        """
        value = source.data if isinstance(source, HasArray) else source
        return self._in_place("copy_", "clone()", source, lambda data: np.copyto(data, value, casting="unsafe"))

    def fill_(self, value: _float) -> Self:
        """Set every element to `value`, cut to this dtype as in PyTorch; raises `ShapeError` for a read-only tensor."""
        return self._in_place("fill_", "full_like()", value, lambda data: data.fill(value))

    def zero_(self) -> Self:
        """Set every element to 0; raises `ShapeError` for a read-only tensor."""
        return self._in_place("zero_", "zeros_like()", 0, lambda data: data.fill(0))

    # --- reductions

    def sum(self, dim: Dim = None, keepdim: _bool = False, dtype: Any = None, axis: Dim = None) -> Self:
        """Sum over `dim`, or over everything."""
        x = self if dtype is None else self.to(dtype)
        result = R.sum(x, dim=dim if axis is None else axis, keepdim=keepdim)
        return result if dtype is None else result.to(dtype)

    def mean(self, dim: Dim = None, keepdim: _bool = False, dtype: Any = None, axis: Dim = None) -> Self:
        """Arithmetic mean over `dim`, or over everything; raises `DTypeError` for integers."""
        x = self if dtype is None else self.to(dtype)
        result = R.mean(x, dim=dim if axis is None else axis, keepdim=keepdim)
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
        dim = dim if axis is None else axis
        if isinstance(dim, bool):  # PyTorch's var(unbiased)
            dim, unbiased = None, dim
        correction = correction if unbiased is None else int(unbiased)
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
        dim = dim if axis is None else axis
        if isinstance(dim, bool):  # PyTorch's std(unbiased)
            dim, unbiased = None, dim
        correction = correction if unbiased is None else int(unbiased)
        return R.std(self, dim=dim, correction=correction, keepdim=keepdim)

    def prod(
        self, dim: _int | None = None, keepdim: _bool = False, dtype: Any = None, axis: _int | None = None
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
    def max(self, dim: Tensor | None = None, keepdim: _bool = False, axis: None = None) -> Self: ...
    @overload
    def max(self, dim: _int, keepdim: _bool = False, axis: None = None) -> ValuesAndIndices: ...
    @overload
    def max(self, dim: None = None, keepdim: _bool = False, *, axis: _int) -> ValuesAndIndices: ...
    @explained
    def max(self, dim: Any = None, keepdim: _bool = False, axis: Any = None) -> Any:
        """Largest element; with `dim`, `(values, indices)`; with a tensor, the larger of each pair.

        Raises `ShapeError` where there is no element, `OutOfRangeError` for a dimension that is not there.

        >>> Tensor([[1, 5], [4, 2]]).max(dim=1).indices
        tensor([1, 0])
        """
        return self._extreme(R.amax, R.argmax, E.maximum, dim if axis is None else axis, keepdim)

    @overload
    def min(self, dim: Tensor | None = None, keepdim: _bool = False, axis: None = None) -> Self: ...
    @overload
    def min(self, dim: _int, keepdim: _bool = False, axis: None = None) -> ValuesAndIndices: ...
    @overload
    def min(self, dim: None = None, keepdim: _bool = False, *, axis: _int) -> ValuesAndIndices: ...
    @explained
    def min(self, dim: Any = None, keepdim: _bool = False, axis: Any = None) -> Any:
        """Smallest element; with `dim`, `(values, indices)`; with a tensor, the smaller of each pair.

        Raises as `max` does.

        >>> Tensor([3, 1, 2]).min(), Tensor([3, 1, 2]).min(Tensor([2, 2, 2]))
        (tensor(1), tensor([2, 1, 2]))
        """
        return self._extreme(R.amin, R.argmin, E.minimum, dim if axis is None else axis, keepdim)

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

    def cumsum(self, dim: _int, dtype: Any = None) -> Self:
        """Running sum along `dim`."""
        return R.cumsum(self if dtype is None else self.to(dtype), dim=dim)

    @explained
    def sort(self, dim: _int = -1, descending: _bool = False, stable: _bool = False) -> ValuesAndIndices:
        """Ordered along `dim`: `(values, indices)`; raises `OutOfRangeError` for a dimension that is not there.

        >>> Tensor([3, 1, 2]).sort(descending=True).indices
        tensor([0, 2, 1])
        """
        indices = R.argsort(self, dim=dim, descending=descending, stable=stable)
        return ValuesAndIndices(I.take_along_dim(self, indices, dim=dim) if self.ndim else self.clone(), indices)

    def argsort(self, dim: _int = -1, descending: _bool = False, stable: _bool = False) -> Self:
        """Indices that order the elements along `dim`."""
        return R.argsort(self, dim=dim, descending=descending, stable=stable)

    @explained
    def topk(self, k: _int, dim: _int = -1, largest: _bool = True) -> ValuesAndIndices:
        """The `k` largest (or smallest) along `dim`, best first: `(values, indices)`.

        Raises `ShapeError` where there are fewer, `OutOfRangeError` for a tensor without dimensions.

        >>> Tensor([3, 1, 4, 2]).topk(2).values
        tensor([4, 3])
        """
        self._own_dim("topk", dim)
        indices = R.topk_indices(self, k=k, dim=dim, largest=largest)
        return ValuesAndIndices(I.take_along_dim(self, indices, dim=dim), indices)

    # --- element by element

    def clip(self, min: _float | Tensor | None = None, max: _float | Tensor | None = None) -> Self:
        """Limited to [min, max], which are numbers or tensors; raises `ShapeError` where both are None.

        >>> Tensor([1, 2, 3]).clip(max=Tensor([3, 1, 1]))
        tensor([1, 1, 1])
        """
        return E.clip(self, min, max)

    clamp = clip

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


def _format(array: Array) -> str:
    """The numbers as PyTorch prints them: four digits, large tensors abridged, columns aligned."""
    if not array.size:
        return "[]"
    if array.dtype == np.bool_ and array.ndim:
        width = 4 if array.all() else 5  # NumPy leaves room for False where there is none
        return _text(array, formatter={"bool": lambda value: f"{value!s:>{width}}"})
    if array.ndim == 1 and array.dtype.kind == "f" and array.size <= _SHOWN:
        finite = np.isfinite(array)
        if not finite.all():  # in a vector, nan and inf widen no other number
            numbers = _text(np.where(finite, array, 0), max_line_width=1 << 30)[1:-1].split(", ")
            words = [number if known else f"{x:>{len(number)}}" for number, known, x in zip(numbers, finite, array)]
            return _text(np.array(words, object), formatter={"all": str})
    return _text(array)


_SHOWN = 1000
"""Of more elements than this, only the ones at the edges are printed."""


def _text(array: Array, max_line_width: _int = 80, **options: Any) -> str:
    layout: dict[str, Any] = {"separator": ", ", "prefix": "tensor(", "threshold": _SHOWN}
    return np.array2string(array, precision=4, floatmode="maxprec", max_line_width=max_line_width, **layout, **options)


set_base_tensor_type(Tensor)
