"""Module 01, tensor: matrix products. All of them end in BLAS, in shapes it likes."""

from __future__ import annotations

import math

import numpy as np

from tt_core.engine.dispatch import Array, op
from tt_core.tensor.elementwise import HALF, half_in_float32, through_float32


@op
def matmul(a: Array, b: Array, /) -> Array:
    """`a @ b`: vectors, matrices, and stacks of matrices with broadcasting in front; (..., n, k) @ (..., k, m) is
    (..., n, m). Raises `ShapeError` where rows of `a` and columns of `b` differ in length.

    A stack times one matrix is folded into a single product: NumPy's batched matmul reaches a third of its speed.

    >>> matmul(np.array([[1, 2], [3, 4]]), np.array([10, 1]))
    tensor([12, 34])
    """
    if HALF in (a.dtype, b.dtype):  # NumPy has no fast product of float16
        return through_float32(matmul.kernel, a, b)
    try:
        if b.ndim == 2 and a.ndim > 2:
            rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
            return (rows @ b).reshape(*a.shape[:-1], b.shape[-1])
        return np.matmul(a, b)
    except ValueError as error:
        raise ValueError(_misfit(a, b) or str(error)) from None


def _misfit(a: Array, b: Array) -> str:
    """Why there is no product of `a` and `b`, in words that NumPy does not find; nothing where it is another reason."""
    if not a.ndim or not b.ndim:
        return "a number is no matrix; multiply by it with *"
    across, down = a.shape[-1], b.shape[-2 if b.ndim > 1 else -1]
    return f"a has rows of {across}, b has columns of {down}; they must be of one length" if across != down else ""


@op(name="einsum", view=True)
@half_in_float32
def einsum_arrays(*operands: Array, equation: str) -> Array:
    """Sum of products in Einstein's notation, of integers and booleans in int64 as in `sum`.

    Raises `ShapeError` where sizes of one letter differ.

    >>> einsum_arrays(np.array([1, 2]), np.array([3, 4]), equation="i,i->")
    tensor(11)
    """
    whole = all(np.asarray(x).dtype.kind in "iub" for x in operands)
    return np.einsum(equation, *operands, optimize=len(operands) > 1, dtype=np.int64 if whole else None)
