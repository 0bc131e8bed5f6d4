"""Module 01, tensor: the methods that arrange elements. Each names an op of `shapes.py`, or composes several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tt_core.engine.dispatch import HasArray
from tt_core.engine.errors import ArgumentError, OutOfRangeError, ShapeError
from tt_core.tensor import shapes as S
from tt_core.tensor.indexing import getitem

if TYPE_CHECKING:
    from typing_extensions import Self

    from tt_core.engine.protocols import Array
    from tt_core.tensor.tensor import Tensor


class Rearrangeable(HasArray):
    """What `Tensor` inherits to change its shape, to repeat, split, reverse and shift its elements."""

    def reshape(self, *shape: int | Sequence[int]) -> Self:
        """The same elements in another shape; a view if possible, otherwise a copy.

        Raises `ShapeError` for a shape with another number of elements.

        >>> from tt_core import Tensor
        >>> Tensor([1, 2, 3, 4, 5, 6]).reshape(2, -1).shape
        (2, 3)
        """
        return S.reshape(self, shape=S.as_size("reshape", shape))

    def view(self, *shape: int | Sequence[int]) -> Self:
        """The same memory in another shape; raises `ShapeError` if that needs a copy."""
        return S.view(self, shape=S.as_size("view", shape))

    def view_as(self, other: Tensor) -> Self:
        """Same as `view(other.shape)`."""
        return S.view(self, shape=other.shape)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Self:
        """Dimensions `start_dim` to `end_dim` as one; raises `OutOfRangeError` for one that does not exist.

        >>> from tt_core import Tensor
        >>> Tensor(np.zeros((2, 3, 4))).flatten(1).shape
        (2, 12)
        """
        start, end = self._dim("flatten", start_dim), self._dim("flatten", end_dim)
        if start > end:
            raise ShapeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} (shape {self.data.shape})")
        together = math.prod(self.data.shape[start : end + 1])
        return S.reshape(self, shape=(*self.data.shape[:start], together, *self.data.shape[end + 1 :]))

    def unflatten(self, dim: int, sizes: Sequence[int]) -> Self:
        """Dimension `dim` as several; raises `ShapeError` unless the product of `sizes` is its size.

        >>> from tt_core import Tensor
        >>> Tensor(np.zeros((2, 12))).unflatten(1, (3, 4)).shape
        (2, 3, 4)
        """
        dim = self._dim("unflatten", dim)
        return S.reshape(
            self, shape=(*self.data.shape[:dim], *S.as_size("unflatten", (sizes,)), *self.data.shape[dim + 1 :])
        )

    def transpose(self, dim0: int, dim1: int) -> Self:
        """Two dimensions exchanged; a view. Raises `OutOfRangeError` for one that does not exist."""
        return S.transpose(self, dim0=dim0, dim1=dim1)

    def permute(self, *dims: int | Sequence[int]) -> Self:
        """Dimensions in another order; a view. Raises `ShapeError` unless each occurs once."""
        return S.permute(self, dims=S.as_size("permute", dims))

    def squeeze(self, dim: int | tuple[int, ...] | None = None) -> Self:
        """Without dimensions of size 1; a view. Raises `OutOfRangeError` for a dimension that does not exist."""
        return S.squeeze(self, dim=dim)

    def unsqueeze(self, dim: int) -> Self:
        """With a dimension of size 1 at `dim`; a view. Raises `OutOfRangeError` if the result has no such dimension."""
        return S.unsqueeze(self, dim=dim)

    def expand(self, *shape: int | Sequence[int]) -> Self:
        """Repeats dimensions of size 1 without new memory; a read-only view.

        Raises `ShapeError` if another size would have to change.
        """
        return S.expand(self, shape=S.as_size("expand", shape))

    def expand_as(self, other: Tensor) -> Self:
        """Same as `expand(other.shape)`."""
        return S.expand(self, shape=other.shape)

    def repeat(self, *sizes: int | Sequence[int]) -> Self:
        """Copies side by side: `sizes[i]` times along dimension i (PyTorch's `repeat`, NumPy's `tile`).

        Raises `ShapeError` for fewer sizes than dimensions and for a negative one.

        >>> from tt_core import Tensor
        >>> Tensor([1, 2]).repeat(2, 2)
        tensor([[1, 2, 1, 2],
                [1, 2, 1, 2]])
        """
        sizes = S.as_size("repeat", sizes)
        lead = len(sizes) - self.data.ndim
        if lead < 0 or min(sizes, default=0) < 0:
            raise ShapeError(
                f"repeat: needs a size for each dimension, 0 or more, got {sizes} for shape {self.data.shape}"
            )
        shape = (1,) * lead + self.data.shape
        spread = S.expand(
            S.reshape(self, shape=tuple(n for size in shape for n in (1, size))),
            shape=tuple(n for pair in zip(sizes, shape) for n in pair),
        )
        # without the copy, whole rows side by side would stay a view, and a read-only one
        return S.reshape(S.clone(spread), shape=tuple(a * b for a, b in zip(sizes, shape)))

    def repeat_interleave(self, repeats: int | Tensor | Array | Sequence[int], dim: int | None = None) -> Self:
        """Repeats each entry of `dim` (None: of the flattened tensor) `repeats` times: one number, or one for each.

        Raises `ShapeError` for a negative number.
        """
        return S.repeat_interleave(self, repeats=S.repeats_of(repeats), dim=dim)

    def split(self, split_size: int | Sequence[int], dim: int = 0) -> tuple[Self, ...]:
        """Pieces of one size (the last may be smaller) or of the listed sizes; views.

        Raises `ArgumentError` for a size below 1, `ShapeError` for a list that does not add up, `OutOfRangeError` for a
        `dim` that does not exist.

        >>> from tt_core import Tensor
        >>> Tensor([1, 2, 3, 4, 5]).split(2)
        (tensor([1, 2]), tensor([3, 4]), tensor([5]))
        """
        dim = self._own_dim("split", dim)
        total = self.data.shape[dim]
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

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Self, ...]:
        """At most `chunks` pieces of equal size, the last may be smaller; views. Raises `ArgumentError` below 1.

        >>> from tt_core import Tensor
        >>> [piece.shape for piece in Tensor([1, 2, 3, 4, 5]).chunk(3)]
        [(2,), (2,), (1,)]
        """
        (chunks,) = S.as_size("chunk", (chunks,))
        if chunks < 1:
            raise ArgumentError(f"chunk: chunks must be positive, got {chunks}")
        return self.split(max(1, -(-self.data.shape[self._own_dim("chunk", dim)] // chunks)), dim)

    def narrow(self, dim: int, start: int, length: int) -> Self:
        """`length` entries of `dim` from `start` on; a view. Raises `OutOfRangeError` if there are fewer.

        >>> from tt_core import Tensor
        >>> Tensor([1, 2, 3, 4]).narrow(0, 1, 2)
        tensor([2, 3])
        """
        dim = self._own_dim("narrow", dim)
        start = start + self.data.shape[dim] if start < 0 else start
        if not 0 <= start <= start + length <= self.data.shape[dim]:
            raise OutOfRangeError(
                f"narrow: {length} entries from {start} on do not fit dimension {dim} of {self.data.shape}"
            )
        return getitem(self, index=(slice(None),) * dim + (slice(start, start + length),))

    def _dim(self, what: str, dim: int) -> int:
        """`dim` counted from the front."""
        if not -max(self.data.ndim, 1) <= dim < max(self.data.ndim, 1):
            raise OutOfRangeError(f"{what}: dim {dim} is out of range for shape {self.data.shape}")
        return dim % max(self.data.ndim, 1)

    def _own_dim(self, what: str, dim: int) -> int:
        """`dim` counted from the front, of a tensor that has dimensions."""
        if not self.data.ndim:
            raise OutOfRangeError(f"{what}: a tensor of shape () has no dimension {dim}")
        return self._dim(what, dim)

    def unbind(self, dim: int = 0) -> tuple[Self, ...]:
        """The entries of one dimension; views. Raises `OutOfRangeError` for one that does not exist.

        >>> from tt_core import Tensor
        >>> a, b = Tensor([[1, 2], [3, 4]]).unbind(1)
        >>> b
        tensor([2, 4])
        """
        dim = self._own_dim("unbind", dim)
        return tuple(getitem(self, index=(*(slice(None),) * dim, i)) for i in range(self.data.shape[dim]))

    def flip(self, *dims: int | Sequence[int]) -> Self:
        """In reverse order along `dims`."""
        return S.flip(self, dims=S.as_size("flip", dims))

    def roll(self, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Self:
        """Shifts elements along one dimension or several (without `dims`: as if flattened); the last become the first.

        Raises `ShapeError` unless there is a shift for each dimension, `OutOfRangeError` for one that does not exist.

        >>> from tt_core import Tensor
        >>> Tensor([[1, 2], [3, 4], [5, 6]]).roll((1, 1), (0, 1))
        tensor([[6, 5],
                [2, 1],
                [4, 3]])
        """
        return S.roll(self, shifts=shifts, dims=dims)

    def tril(self, diagonal: int = 0) -> Self:
        """Lower triangle, zero above."""
        return S.tril(self, diagonal=diagonal)

    def triu(self, diagonal: int = 0) -> Self:
        """Upper triangle, zero below."""
        return S.triu(self, diagonal=diagonal)
