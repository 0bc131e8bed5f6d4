"""Module 01, tensor: the ops that arrange elements and compute nothing. Most return a view of the same memory.

`docs/views.md` lists which do; a test holds the list against the code.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tt_core.dispatch import Array, op


@op
def reshape(x: Array, /, shape: tuple[int, ...]) -> Array:
    """The same elements in another shape (one -1 is worked out); a view where the memory allows it."""
    return _reshaped(x, shape)


def _reshaped(x: Array, shape: tuple[int, ...]) -> Array:
    result = np.reshape(x, shape)
    if result.shape != shape and min(shape) < -1:  # NumPy works out any negative size
        raise ValueError(f"{shape} has a negative size; only one -1 is worked out")
    return result


@op
def view(x: Array, /, shape: tuple[int, ...]) -> Array:
    """The same memory in another shape; raises where that would need a copy."""
    result = _reshaped(x, shape)
    if x.size and not np.may_share_memory(result, x):
        strides = tuple(step // x.itemsize for step in x.strides)  # in elements, as Tensor.strides tells them
        raise ValueError(f"strides {strides} do not allow a view of shape {shape}; use reshape, which copies")
    return result


@op
def permute(x: Array, /, dims: tuple[int, ...]) -> Array:
    """Dimensions in another order; a view."""
    return np.transpose(x, dims)


@op
def transpose(x: Array, /, dim0: int, dim1: int) -> Array:
    """Two dimensions exchanged; a view."""
    return np.swapaxes(x, dim0, dim1)


@op
def squeeze(x: Array, /, dim: int | tuple[int, ...] | None = None) -> Array:
    """Without dimensions of size 1 (all, or those of `dim` that are 1); a view."""
    if dim is None:
        return np.squeeze(x)
    dims = normalize_axis_tuple(dim, x.ndim or 1)
    return np.squeeze(x, axis=tuple(d for d in dims if x.shape[d : d + 1] == (1,)))


@op
def unsqueeze(x: Array, /, dim: int) -> Array:
    """With a dimension of size 1 inserted at `dim`; a view."""
    return np.expand_dims(x, dim)


@op
def expand(x: Array, /, shape: tuple[int, ...]) -> Array:
    """Dimensions of size 1 repeated to `shape` (-1 keeps a size); a read-only view that costs no memory."""
    lead = len(shape) - x.ndim
    sizes = tuple(x.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(shape))
    return np.broadcast_to(x, sizes)


@op
def contiguous(x: Array, /) -> Array:
    """Row by row in memory; `x` itself where it is so already."""
    return np.ascontiguousarray(x) if x.ndim else x


@op
def clone(x: Array, /) -> Array:
    """A copy in memory of its own."""
    return np.array(x, order="C")


@op
def cast(x: Array, /, dtype: Any) -> Array:
    """In another dtype; `x` itself where it has it already."""
    with np.errstate(invalid="ignore"):  # nan as an integer
        return x.astype(dtype, copy=False)


@op
def getitem(x: Array, /, index: Any) -> Array:
    """`x[index]`: a view for integers, slices, None and `...`; a copy for index arrays and masks."""
    taken = x[index]
    if isinstance(taken, np.ndarray):
        return taken
    # a single element, which NumPy copies out unless asked for an array
    return x[(*index, ...)] if isinstance(index, tuple) else x[index, ...]


@op
def getitem_backward(g: Array, /, index: Any, shape: tuple[int, ...]) -> Array:
    """Gradient of `getitem`: `g` put where it was taken from, added up where an element was taken twice."""
    total = np.zeros(shape, dtype=g.dtype)
    if is_basic_index(index):
        total[index] = g
    else:
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
    """`x` at `indices` along `dim`, which has the shape of `indices` in the result."""
    return np.take_along_axis(x, indices, axis=dim)


@op
def take_along_dim_backward(g: Array, indices: Array, /, dim: int, shape: tuple[int, ...]) -> Array:
    """Gradient of `take_along_dim`: `g` added up where it was taken from."""
    total = np.zeros(shape, dtype=g.dtype)
    # a dimension of size 1 was broadcast: its one element was taken each time
    grid: list[Any] = list(np.ogrid[tuple(slice(n) for n in g.shape)])
    grid = [at if n > 1 else np.zeros_like(at) for at, n in zip(grid, shape)]
    grid[dim] = indices
    np.add.at(total, tuple(grid), g)
    return total


@op
def index_select(x: Array, index: Array, /, dim: int) -> Array:
    """Rows of `dim` chosen by a one-dimensional `index` of integers."""
    if np.ndim(index) > 1:
        raise ValueError("index must have one dimension")
    if (held := np.asarray(index).dtype).kind not in "iu":  # a mask would count as zeros and ones
        raise TypeError(f"index must hold integers, got {held}")
    return np.take(x, index, axis=dim)


@op(name="cat")
def concatenate(*tensors: Array, dim: int = 0) -> Array:
    """Joined along an existing dimension."""
    return np.concatenate(tensors, axis=dim)


@op(name="stack")
def stack_arrays(*tensors: Array, dim: int = 0) -> Array:
    """Joined along a new dimension."""
    return np.stack(tensors, axis=dim)


@op
def flip(x: Array, /, dims: int | tuple[int, ...]) -> Array:
    """In reverse order along `dims`; a view."""
    return np.flip(x, axis=dims)


@op
def roll(x: Array, /, shifts: int, dim: int | None = None) -> Array:
    """Shifted along `dim` (None: as if flattened), what leaves at one end entering at the other."""
    return np.roll(x, shifts, axis=dim)


@op
def pad(x: Array, /, pad: Sequence[int], value: float = 0.0) -> Array:
    """Widened by `pad`: (before, after) pairs from the last dimension backwards, filled with `value`."""
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ValueError(f"pad has {len(pad)} entries; expected a (before, after) pair for at most {x.ndim} dimensions")
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    return np.pad(x, [(0, 0)] * (x.ndim - len(pairs)) + pairs, constant_values=value)


def _matrices(x: Array) -> Array:
    if x.ndim < 2:
        raise ValueError("needs at least two dimensions")  # NumPy would repeat a row
    return x


@op
def tril(x: Array, /, diagonal: int = 0) -> Array:
    """Lower triangle of the last two dimensions, zero above `diagonal`."""
    return np.tril(_matrices(x), diagonal)


@op
def triu(x: Array, /, diagonal: int = 0) -> Array:
    """Upper triangle of the last two dimensions, zero below `diagonal`."""
    return np.triu(_matrices(x), diagonal)


@op
def repeat_interleave(x: Array, /, repeats: int, dim: int) -> Array:
    """Each element of `dim` `repeats` times in a row."""
    return np.repeat(x, repeats, axis=dim)
