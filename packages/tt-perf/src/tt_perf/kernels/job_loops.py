"""Beside module 18: small kernels as jobs, and `run_program`, which runs a sequence of jobs in one call.

A *job* (`team_loops.py`) is a function of an address and the index of a piece. A program is a table with a row for each
job, in the order of execution: the address of its function, the address and number of its arguments, and its number of
pieces. No Python runs between two jobs, so a small kernel costs only its loop: a (64, 128) by (128, 10) product takes
3 us, and 9 us when Python calls it.

A job that meets values it does not cover, such as a label out of range, sets the flag `failed`, and the program stops.
This file neither checks arrays nor keeps them alive.
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.acceleration.blas import gemm
from tt_perf.acceleration.loops import cross_entropy, cross_entropy_backward
from tt_perf.kernels.arrays import In2, Int64_2, LabelsOut, Out1
from tt_perf.kernels.atomics import atomics
from tt_perf.kernels.team_loops import run_pieces
from tt_perf.kernels.tiles import tiles
from tt_perf.kernels.views import line

Number = np.float32
ZERO, ONE = Number(0), Number(1)

FUNCTION, ARGUMENTS, COUNT, PIECES = range(4)
"""Columns of a program."""

integers_at, matrix_at, numbers_at = atomics()["integers_at"], atomics()["matrix_at"], tiles()["numbers_at"]


def run_program(mail: LabelsOut, program: Int64_2, failed: LabelsOut) -> bool:
    """Runs the jobs of a program in order. Stops and returns False if one of them sets `failed`."""
    failed[0] = 0
    for job in range(len(program)):
        arguments = integers_at(program[job, ARGUMENTS], program[job, COUNT])
        run_pieces(mail, program[job, FUNCTION], arguments, program[job, PIECES])
        if failed[0]:
            return False
    return True


# --- products by BLAS


def blas_piece(arguments: int, piece: int) -> None:
    """`out = a b + bias` for (m, k) and (k, n) of any strides, by the `sgemm` at a given address."""
    given = integers_at(arguments, 13)
    m, k, n = given[2], given[3], given[4]
    a = matrix_at(given[5], m, k, given[6], given[7])
    b = matrix_at(given[8], k, n, given[9], given[10])
    out = numbers_at(given[11], m * n).reshape(m, n)
    gemm((given[0], given[1]), a, b, out, ONE, ZERO)
    if given[12]:
        bias = numbers_at(given[12], n)
        for i in range(m):
            row = line(out, i)
            for j in range(n):
                row[j] += bias[j]


# --- sums


def bias_sums(x: In2, out: Out1) -> None:
    """The sum of each column."""
    out[:] = ZERO
    for i in range(x.shape[0]):
        row = line(x, i)
        for j in range(out.size):
            out[j] += row[j]


def bias_sums_piece(arguments: int, piece: int) -> None:
    """`bias_sums` of a matrix (rows, columns) at an address."""
    given = integers_at(arguments, 4)
    rows, columns = given[2], given[3]
    bias_sums(numbers_at(given[0], rows * columns).reshape(rows, columns), numbers_at(given[1], columns))


def sum_of_eights(x: Array, first: int, last: int) -> Number:
    """The sum of elements `first` to `last`: eight partial sums are added, then the remaining elements."""
    whole = first + (last - first) // 8 * 8
    total = ZERO
    if whole > first:
        sums = x[first : first + 8].copy()
        for i in range(first + 8, whole, 8):
            for j in range(8):
                sums[j] += x[i + j]
        total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
    for i in range(whole, last):
        total += x[i]
    return total


def sum_in_pairs(x: Array) -> Number:
    """The sum of a contiguous array in NumPy's order, pairwise summation with blocks of up to 128 elements.

    Two stacks replace the recursion, which compiled code from disk cannot do: blocks that are left, and sums that wait
    for the sum of the other half.
    """
    firsts, lasts, depths = np.zeros(64, np.int64), np.zeros(64, np.int64), np.zeros(64, np.int64)
    sums, levels = np.zeros(64, np.float32), np.zeros(64, np.int64)
    parts, waiting = 1, 0
    lasts[0] = x.size
    while parts:
        parts -= 1
        first, last, depth = firsts[parts], lasts[parts], depths[parts]
        if last - first > 128:
            middle = first + (last - first) // 2 // 8 * 8
            firsts[parts], lasts[parts], depths[parts] = middle, last, depth + 1
            firsts[parts + 1], lasts[parts + 1], depths[parts + 1] = first, middle, depth + 1
            parts += 2
        else:
            total = sum_of_eights(x, first, last)
            while waiting and levels[waiting - 1] == depth:
                waiting, depth = waiting - 1, depth - 1
                total = Number(sums[waiting] + total)
            sums[waiting], levels[waiting] = total, depth
            waiting += 1
    return sums[0]


# --- cross entropy


def cross_entropy_piece(arguments: int, piece: int) -> None:
    """`cross_entropy` of logits (rows, classes), and the mean or the sum of the rows' losses."""
    given = integers_at(arguments, 9)
    rows, classes = given[5], given[6]
    x = numbers_at(given[0], rows * classes).reshape(rows, classes)
    losses = np.empty(rows, np.float32)
    sums = numbers_at(given[3], rows), numbers_at(given[4], rows)
    if cross_entropy(x, integers_at(given[1], rows), losses, *sums):
        total = sum_in_pairs(losses)
        numbers_at(given[2], 1)[0] = total / Number(rows) if given[7] else total
    else:
        integers_at(given[8], 1)[0] = 1


def cross_entropy_backward_piece(arguments: int, piece: int) -> None:
    """`cross_entropy_backward` for the gradient of the mean or of the sum."""
    given = integers_at(arguments, 10)
    rows, classes = given[6], given[7]
    x = numbers_at(given[1], rows * classes).reshape(rows, classes)
    out = numbers_at(given[5], rows * classes).reshape(rows, classes)
    g = numbers_at(given[0], 1)[0]
    each = Number(g / Number(rows)) if given[8] else g
    sums = numbers_at(given[3], rows), numbers_at(given[4], rows)
    if not cross_entropy_backward(x, integers_at(given[2], rows), *sums, each, out):
        integers_at(given[9], 1)[0] = 1
