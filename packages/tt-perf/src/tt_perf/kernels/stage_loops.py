"""Beside module 18: a stage of a convolutional network as one loop: convolution, bias, ReLU and 2x2 max pooling.

The results of a convolution are four times as large as what pooling keeps of them. Here they never leave the cache: a
strip is convolved into it, and pooled from there. Of each window, one byte is kept for backward: the place of the
maximum, or 4 if ReLU cut it off, through which no gradient comes.
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.kernels.arrays import BytesOut4, In1, In4, Int64_2, Ints2, Ints4, Labels, Out4
from tt_perf.kernels.image_loops import FIRST, FOURTH, SECOND, THIRD, TWO, UNIT
from tt_perf.kernels.planes import ZERO, Place, fill, multiply, room
from tt_perf.kernels.tiles import LANES, ROWS

CUT = np.uint8(4)


def keep_largest(
    scratch: Array, ld: int, width: int, lines: int, bias: Array, out: Array, index: Array, top: int
) -> None:
    """Pool `lines` lines of results (O, lines, width), and write what is above 0 and its place from line `top` on."""
    outputs, rows, columns = out.shape
    results, places = out.reshape(-1), index.reshape(-1)
    below = Place(width)
    for o in range(outputs):
        shift = bias[o]
        for row in range(lines // 2):
            at, to = Place(o * ld + 2 * row * width), Place((o * rows + top // 2 + row) * columns)
            for j in range(Place(columns)):
                largest, b = scratch[at + TWO * j], scratch[at + TWO * j + UNIT]
                c, d = scratch[at + below + TWO * j], scratch[at + below + TWO * j + UNIT]
                later = (b > largest) | (b != b)
                largest, place = b if later else largest, SECOND if later else FIRST
                later = (c > largest) | (c != c)
                largest, place = c if later else largest, THIRD if later else place
                later = (d > largest) | (d != d)
                largest, place = d if later else largest, FOURTH if later else place
                largest += shift
                results[to + j] = ZERO if largest <= ZERO else largest
                places[to + j] = CUT if largest <= ZERO else place


def convolve_and_pool(
    x: In4,
    weights: In1,
    offsets: Labels,
    sources: Int64_2,
    shape: Ints4,
    step: Ints2,
    columns: int,
    bias: In1,
    out: Out4,
    index: BytesOut4,
    first: int,
    last: int,
) -> None:
    """The strips `first` to `last`, of an even number of lines; arguments as for `correlate`, in one group."""
    lines, strip, reach, width = shape
    size, strips, blocks = (strip + reach) * width, (lines + strip - 1) // strip, (out.shape[1] + ROWS - 1) // ROWS
    ld = strip * width + 2 * LANES
    planes, scratch = room(x.shape[1], len(sources), size, width), np.empty(blocks * ROWS * ld, np.float32)
    for piece in range(first, last):
        n, top = piece // strips, piece % strips * strip
        some = min(strip, lines - top)
        fill(x[n], sources, step, top, some + reach, width, size, planes, ZERO)
        multiply(weights, 0, blocks, planes, 0, offsets, (some - 1) * width + columns, scratch, ld)
        keep_largest(scratch, ld, width, some, bias, out[n], index[n], top)
