"""The exercises of module 01, tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

import tt_core as tt
from tt_core.course.exercises import Exercise, floats, timing
from tt_core.course.trial import Trial
from tt_core.tensor import shapes as S

ELEMENTWISE, REDUCTIONS = "tt_core.tensor.elementwise", "tt_core.tensor.reductions"
PRODUCTS, SHAPES, INDEXING = "tt_core.tensor.products", "tt_core.tensor.shapes", "tt_core.tensor.indexing"


# --- elementwise


def add_adds_each_element(t: Trial) -> None:
    """Each element of a is added to its element of b."""
    t.call(tt.add, floats(1, 2), floats(10, 20))
    t.call(tt.add, t.normal(2, 3), t.normal(2, 3))


def add_broadcasts(t: Trial) -> None:
    """A dimension of size 1, or a missing one, is repeated as often as the other array needs."""
    t.call(tt.add, floats([1], [2]), floats(10, 20, 30), why="(2, 1) and (3,) give (2, 3)")
    t.call(tt.add, t.normal(2, 3), np.float32(1).reshape(()))
    x = floats(1, 2)
    t.call(tt.add, x, x)
    t.see("x after add(x, x)", x, why="the result is a new array; x itself must stay as it was")


def masked_fill_replaces_where_the_mask_is_true(t: Trial) -> None:
    """Where the mask is true stands the value, elsewhere x."""
    t.call(tt.masked_fill, floats(1, 2, 3), np.array([True, False, True]), 0.0)
    t.call(tt.masked_fill, t.normal(2, 3), np.array([False, True, False]), -np.inf, why="the mask is broadcast to x")
    x = floats(1, 2)
    t.call(tt.masked_fill, x, np.array([True, True]), 7.0)
    t.see("x after masked_fill(x, ...)", x, why="x itself must stay as it was")
    t.call(tt.masked_fill, np.array([1, 2]), np.array([True, False]), 5, why="integers stay integers")


# --- reductions


def mean_divides_by_how_many(t: Trial) -> None:
    """The sum divided by how many elements were added up."""
    t.call(tt.mean, floats(1, 2, 6))
    x = t.normal(2, 3, 4)
    t.call(tt.mean, x, dim=1, why="the divisor is the size of dim, not of x")
    t.call(tt.mean, x, dim=(0, 2), keepdim=True, why="keepdim leaves reduced dimensions with size 1")
    t.call(tt.mean, x)
    why = "in an op, compute with arrays: sum.formula(x, ...); the op sum(x, ...) gives a tensor"
    t.show("the type of mean.formula(x, 0)", lambda: type(tt.mean.formula(x, 0)).__name__, why)


def var_of_a_sample(t: Trial) -> None:
    """The mean of the squared distances from the mean, with n - 1 in place of n."""
    t.call(tt.var, floats(1, 3), why="(1 - 2)^2 + (3 - 2)^2 = 2, divided by 2 - 1")
    x = t.normal(3, 4)
    t.call(tt.var, x, dim=1)
    t.call(tt.var, x, dim=0, correction=0, why="correction=0 divides by n")
    t.call(tt.var, x, dim=1, keepdim=True)
    t.call(tt.var, floats([3]), dim=1, why="one number has no variance: 0 / 0 is nan")


def var_far_from_zero(t: Trial) -> None:
    """Numbers far from 0 lose nothing."""
    x = np.array([10000.0, 10001.0, 10002.0], np.float32)
    t.call(tt.var, x, why="mean(x^2) - mean(x)^2 is a difference of two huge numbers; subtract the mean first")


def logsumexp_is_the_logarithm_of_the_sum(t: Trial) -> None:
    """log(sum(exp(x)))."""
    t.call(tt.logsumexp, floats(0, 0), dim=0, why="exp(0) + exp(0) = 2")
    x = t.normal(2, 3)
    t.call(tt.logsumexp, x, dim=1)
    t.call(tt.logsumexp, x, dim=0, keepdim=True)
    t.call(tt.logsumexp, x, dim=1, keepdim=True)
    t.call(tt.logsumexp, t.normal(1, 3, 1), dim=1, why="only dim goes; other dimensions of size 1 stay")
    t.call(tt.logsumexp, x, dim=(0, 1))


def logsumexp_of_large_numbers(t: Trial) -> None:
    """Large numbers do not overflow, small ones do not vanish."""
    t.call(tt.logsumexp, floats(1000, 1000), dim=0, why="subtract the largest number before exp, and add it after log")
    t.call(tt.logsumexp, floats(-1000, -1000), dim=0)
    t.call(tt.logsumexp, floats([1000, 0], [0, 1]), dim=1, why="the largest number of each row, not of the whole array")
    t.call(tt.logsumexp, floats(-np.inf, -np.inf), dim=0, why="-inf - -inf is nan: subtract 0 there")


# --- products


def matmul_multiplies_rows_by_columns(t: Trial) -> None:
    """Element (i, j) is the sum of row i of a times column j of b."""
    t.call(tt.matmul, floats([1, 2], [3, 4]), floats([1, 0], [0, 1]))
    t.call(tt.matmul, floats([1, 2, 3]), floats([1], [10], [100]))
    t.call(tt.matmul, t.normal(2, 3), t.normal(3, 4))


def matmul_of_many_matrices(t: Trial) -> None:
    """Leading dimensions are broadcast; a vector is a row or a column."""
    t.call(tt.matmul, t.normal(5, 2, 3), t.normal(3, 4), why="each of the 5 matrices is multiplied")
    t.call(tt.matmul, t.normal(2, 1, 2, 3), t.normal(4, 3, 2))
    t.call(tt.matmul, t.normal(3), t.normal(3), why="two vectors give one number")
    t.call(tt.matmul, t.normal(2, 3), t.normal(3))


# --- shapes


def same_memory(result: Any, x: Any) -> bool:
    """Whether a result is a view of x."""
    return bool(np.shares_memory(result.data, x))


def transpose_swaps_two_dimensions(t: Trial) -> None:
    """Two dimensions change places, and nothing is copied."""
    x = t.normal(2, 3, 4)
    t.call(tt.transpose, floats([1, 2], [3, 4]), 0, 1)
    result = t.call(tt.transpose, x, 0, 2)
    t.see("transpose(x, 0, 2) has the memory of x", same_memory(result, x), why="a view only changes strides")
    t.call(tt.transpose, x, -1, -2)


def expand_repeats_without_copying(t: Trial) -> None:
    """Dimensions of size 1 are repeated; -1 keeps a size."""
    x = floats([1], [2])
    result = t.call(S.expand, x, (2, 3))
    t.see("expand(x, (2, 3)) has the memory of x", same_memory(result, x), why="a stride of 0 repeats for nothing")
    t.call(S.expand, x, (-1, 4), why="-1 keeps the size of this dimension")
    t.call(S.expand, floats(1, 2), (3, -1), why="new dimensions come first, so -1 counts from the end")


def tril_keeps_what_is_below(t: Trial) -> None:
    """What is above the diagonal becomes 0."""
    t.call(tt.tril, np.ones((3, 3), np.float32))
    t.call(tt.tril, t.normal(2, 3, 4), diagonal=1, why="diagonal=1 keeps one more diagonal above")
    t.call(tt.tril, t.normal(3, 3), diagonal=-1)


# --- indexing


def take_along_dim_picks_one_each(t: Trial) -> None:
    """Each row is read at places of its own."""
    x = floats([1, 2, 3], [4, 5, 6])
    t.call(tt.take_along_dim, x, np.array([[2], [0]]), dim=1, why="row 0 at place 2, row 1 at place 0")
    t.call(tt.take_along_dim, t.normal(3, 4), np.array([[0, 2, 1, 1]]), dim=0)


EXERCISES = (
    Exercise(
        "add",
        ELEMENTWISE,
        2,
        (
            "NumPy arrays can do this.",
            "np.add(a, b), or a + b: NumPy broadcasts by the same rule.",
            "return np.add(a, b)",
        ),
        (add_adds_each_element, add_broadcasts),
    ),
    Exercise(
        "masked_fill",
        ELEMENTWISE,
        3,
        (
            "There are two cases for each element.",
            "np.where(mask, a, b) takes a where the mask is true. Which dtype has the value?",
            "np.where(mask, np.asarray(value, dtype=x.dtype), x)",
        ),
        (masked_fill_replaces_where_the_mask_is_true,),
    ),
    Exercise(
        "mean",
        REDUCTIONS,
        3,
        (
            "A mean is a sum divided by a count.",
            "`sum.formula` and `count` are in this file.",
            "return sum.formula(x, dim, keepdim) / count(x, dim)",
        ),
        (mean_divides_by_how_many,),
    ),
    Exercise(
        "var",
        REDUCTIONS,
        4,
        (
            "First the distance of each element from the mean.",
            "Keep the reduced dimension while you subtract the mean, so that it broadcasts.",
            "centred = x - mean.formula(x, dim, keepdim=True); its squares added up, over count(x, dim) - correction",
        ),
        (var_of_a_sample, var_far_from_zero),
        timed=timing(tt.var, (512, 512), dim=1),
    ),
    Exercise(
        "logsumexp",
        REDUCTIONS,
        6,
        (
            "exp(1000) is infinite. What can be subtracted from all x, and added again after the logarithm?",
            "log(sum(exp(x))) = m + log(sum(exp(x - m))) for every m; take the largest x of each row.",
            "peak = np.amax(x, axis=axes(dim), keepdims=True, initial=-np.inf), 0 where it is not finite; "
            "without keepdim, squeeze it before it is added.",
        ),
        (logsumexp_is_the_logarithm_of_the_sum, logsumexp_of_large_numbers),
        timed=timing(tt.logsumexp, (512, 512), dim=1),
    ),
    Exercise(
        "matmul",
        PRODUCTS,
        3,
        (
            "NumPy has this product, and it broadcasts the leading dimensions.",
            "np.dot treats more than two dimensions in another way; np.matmul is the one.",
            "return np.matmul(a, b); the framework's version also explains shapes that do not fit, with `misfit`.",
        ),
        (matmul_multiplies_rows_by_columns, matmul_of_many_matrices),
        timed=timing(tt.matmul, (96, 96), (96, 96)),
    ),
    Exercise(
        "transpose",
        SHAPES,
        2,
        (
            "Nothing has to move in memory.",
            "NumPy swaps two axes by swapping their strides.",
            "return np.swapaxes(x, dim0, dim1)",
        ),
        (transpose_swaps_two_dimensions,),
    ),
    Exercise(
        "expand",
        SHAPES,
        5,
        (
            "np.broadcast_to repeats without copying; it only lacks the -1.",
            "Replace each -1 by the size that x has there. New dimensions stand in front.",
            "lead = len(shape) - x.ndim; a -1 at place i stands for x.shape[i - lead]",
        ),
        (expand_repeats_without_copying,),
    ),
    Exercise(
        "tril",
        SHAPES,
        2,
        (
            "Row i keeps its columns up to i.",
            "NumPy has it under the same name.",
            "return np.tril(x, diagonal)",
        ),
        (tril_keeps_what_is_below,),
    ),
    Exercise(
        "take_along_dim",
        INDEXING,
        3,
        (
            "x[indices] would pick whole rows.",
            "NumPy has a function that reads each row at places of its own.",
            "return np.take_along_axis(x, indices, axis=dim)",
        ),
        (take_along_dim_picks_one_each,),
    ),
)
