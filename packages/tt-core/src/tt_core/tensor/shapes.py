"""Module 01, tensor: the ops that arrange elements and compute nothing. Most return a view of the same memory.

`docs/views.md` lists which ones do; `memory_table.py` prints it. `pad` is in `padding.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tt_core.engine.dispatch import Array, HasArray, op
from tt_core.engine.errors import ArgumentError, DTypeError
from tt_core.tensor.indexing import getitem as getitem
from tt_core.tensor.indexing import take_along_dim as take_along_dim
from tt_core.tensor.padding import pad as pad
from tt_core.tensor.padding import padded_places as padded_places
from tt_core.tensor.sizes import as_size as as_size
from tt_core.tensor.sizes import new_size as new_size
from tt_core.tensor.sizes import repeats_of as repeats_of

if TYPE_CHECKING:
    from tt_core.engine.hints import DTypeLike
    from tt_core.tensor.tensor import Tensor


@op(view=True)
def reshape(x: Array, /, shape: tuple[int, ...]) -> Array:
    """The same elements in another shape, a view if possible; one size may be -1, and follows from the others.

    Raises `ShapeError` for a shape with another number of elements.

    >>> reshape(np.arange(6), (2, -1))
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    return _reshaped(x, shape)


def _reshaped(x: Array, shape: tuple[int, ...]) -> Array:
    result = np.reshape(x, shape)  # copies only if the strides cannot express the new shape
    if result.shape != shape and min(shape) < -1:  # NumPy works out any negative size
        raise ValueError(f"{shape} has a negative size; only one size may be -1")
    return result


