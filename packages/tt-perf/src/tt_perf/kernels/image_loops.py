"""Beside module 18: pooling, ReLU and batch normalization as loops over numbers, which `jit.py` compiles.

Arrays are C-contiguous float32: planes (N C, H, W) for pooling, since no window reaches into another channel, and
(N, C, L) for batch normalization, whose statistics belong to a channel. Inner loops run over one line in one pass.
What this file does not do: check, allocate results, or know about threads.
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.kernels.arrays import Bytes3, BytesOut3, In1, In3, Out1, Out3, any_order

Number = np.float32
Place = np.uint64
"""Indices of inner loops. Numba looks whether any other index is negative, and then uses no vectors."""
Byte = np.uint8

ZERO, ONE = Number(0), Number(1)
UNIT, TWO = Place(1), Place(2)
FIRST, SECOND, THIRD, FOURTH = Byte(0), Byte(1), Byte(2), Byte(3)


def relu(x: In1, out: Out1) -> None:
    """`x` where it is above 0, or nan."""
    for i in range(x.size):
        out[i] = ZERO if x[i] <= ZERO else x[i]


# --- windows of 2x2 beside each other: (planes, H, W) and (planes, H // 2, W // 2)


def max_pool_2x2(x: In3, out: Out3, index: BytesOut3) -> None:
    """The maximum of each window and its place in it: the first of equals, or the last nan.

    Comparisons become masks, so there are no branches and vectors can do them.
    """
    height, width, rows, columns = x.shape[1], Place(x.shape[2]), out.shape[1], Place(out.shape[2])
    pixels, results, places = x.reshape(-1), out.reshape(-1), index.reshape(-1)
    for plane in range(len(x)):
        for row in range(rows):
            at, to = Place(plane * height + 2 * row) * width, Place(plane * rows + row) * columns
            for j in range(columns):
                largest, b = pixels[at + TWO * j], pixels[at + TWO * j + UNIT]
                c, d = pixels[at + width + TWO * j], pixels[at + width + TWO * j + UNIT]
                later = (b > largest) | (b != b)
                largest, place = b if later else largest, SECOND if later else FIRST
                later = (c > largest) | (c != c)
                largest, place = c if later else largest, THIRD if later else place
                later = (d > largest) | (d != d)
                results[to + j], places[to + j] = d if later else largest, FOURTH if later else place


def max_pool_2x2_backward(g: In3, index: Bytes3, out: Out3) -> None:
    """Each number of `g` at the place that `index` names, and 0 elsewhere; 4 is no place in the window."""
    height, rows, columns, width = out.shape[1], g.shape[1], Place(g.shape[2]), Place(out.shape[2])
    pixels, given, places = out.reshape(-1), g.reshape(-1), index.reshape(-1)
    for plane in range(len(g)):
        for row in range(rows):
            at, to = Place(plane * rows + row) * columns, Place(plane * height + 2 * row) * width
            for j in range(columns):
                value, place = given[at + j], places[at + j]
                pixels[to + TWO * j] = value if place == FIRST else ZERO
                pixels[to + TWO * j + UNIT] = value if place == SECOND else ZERO
            for j in range(columns):
                value, place = given[at + j], places[at + j]
                pixels[to + width + TWO * j] = value if place == THIRD else ZERO
                pixels[to + width + TWO * j + UNIT] = value if place == FOURTH else ZERO
            for j in range(TWO * columns, width):  # a column too few for another window
                pixels[to + j] = ZERO
                pixels[to + width + j] = ZERO
        for i in range(Place(plane * height + 2 * rows) * width, Place((plane + 1) * height) * width):
            pixels[i] = ZERO


def avg_pool_2x2(x: In3, divisor: Number, out: Out3) -> None:
    """The sum of each window over `divisor`."""
    height, width, rows, columns = x.shape[1], Place(x.shape[2]), out.shape[1], Place(out.shape[2])
    pixels, results = x.reshape(-1), out.reshape(-1)
    for plane in range(len(x)):
        for row in range(rows):
            at, to = Place(plane * height + 2 * row) * width, Place(plane * rows + row) * columns
            for j in range(columns):
                upper = pixels[at + TWO * j] + pixels[at + TWO * j + UNIT]
                results[to + j] = (upper + pixels[at + width + TWO * j] + pixels[at + width + TWO * j + UNIT]) / divisor


def avg_pool_2x2_backward(g: In3, divisor: Number, out: Out3) -> None:
    """Each number of `g` over `divisor` in all places of its window, and 0 in no window."""
    height, rows, columns, width = out.shape[1], g.shape[1], Place(g.shape[2]), Place(out.shape[2])
    pixels, given = out.reshape(-1), g.reshape(-1)
    for plane in range(len(g)):
        for row in range(rows):
            at, to = Place(plane * rows + row) * columns, Place(plane * height + 2 * row) * width
            for _ in range(2):
                for j in range(columns):
                    share = given[at + j] / divisor
                    pixels[to + TWO * j] = share
                    pixels[to + TWO * j + UNIT] = share
                for j in range(TWO * columns, width):
                    pixels[to + j] = ZERO
                to += width
        for i in range(Place(plane * height + 2 * rows) * width, Place((plane + 1) * height) * width):
            pixels[i] = ZERO


# --- batch normalization: one channel after the other, which stays in the cache for all passes


@any_order
def batch_norm(
    x: In3, weight: In1, bias: In1, eps: Number, out: Out3, mean: Out1, var: Out1, first: int, last: int
) -> None:
    """Channels `first` to `last` of (N, C, L): mean 0 and variance 1, scaled and shifted."""
    images, channels, length = x.shape
    pixels, count = x.reshape(-1), Number(images * length)
    for c in range(first, last):
        total = ZERO
        for n in range(images):
            at, line = Place((n * channels + c) * length), ZERO
            for i in range(Place(length)):
                line += pixels[at + i]
            total += line
        middle, squares = total / count, ZERO
        for n in range(images):
            at, line = Place((n * channels + c) * length), ZERO
            for i in range(Place(length)):
                line += (pixels[at + i] - middle) * (pixels[at + i] - middle)
            squares += line
        mean[c], var[c] = middle, squares / count
        batch_norm_channel(x, middle, weight[c] * (ONE / np.sqrt(var[c] + eps)), bias[c], out, c)


def batch_norm_channel(x: Array, mean: Number, scale: Number, shift: Number, out: Array, c: int) -> None:
    """`(x - mean) scale + shift` for channel `c` of (N, C, L)."""
    images, channels, length = x.shape
    pixels, results = x.reshape(-1), out.reshape(-1)
    for n in range(images):
        at = Place((n * channels + c) * length)
        for i in range(Place(length)):
            results[at + i] = (pixels[at + i] - mean) * scale + shift


def batch_norm_inference(
    x: In3, mean: In1, var: In1, weight: In1, bias: In1, eps: Number, out: Out3, first: int, last: int
) -> None:
    """Channels `first` to `last` with a given mean and variance."""
    for c in range(first, last):
        batch_norm_channel(x, mean[c], weight[c] * (ONE / np.sqrt(var[c] + eps)), bias[c], out, c)


@any_order
def batch_norm_backward(
    g: In3,
    x: In3,
    mean: In1,
    var: In1,
    weight: In1,
    eps: Number,
    dx: Out3,
    dweight: Out1,
    dbias: Out1,
    first: int,
    last: int,
) -> None:
    """`dx = weight rstd (g - mean(g) - n mean(g n))` with n = (x - mean) rstd; one pass for the sums, one for dx."""
    images, channels, length = x.shape
    pixels, given, results, count = x.reshape(-1), g.reshape(-1), dx.reshape(-1), Number(images * length)
    for c in range(first, last):
        middle, total, projection = mean[c], ZERO, ZERO
        rstd = ONE / np.sqrt(var[c] + eps)
        for n in range(images):
            at, line, product = Place((n * channels + c) * length), ZERO, ZERO
            for i in range(Place(length)):
                line += given[at + i]
                product += given[at + i] * (pixels[at + i] - middle)
            total += line
            projection += product
        dbias[c], dweight[c] = total, projection * rstd
        scale, shift, slope = weight[c] * rstd, total / count, dweight[c] * rstd / count
        for n in range(images):
            at = Place((n * channels + c) * length)
            for i in range(Place(length)):
                results[at + i] = (given[at + i] - shift - (pixels[at + i] - middle) * slope) * scale
