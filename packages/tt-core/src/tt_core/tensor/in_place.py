"""Module 01, tensor: changes in place. No plugin sees them; Act II refuses those that would falsify a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine import mutation
from tt_core.engine.dispatch import Array, HasArray, quietly
from tt_core.engine.errors import DTypeError, ShapeError, kind_of
from tt_core.engine.wording import plain
from tt_core.tensor.elementwise import scaled
from tt_core.tensor.indexing import write_at

if TYPE_CHECKING:
    from typing_extensions import Self

    from tt_core.engine.hints import Index, TensorLike
    from tt_core.tensor.tensor import Tensor


class Mutable(HasArray):
    """What `Tensor` inherits to change its elements; every change goes through `_in_place`."""

    def _in_place(self, what: str, instead: str, source: Any, write: Callable[[Array], Any]) -> Self:
        """Runs `write(data)`, and records that this memory has changed, so that autograd can refuse a stale value.

        All changes in place go through this method. `source` is where the new values come from, and `what` and
        `instead` go into the error messages.
        """
        if not self.data.flags.writeable:
            raise ShapeError(f"{what}: this tensor is a read-only view (of expand, or of a file); clone() it first")
        if source is None:  # NumPy would write nan
            raise DTypeError(f"{what}: needs a number or a tensor, got None")
        try:
            quietly(write, self.data)
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            kind = kind_of(error) or ShapeError
            raise kind(f"{what}: {plain(error)} (tensor {self.data.shape} {self.data.dtype})") from None
        mutation.record(self.data)
        return self

    def __setitem__(self, index: Index, value: TensorLike) -> None:
        write = lambda data: write_at(data, index, value)  # noqa: E731
        self._in_place("assignment", "where() or masked_fill()", value, write)

    def __delitem__(self, index: Index) -> None:
        raise DTypeError("del: a tensor keeps its size; take the elements that stay, x = x[mask]")

    def _accumulate(self, sign: str, ufunc: Any, other: Tensor | Array | float) -> Self:
        value = other.data if isinstance(other, HasArray) else other
        return self._in_place(f"{sign}=", f"x = x {sign} ...", other, lambda data: ufunc(data, value, out=data))

    def __iadd__(self, other: Tensor | Array | float) -> Self:
        return self._accumulate("+", np.add, other)

    def __isub__(self, other: Tensor | Array | float) -> Self:
        return self._accumulate("-", np.subtract, other)

    def __imul__(self, other: Tensor | Array | float) -> Self:
        return self._accumulate("*", np.multiply, other)

    def __itruediv__(self, other: Tensor | Array | float) -> Self:
        return self._accumulate("/", np.true_divide, other)

    def add_(self, other: Tensor | Array | float, *, alpha: float = 1) -> Self:
        """`self += alpha * other`; raises `ShapeError` where `other` does not broadcast to this shape.

        It also raises `ShapeError` for a read-only tensor, and `DTypeError` for floats that are to go into integers.

        >>> from tt_core import Tensor
        >>> x = Tensor([1.0, 2.0])
        >>> x.add_(Tensor([1.0, 1.0]), alpha=10) is x, x
        (True, tensor([11., 12.]))
        """
        return self.__iadd__(scaled(other, alpha))

    def sub_(self, other: Tensor | Array | float, *, alpha: float = 1) -> Self:
        """`self -= alpha * other`; raises as `add_` does."""
        return self.__isub__(scaled(other, alpha))

    def mul_(self, other: Tensor | Array | float) -> Self:
        """`self *= other`; raises as `add_` does."""
        return self.__imul__(other)

    def div_(self, other: Tensor | Array | float) -> Self:
        """`self /= other`; raises as `add_` does, so for every tensor of integers."""
        return self.__itruediv__(other)

    def copy_(self, source: Tensor | Array | float) -> Self:
        """Take over the values of `source`, broadcast to this shape and cut to this dtype; raises as `fill_` does.

        >>> from tt_core import Tensor
        >>> Tensor([[0, 0], [0, 0]]).copy_(Tensor([1, 2]))
        tensor([[1, 2],
                [1, 2]])
        """
        value = source.data if isinstance(source, HasArray) else source
        return self._in_place("copy_", "clone()", source, lambda data: np.copyto(data, value, casting="unsafe"))

    def fill_(self, value: float) -> Self:
        """Set every element to `value`, cut to this dtype as in PyTorch; raises `ShapeError` for a read-only tensor."""
        return self._in_place("fill_", "full_like()", value, lambda data: data.fill(value))

    def zero_(self) -> Self:
        """Set every element to 0; raises `ShapeError` for a read-only tensor."""
        return self._in_place("zero_", "zeros_like()", 0, lambda data: data.fill(0))