@op(view=True)
def view(x: Array, /, shape: tuple[int, ...]) -> Array:
    """The same memory in another shape; raises `ShapeError` if that needs a copy.

    >>> view(np.arange(6), (3, 2)).shape
    (3, 2)
    """
    result = _reshaped(x, shape)
    if x.size and not np.may_share_memory(result, x):
        strides = tuple(step // x.itemsize for step in x.strides)  # in elements, as in Tensor.strides
        raise ValueError(f"strides {strides} do not allow a view of shape {shape}; use reshape, which copies")
    return result


@op(view=True)
def permute(x: Array, /, dims: tuple[int, ...]) -> Array:
    """Dimensions in another order, a view; raises `ShapeError` unless each occurs once.

    >>> permute(np.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    return np.transpose(x, dims)  # strides in another order; the elements stay where they are


@op(view=True)
def transpose(x: Array, /, dim0: int, dim1: int) -> Array:
    """Two dimensions exchanged, a view; raises `OutOfRangeError` for one that does not exist.

    >>> transpose(np.array([[1, 2], [3, 4]]), 0, 1)
    tensor([[1, 3],
            [2, 4]])
    """
    return np.swapaxes(x, dim0, dim1)  # only the strides change, no element moves


@op(view=True)
def squeeze(x: Array, /, dim: int | tuple[int, ...] | None = None) -> Array:
    """Removes dimensions of size 1 (all, or those of `dim`), a view; raises `OutOfRangeError` beyond them.

    >>> squeeze(np.zeros((1, 3, 1))).shape, squeeze(np.zeros((1, 3, 1)), dim=0).shape
    ((3,), (3, 1))
    """
    if dim is None:
        return np.squeeze(x)
    dims = normalize_axis_tuple(dim, x.ndim or 1)  # NumPy refuses a dimension that is not 1; here it stays
    return np.squeeze(x, axis=tuple(d for d in dims if x.shape[d : d + 1] == (1,)))


@op(view=True)
def unsqueeze(x: Array, /, dim: int) -> Array:
    """Inserts a dimension of size 1 at `dim`, a view; raises `OutOfRangeError` if the result has no such dimension.

    >>> unsqueeze(np.zeros((2, 3)), 1).shape
    (2, 1, 3)
    """
    return np.expand_dims(x, dim)


@op(view=True)
def expand(x: Array, /, shape: tuple[int, ...]) -> Array:
    """Repeats dimensions of size 1 up to `shape` (-1 keeps a size); a read-only view that needs no memory.

    Raises `ShapeError` if another size would have to change.

    >>> expand(np.array([[1], [2]]), (-1, 3))
    tensor([[1, 1, 1],
            [2, 2, 2]])
    """
    lead = len(shape) - x.ndim  # shapes are aligned at their ends, so new dimensions are in front
    sizes = tuple(x.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(shape))
    return np.broadcast_to(x, sizes)  # a stride of 0: all copies are one element in memory, hence read-only


@op(view=True)
def contiguous(x: Array, /) -> Array:
    """Elements row by row in memory; returns `x` itself if they are already.

    >>> contiguous(np.ones((2, 3)).T).is_contiguous()
    True
    """
    return np.ascontiguousarray(x) if x.ndim else x  # NumPy would give () a dimension


@op
def clone(x: Array, /) -> Array:
    """A copy in new memory, row by row.

    >>> x = np.arange(3)
    >>> np.shares_memory(clone(x).numpy(), x)
    False
    """
    return np.array(x, order="C")


@op(view=True)
def cast(x: Array, /, dtype: DTypeLike) -> Array:
    """Converts to `dtype`, and returns `x` itself if it has it already; raises `DTypeError` for an unknown dtype.

    >>> cast(np.array([1.7, -1.7]), "int64")
    tensor([ 1, -1])
    """
    return x.astype(dtype, copy=False)


# --- joining


def _several(name: str, tensors: Any) -> Sequence[Any]:
    if isinstance(tensors, HasArray):
        raise DTypeError(f"{name}: takes a list or tuple of tensors, got one tensor of shape {tensors.data.shape}")
    if not isinstance(tensors, (list, tuple)):
        raise DTypeError(f"{name}: takes a list or tuple of tensors, got {type(tensors).__name__}")
    if not tensors:
        raise ArgumentError(f"{name}: needs at least one tensor")
    return tensors


def _concatenated(*tensors: Array, dim: int = 0) -> Array:
    filled = [x for x in tensors if getattr(x, "shape", None) != (0,)]
    if 0 < len(filled) < len(tensors):  # as in a loop that begins with an empty tensor
        return np.concatenate(filled, axis=dim, dtype=np.result_type(*tensors))
    return np.concatenate(tensors, axis=dim)


@op(formula=_concatenated)
def cat(tensors: Sequence[Tensor | Array], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Joins tensors along an existing dimension; those of shape (0,) join with any other, as in PyTorch.

    `axis` is NumPy's name for `dim`. Raises `ShapeError` if the other sizes differ, `DTypeError` for a single tensor.

    >>> cat([np.array([1, 2]), np.array([3])])
    tensor([1, 2, 3])
    """
    return cat.call(*_several("cat", tensors), dim=dim if axis is None else axis)


def _stacked(*tensors: Array, dim: int = 0) -> Array:
    return np.stack(tensors, axis=dim)


@op(formula=_stacked)
def stack(tensors: Sequence[Tensor | Array], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Joins tensors along a new dimension, `dim` or, as in NumPy, `axis`.

    Raises `ShapeError` if the shapes differ, `DTypeError` for a single tensor.

    >>> stack([np.array([1, 2]), np.array([3, 4])], dim=1)
    tensor([[1, 3],
            [2, 4]])
    """
    return stack.call(*_several("stack", tensors), dim=dim if axis is None else axis)


# --- moving and repeating


@op(view=True)
def flip(x: Array, /, dims: int | tuple[int, ...]) -> Array:
    """Reverses the order along `dims`, a view; raises `OutOfRangeError` for one that does not exist.

    >>> flip(np.array([[1, 2], [3, 4]]), 1)
    tensor([[2, 1],
            [4, 3]])
    """
    return np.flip(x, axis=dims)


@op
def roll(x: Array, /, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Array:
    """Shifts elements along one dimension or several; those that leave at one end enter at the other.

    Without `dims`, the tensor is rolled as if flattened. Raises `ShapeError` unless there is a shift for each
    dimension, `OutOfRangeError` for a dimension that does not exist.

    >>> roll(np.array([1, 2, 3, 4]), 1)
    tensor([4, 1, 2, 3])
    """
    # NumPy broadcasts one shift to all dimensions, but PyTorch requires one for each
    steps = as_size("roll", (shifts,))
    along = None if dims is None else as_size("roll", (dims,))
    if len(steps) != (1 if along is None else len(along)):
        raise ValueError(f"needs a shift for each dimension, got {len(steps)} for {len(along or ())}")
    return np.roll(x, steps[0], axis=None) if along is None else np.roll(x, steps, axis=along)


def _check_matrices(x: Array, /, diagonal: int = 0) -> None:
    if x.ndim < 2:
        raise ValueError("needs at least two dimensions")  # NumPy would repeat a row


@op(check=_check_matrices)
def tril(x: Array, /, diagonal: int = 0) -> Array:
    """Lower triangle of the last two dimensions, zero above `diagonal`; raises `ShapeError` for fewer dimensions.

    >>> tril(np.ones((2, 3), int))
    tensor([[1, 0, 0],
            [1, 1, 0]])
    """
    return np.tril(x, diagonal)


@op(check=_check_matrices)
def triu(x: Array, /, diagonal: int = 0) -> Array:
    """Upper triangle of the last two dimensions, zero below `diagonal`; raises `ShapeError` for fewer dimensions.

    >>> triu(np.ones((2, 3), int), diagonal=1)
    tensor([[0, 1, 1],
            [0, 0, 1]])
    """
    return np.triu(x, diagonal)


@op
def repeat_interleave(x: Array, /, repeats: int | Tensor | Array | Sequence[int], dim: int | None = None) -> Array:
    """Repeats each entry of `dim` (None: of the flattened tensor) `repeats` times: one number, or one for each entry.

    Raises `ShapeError` for a negative number.

    >>> repeat_interleave(np.array([1, 2]), 2, dim=0)
    tensor([1, 1, 2, 2])
    """
    return np.repeat(x, repeats_of(repeats), axis=dim)
