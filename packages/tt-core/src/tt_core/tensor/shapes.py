"""Module 01, tensor: the ops that arrange elements and compute nothing. Most return a view of the same memory.

`docs/views.md` lists which do; a test holds the list against the code.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tt_core.engine.dispatch import Array, HasArray, op
from tt_core.engine.errors import DTypeError, shown
from tt_core.tensor.elementwise import half_in_float32


def as_size(name: str, given: tuple[Any, ...]) -> tuple[int, ...]:
    """The size that `name` was given, in integers: `x.view(2, 3)` and `x.view((2, 3))` mean the same.

    Raises `DTypeError` for what is no integer.

    >>> as_size("view", ((2, 3),))
    (2, 3)
    """
    sizes = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    try:
        return tuple([operator.index(n) for n in sizes])
    except TypeError:
        raise DTypeError(f"{name}: takes integers, got {', '.join(map(shown, sizes))}") from None


@op(view=True)
def reshape(x: Array, /, shape: tuple[int, ...]) -> Array:
    """The same elements in another shape, one -1 worked out; a view where the memory allows it.

    Raises `ShapeError` for a shape of another number of elements.

    >>> reshape(np.arange(6), (2, -1))
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    return _reshaped(x, shape)


def _reshaped(x: Array, shape: tuple[int, ...]) -> Array:
    result = np.reshape(x, shape)
    if result.shape != shape and min(shape) < -1:  # NumPy works out any negative size
        raise ValueError(f"{shape} has a negative size; only one -1 is worked out")
    return result


