"""Module 01, tensor: matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import ArgumentError, ShapeError, shown
from tt_core.tensor.dtypes import half_in_float32

if TYPE_CHECKING:
    from tt_core.tensor.tensor import Tensor


def misfit(a: Array, b: Array) -> str:
    """Why the product of `a` and `b` does not exist, in words that NumPy lacks; empty if sizes are not the reason."""
    if not a.ndim or not b.ndim:
        return "a number is not a matrix; multiply by it with *"
    across, down = a.shape[-1], b.shape[-2 if b.ndim > 1 else -1]
    return f"a has rows of {across}, b has columns of {down}; they must be of one length" if across != down else ""


@op
def matmul(a: Array, b: Array, /) -> Array:
    """`a @ b` for vectors, matrices, and stacks of matrices, whose leading dimensions broadcast.

    (..., n, k) @ (..., k, m) gives (..., n, m). Raises `ShapeError` if rows of `a` and columns of `b` differ in length.

    >>> matmul(np.array([[1, 2], [3, 4]]), np.array([10, 1]))
    tensor([12, 34])
    """
    # checked only after NumPy refused: looking at the shapes first would cost every product
    try:
        return np.matmul(a, b)
    except ValueError as error:
        raise ValueError(misfit(a, b) or str(error)) from None


@half_in_float32
def _sum_of_products(*operands: Array, equation: str) -> Array:
    # optimize finds an order of several products: (A B) v costs a matrix product that A (B v) does not need
    whole = all(np.asarray(x).dtype.kind in "iub" for x in operands)
    return np.einsum(equation, *operands, optimize=len(operands) > 1, dtype=np.int64 if whole else None)


def _check_equation(*operands: Array, equation: str) -> None:
    """Raises `ShapeError` if operands and equation differ in number, if letters and dimensions do, or two sizes of one
    letter. NumPy finds out too, but names another cause.
    """
    if not isinstance(equation, str):
        raise ArgumentError(f"equation is text such as 'ij,jk->ik', got {shown(equation)}")
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if len(terms) != len(operands):
        raise ShapeError(f"{equation!r} names {len(terms)} operands, got {len(operands)}")
    sizes: dict[str, int] = {}
    for place, (term, x) in enumerate(zip(terms, operands)):
        before, dots, after = term.partition("...")
        shape = np.shape(x)
        if len(before + after) != len(shape) and not (dots and len(before + after) < len(shape)):
            raise ShapeError(f"{term!r} names {len(before + after)} dimensions, operand {place} has shape {shape}")
        for letter, size in (*zip(before, shape), *zip(reversed(after), reversed(shape))):
            known = sizes.setdefault(letter, size)
            if 1 not in (known, size) and known != size:
                raise ShapeError(f"{letter} has two sizes, {known} and {size}; a letter has one size in all operands")
            sizes[letter] = max(known, size)


@op(formula=_sum_of_products, check=_check_equation, view=True)
def einsum(equation: str, *operands: Tensor | Array | Sequence[Tensor | Array]) -> Tensor:
    """Sum of products in Einstein's notation, of the operands one by one or in a list.

    Integers and booleans give int64, as in `sum`. Raises `ShapeError` if sizes of one letter differ, or
    if the letters are not one for each dimension.

    >>> einsum("ij,jk->ik", np.ones((2, 3), int), np.ones((3, 1), int))
    tensor([[3],
            [3]])
    """
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    return einsum.call(*operands, equation=equation)
