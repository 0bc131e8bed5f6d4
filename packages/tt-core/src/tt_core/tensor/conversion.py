"""Module 01, tensor: from Python data and NumPy's arrays to a tensor, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine import mutation
from tt_core.engine.dispatch import Array, HasArray, quietly
from tt_core.engine.errors import DTypeError, ShapeError, kind_of, shown
from tt_core.engine.heap import LINE, address_of

if TYPE_CHECKING:
    from tt_core.engine.hints import DTypeLike, TensorLike

# --- into a tensor


def as_array(data: TensorLike, dtype: DTypeLike | None = None, what: str = "tensor") -> Array:
    """`data` as an array: Python floats become float32, integers int64; arrays keep their dtype and their memory.

    `what` is named in error messages. Raises `ShapeError` for ragged lists, `DTypeError` for anything but numbers and
    booleans.

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
        read = array if given or dtype is None else np.asarray(data)  # with a dtype, NumPy converts None to nan
    except (ValueError, TypeError, OverflowError) as error:
        fact = "nested lists must have the same length" if "inhomogeneous" in str(error) else error
        raise (kind_of(error) or ShapeError)(f"{what}: {fact}") from None
    for held in (read, array):
        if held.dtype.kind not in "fiub":
            raise DTypeError(f"{what}: holds numbers or booleans, got {_foreign(held, data if held is read else None)}")
    if dtype is None and not given and array.dtype == np.float64 and not _holds_float64(data):
        array = quietly(array.astype, np.float32)
    return array if array.dtype.isnative else array.astype(native(array.dtype))


def native(dtype: np.dtype[Any]) -> Any:
    """A dtype in this machine's byte order, in which everything is computed and saved.

    >>> native(np.dtype(">f4")) == np.float32, native(np.dtype("<f4")) == np.float32
    (True, True)
    """
    return dtype.newbyteorder("=")


def _unwrap_nested(data: Any) -> Any:
    return [
        _unwrap_nested(part) if isinstance(part, (list, tuple)) else part.data if isinstance(part, HasArray) else part
        for part in data
    ]


def _holds_float64(data: Any) -> bool:
    """Whether nested lists hold an array or a NumPy number of float64, which keeps its precision."""
    if not isinstance(data, (list, tuple)):
        return getattr(data, "dtype", None) == np.float64
    if set(map(type, data)) <= {float, int, bool}:
        return False
    return any(map(_holds_float64, data))


def _foreign(array: Array, data: object) -> str:
    """What is not a number in `array`, which was made from `data`, or from None if a dtype was given."""
    if array.dtype.kind == "U" and isinstance(data, (str, list, tuple)):
        return f"text, {shown(data)}"
    if array.dtype != object:
        return f"dtype {array.dtype}"
    others = (type(entry).__name__ for entry in array.flat if not isinstance(entry, (int, float)))
    return next(others, "an integer of more than 64 bits")


# --- out of a tensor


class Convertible(HasArray):
    """What `Tensor` inherits to become a NumPy array or Python's numbers."""

    def numpy(self, *, force: bool = False) -> Array:
        """The array itself; it shares memory with the tensor. `force`, which PyTorch has, changes nothing."""
        return self.data

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False and dtype is not None and np.dtype(dtype) != self.data.dtype:
            raise ShapeError(f"numpy: {self.data.dtype} as {np.dtype(dtype)} needs a copy")
        return np.array(self.data, dtype=dtype) if copy else np.asarray(self.data, dtype=dtype)

    def item(self) -> Any:
        """The only element as a Python number; raises `ShapeError` unless there is exactly one."""
        if self.data.size != 1:
            raise ShapeError(f"item: needs exactly one element, got shape {self.data.shape}; use tolist()")
        return self.data.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self.data.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.data.dtype.kind not in "iu":
            raise DTypeError(f"index: needs an integer tensor, got {self.data.dtype}")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.data.size != 1:
            raise ShapeError(f"bool: shape {self.data.shape} has no single truth value; use any() or all()")
        return bool(self.data.item())


# --- into another tensor


def copy_of(array: Array, memo: dict[int, Any]) -> Array:
    """A copy for `copy.deepcopy`: copies of arrays that share memory share memory too, as in PyTorch.

    `memo` holds the copies of whole blocks of memory, by the array that owns them. A copy begins at the same place
    within a cache line as its original.

    >>> x = np.arange(6)
    >>> memo = {}
    >>> np.shares_memory(copy_of(x[:4], memo), copy_of(x[2:], memo))
    True
    """
    owner = mutation.owner(array)
    if not (array.flags.writeable and owner.flags.c_contiguous):
        return array.copy()
    if id(owner) not in memo:
        memory = np.empty(owner.nbytes + LINE, np.uint8)
        copied = np.ndarray(owner.shape, owner.dtype, memory, (address_of(owner) - address_of(memory)) % LINE)
        copied[...] = owner
        memo[id(owner)] = copied
        memo.setdefault(id(memo), []).append(owner)  # kept until the end, so that no other array gets its id
    offset = address_of(array) - address_of(owner)
    return np.ndarray(array.shape, array.dtype, memo[id(owner)], offset, array.strides)