@op(view=True)
def view(x: Array, /, shape: tuple[int, ...]) -> Array:
    """The same memory in another shape; raises `ShapeError` where that would need a copy.

    >>> view(np.arange(6), (3, 2)).shape
    (3, 2)
    """
    result = _reshaped(x, shape)
    if x.size and not np.may_share_memory(result, x):
        strides = tuple(step // x.itemsize for step in x.strides)  # in elements, as Tensor.strides tells them
        raise ValueError(f"strides {strides} do not allow a view of shape {shape}; use reshape, which copies")
    return result


@op(view=True)
def permute(x: Array, /, dims: tuple[int, ...]) -> Array:
    """Dimensions in another order, a view; raises `ShapeError` unless each is named once.

    >>> permute(np.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    return np.transpose(x, dims)


@op(view=True)
def transpose(x: Array, /, dim0: int, dim1: int) -> Array:
    """Two dimensions exchanged, a view; raises `OutOfRangeError` for one that is not there.

    >>> transpose(np.array([[1, 2], [3, 4]]), 0, 1)
    tensor([[1, 3],
            [2, 4]])
    """
    return np.swapaxes(x, dim0, dim1)


@op(view=True)
def squeeze(x: Array, /, dim: int | tuple[int, ...] | None = None) -> Array:
    """Without dimensions of size 1 (all, or those of `dim` that are 1), a view; raises `OutOfRangeError` beyond them.

    >>> squeeze(np.zeros((1, 3, 1))).shape, squeeze(np.zeros((1, 3, 1)), dim=0).shape
    ((3,), (3, 1))
    """
    if dim is None:
        return np.squeeze(x)
    dims = normalize_axis_tuple(dim, x.ndim or 1)
    return np.squeeze(x, axis=tuple(d for d in dims if x.shape[d : d + 1] == (1,)))


@op(view=True)
def unsqueeze(x: Array, /, dim: int) -> Array:
    """With a dimension of size 1 inserted at `dim`, a view; raises `OutOfRangeError` beyond those of the result.

    >>> unsqueeze(np.zeros((2, 3)), 1).shape
    (2, 1, 3)
    """
    return np.expand_dims(x, dim)


@op(view=True)
def expand(x: Array, /, shape: tuple[int, ...]) -> Array:
    """Dimensions of size 1 repeated to `shape` (-1 keeps a size); a read-only view that costs no memory.

    Raises `ShapeError` where another size would have to change.

    >>> expand(np.array([[1], [2]]), (-1, 3))
    tensor([[1, 1, 1],
            [2, 2, 2]])
    """
    lead = len(shape) - x.ndim
    sizes = tuple(x.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(shape))
    return np.broadcast_to(x, sizes)


@op(view=True)
def contiguous(x: Array, /) -> Array:
    """Row by row in memory; `x` itself where it is so already.

    >>> contiguous(np.ones((2, 3)).T).is_contiguous()
    True
    """
    return np.ascontiguousarray(x) if x.ndim else x


@op
def clone(x: Array, /) -> Array:
    """A copy in memory of its own, row by row.

    >>> x = np.arange(3)
    >>> np.shares_memory(clone(x).numpy(), x)
    False
    """
    return np.array(x, order="C")


@op(view=True)
def cast(x: Array, /, dtype: Any) -> Array:
    """In another dtype, `x` itself where it has it already; raises `DTypeError` for what NumPy knows no dtype by.

    >>> cast(np.array([1.7, -1.7]), "int64")
    tensor([ 1, -1])
    """
    return x.astype(dtype, copy=False)


@op(view=True)
def getitem(x: Array, /, index: Any) -> Array:
    """`x[index]`: a view for integers, slices, None and `...`; a copy for index arrays and masks.

    Raises `OutOfRangeError` for an entry that is not there.

    >>> getitem(np.array([[1, 2], [3, 4]]), (slice(None), 1))
    tensor([2, 4])
    """
    taken = x[index]
    if isinstance(taken, np.ndarray):
        return taken
    # a single element, which NumPy copies out unless asked for an array
    return x[(*index, ...)] if isinstance(index, tuple) else x[index, ...]


@op
def getitem_backward(g: Array, /, index: Any, shape: tuple[int, ...]) -> Array:
    """Gradient of `getitem`: `g` put where it was taken from, added up where an element was taken twice.

    >>> getitem_backward(np.array([1, 2, 4]), index=[0, 0, 2], shape=(3,))
    tensor([3, 0, 4])
    """
    if is_basic_index(index):
        total = np.zeros(shape, dtype=g.dtype)
        total[index] = g
        return total
    return _scattered(g, index, shape)


@half_in_float32
def _scattered(g: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """`g` added to zeros at `index`."""
    total = np.zeros(shape, dtype=g.dtype)
    np.add.at(total, index, g)
    return total


def is_basic_index(index: Any) -> bool:
    """Whether `index` takes each element at most once and NumPy answers with a view."""
    parts = index if isinstance(index, tuple) else (index,)
    return builtins.all(
        part is None or part is ... or (isinstance(part, (slice, int, np.integer)) and not isinstance(part, bool))
        for part in parts
    )


@op
def take_along_dim(x: Array, indices: Array, /, dim: int) -> Array:
    """`x` at `indices` along `dim`, which has the shape of `indices` in the result.

    Raises `ShapeError` where the numbers of dimensions differ, `OutOfRangeError` for an index that is not there.

    >>> take_along_dim(np.array([[1, 2], [3, 4]]), np.array([[1], [0]]), dim=1)
    tensor([[2],
            [3]])
    """
    return np.take_along_axis(x, indices, axis=dim)


@op
def take_along_dim_backward(g: Array, indices: Array, /, dim: int, shape: tuple[int, ...]) -> Array:
    """Gradient of `take_along_dim`: `g`, which has the shape of `indices`, added up where it was taken from.

    >>> take_along_dim_backward(np.array([1, 2, 4]), np.array([0, 0, 2]), dim=0, shape=(3,))
    tensor([3, 0, 4])
    """
    # a dimension of size 1 was broadcast: its one element was taken each time
    grid: list[Any] = list(np.ogrid[tuple(slice(n) for n in g.shape)])
    grid = [at if n > 1 else np.zeros_like(at) for at, n in zip(grid, shape)]
    grid[dim] = indices
    return _scattered(g, tuple(grid), shape)


@op
def index_select(x: Array, index: Array, /, dim: int) -> Array:
    """Rows of `dim` chosen by a one-dimensional `index` of integers.

    Raises `DTypeError` for an index of anything else, `OutOfRangeError` for a row that is not there or is negative.

    >>> index_select(np.array([[1, 2, 3], [4, 5, 6]]), np.array([2, 0]), dim=1)
    tensor([[3, 1],
            [6, 4]])
    """
    if np.ndim(index) > 1:
        raise ValueError("index must have one dimension")
    if (held := np.asarray(index).dtype).kind not in "iu":  # a mask would count as zeros and ones
        raise TypeError(f"index must hold integers, got {held}")
    index = np.atleast_1d(index)
    if index.size and index.min() < 0:
        raise IndexError(f"index {index.min()} is negative; entries are counted from 0")
    if x.ndim:
        return np.take(x, index, axis=dim)
    if len(index) != 1:
        raise ValueError(f"index must have one entry for a tensor without dimensions, got {len(index)}")
    return np.take(x.reshape(1), index, axis=dim).reshape(())


@op(name="cat")
def concatenate(*tensors: Array, dim: int = 0) -> Array:
    """Joined along an existing dimension; tensors of shape (0,) join with any other, as in PyTorch.

    Raises `ShapeError` where the other dimensions differ.

    >>> concatenate(np.array([1, 2]), np.array([3]))
    tensor([1, 2, 3])
    """
    shaped = [x for x in tensors if getattr(x, "shape", None) != (0,)]
    if 0 < len(shaped) < len(tensors):  # the loop that began with an empty tensor
        return np.concatenate(shaped, axis=dim, dtype=np.result_type(*tensors))
    return np.concatenate(tensors, axis=dim)


@op(name="stack")
def stack_arrays(*tensors: Array, dim: int = 0) -> Array:
    """Joined along a new dimension; raises `ShapeError` where the shapes differ.

    >>> stack_arrays(np.array([1, 2]), np.array([3, 4]), dim=1)
    tensor([[1, 3],
            [2, 4]])
    """
    return np.stack(tensors, axis=dim)


@op(view=True)
def flip(x: Array, /, dims: int | tuple[int, ...]) -> Array:
    """In reverse order along `dims`, a view; raises `OutOfRangeError` for one that is not there.

    >>> flip(np.array([[1, 2], [3, 4]]), 1)
    tensor([[2, 1],
            [4, 3]])
    """
    return np.flip(x, axis=dims)


@op
def roll(x: Array, /, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Array:
    """Shifted along one dimension or several; elements that leave at one end enter at the other.

    Without `dims`, the tensor is rolled as if flattened. Raises `ShapeError` unless there is a shift for each
    dimension, `OutOfRangeError` for a dimension that is not there.

    >>> roll(np.array([1, 2, 3, 4]), 1)
    tensor([4, 1, 2, 3])
    """
    steps = as_size("roll", (shifts,))
    along = None if dims is None else as_size("roll", (dims,))
    if len(steps) != (1 if along is None else len(along)):
        raise ValueError(f"needs a shift for each dimension, got {len(steps)} for {len(along or ())}")
    return np.roll(x, steps[0], axis=None) if along is None else np.roll(x, steps, axis=along)


@op
def pad(x: Array, /, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Array:
    """Widened by `pad`: (before, after) pairs from the last dimension backwards; a negative width cuts entries off.

    `mode` says what the new entries are: "constant" (`value`, 0 by default), "reflect" (mirrored at the edge, which is
    not repeated), "replicate" (the edge) or "circular" (from the other end). Raises `ShapeError` for an unknown mode,
    for a width that cuts off more than there is or mirrors more than there is, and for more or half pairs.

    >>> pad(np.array([[1, 2]]), (0, 1, 1, 0))
    tensor([[0, 0, 0],
            [1, 2, 0]])
    """
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ValueError(f"pad has {len(pad)} entries; expected a (before, after) pair for at most {x.ndim} dimensions")
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    if any(before + n + after < 0 for (before, after), n in zip(pairs, x.shape)):
        raise ValueError(f"pad {tuple(pad)} cuts off more than there is")
    if mode != "constant":
        indices = [_padded_index(n, width, mode) for n, width in zip(x.shape, pairs)]
        widened = x
        for axis, (width, index) in enumerate(zip(pairs, indices)):
            if any(width):  # one dimension at a time: a fifth of the time of one index for all
                widened = np.take(widened, index, axis)
        return x.copy() if widened is x else widened
    kept = tuple([slice(max(0, -before), n - max(0, -after)) for (before, after), n in zip(pairs, x.shape)])
    widths = [(max(0, before), max(0, after)) for before, after in pairs]
    return np.pad(x[kept], widths, constant_values=value or 0)


_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""PyTorch's names and NumPy's."""


def _padded_index(size: int, width: tuple[int, int], mode: str) -> Array:
    """Which entry of a dimension each entry of the padded one is taken from."""
    before, after = width
    known = _PAD_MODES.get(mode)
    if known is None:
        raise ValueError(f"mode is one of constant, {', '.join(_PAD_MODES)}, got {mode!r}")
    most = {"reflect": size - 1, "circular": size, "replicate": math.inf if size else 0}[mode]
    if max(before, after) > most:
        raise ValueError(f"mode {mode!r} widens a dimension of {size} by at most {most}, got {max(before, after)}")
    if mode == "circular":  # what is cut off is cut off first
        kept = np.arange(size)[max(0, -before) : size - max(0, -after)]
        return np.pad(kept, (max(0, before), max(0, after)), mode="wrap")
    whole = np.pad(np.arange(size), (max(0, before), max(0, after)), mode=known)  # type: ignore[call-overload]
    return whole[max(0, -before) : len(whole) - max(0, -after)]


@op
def pad_backward(g: Array, /, pad: Sequence[int], mode: str, shape: tuple[int, ...]) -> Array:
    """Gradient of `pad` with another mode than "constant": `g` added up where its entries were taken from."""
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    pairs = [(0, 0)] * (len(shape) - len(pairs)) + pairs
    return _scattered(g, np.ix_(*[_padded_index(n, width, mode) for n, width in zip(shape, pairs)]), shape)


def _matrices(x: Array) -> Array:
    if x.ndim < 2:
        raise ValueError("needs at least two dimensions")  # NumPy would repeat a row
    return x


@op
def tril(x: Array, /, diagonal: int = 0) -> Array:
    """Lower triangle of the last two dimensions, zero above `diagonal`; raises `ShapeError` where there are fewer.

    >>> tril(np.ones((2, 3), int))
    tensor([[1, 0, 0],
            [1, 1, 0]])
    """
    return np.tril(_matrices(x), diagonal)


@op
def triu(x: Array, /, diagonal: int = 0) -> Array:
    """Upper triangle of the last two dimensions, zero below `diagonal`; raises `ShapeError` where there are fewer.

    >>> triu(np.ones((2, 3), int), diagonal=1)
    tensor([[0, 1, 1],
            [0, 0, 1]])
    """
    return np.triu(_matrices(x), diagonal)


@op
def repeat_interleave(x: Array, /, repeats: Any, dim: int | None = None) -> Array:
    """Each entry of `dim` (None: of the flattened tensor) `repeats` times in a row: a number, or one for each entry.

    Raises `ShapeError` for a negative number of times.

    >>> repeat_interleave(np.array([1, 2]), 2, dim=0)
    tensor([1, 1, 2, 2])
    """
    return np.repeat(x, repeats_of(repeats), axis=dim)


def repeats_of(repeats: Any) -> Any:
    """`repeats` without its tensor; raises `DTypeError` for what holds no integers.

    >>> repeats_of([1, 2])
    array([1, 2])
    """
    counts = np.asarray(repeats.data if isinstance(repeats, HasArray) else repeats)
    if counts.dtype.kind not in "iu":
        raise DTypeError(f"repeat_interleave: repeats must hold integers, got {counts.dtype}")
    return counts
