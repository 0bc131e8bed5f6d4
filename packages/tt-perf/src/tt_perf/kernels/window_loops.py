"""Beside module 18: pooling over any windows as loops over numbers, which `jit.py` compiles.

A plane (one channel of one image) is copied into lines with a border, and with a stride into several of them, as
`planes.py` describes it. Each element of the kernel is then one run of numbers, begun at another place (`offsets`), and
all windows are compared, or added up, in vectors. Backward adds to the same runs and copies the lines back.

`shape` is (rows of windows, columns of windows, lines, width of a line). What this file does not do: check, choose
sizes, know about threads. Windows of 2x2 beside each other have loops of their own in `image_loops.py`.
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.kernels.arrays import Bytes2, Bytes3, BytesOut3, In2, In3, Int64_2, Ints2, Ints4, Labels, Out3
from tt_perf.kernels.planes import ZERO, Number, Place, fill

LOWEST = Number(-np.inf)
RUN = 512
"""Windows that are worked on at a time, in the first-level cache."""
NO_PLACE = np.uint8(255)


def lines_of(x: Array, sources: Array, shape: Ints4, step: Ints2, border: Number, planes: Array) -> None:
    """Copy a plane (1, H, W) into its lines."""
    lines, width = shape[2], shape[3]
    fill(x, sources, step, 0, lines, width, lines * width, planes, border)


def room_of(sources: Array, shape: Ints4, border: Number) -> Array:
    """Memory for the lines of one plane, filled with `border`."""
    return np.full(len(sources) * shape[2] * shape[3] + shape[3], border, np.float32)


def max_pool(
    x: In3,
    sources: Int64_2,
    shape: Ints4,
    step: Ints2,
    offsets: Labels,
    inside: Bytes2,
    out: Out3,
    index: BytesOut3,
    first: int,
    last: int,
) -> None:
    """The maximum of each window and its place in it, the first of equals or the last nan.

    For planes `first` to `last`. `inside` is the first place of each window that is not padding.
    """
    rows, columns, width = shape[0], Place(shape[1]), shape[3]
    length = (rows - 1) * width + shape[1]
    planes = room_of(sources, shape, LOWEST)
    largest, place = np.empty(length, np.float32), np.empty(length, np.uint8)
    results, places, starts = out.reshape(-1), index.reshape(-1), inside.reshape(-1)
    for n in range(first, last):
        lines_of(x[n : n + 1], sources, shape, step, LOWEST, planes)
        for begin in range(0, length, RUN):
            end = Place(min(begin + RUN, length))
            at = Place(offsets[0])
            for i in range(Place(begin), end):
                largest[i], place[i] = planes[at + i], np.uint8(0)
            for k in range(1, len(offsets)):
                at, this = Place(offsets[k]), np.uint8(k)
                for i in range(Place(begin), end):
                    value = planes[at + i]
                    later = (value > largest[i]) | (value != value)
                    largest[i], place[i] = value if later else largest[i], this if later else place[i]
        for row in range(rows):
            at, start, to = Place(row * width), Place(row) * columns, Place(n * rows + row) * columns
            for j in range(columns):
                results[to + j] = largest[at + j]
                places[to + j] = max(place[at + j], starts[start + j])


def max_pool_backward(
    g: In3,
    index: Bytes3,
    sources: Int64_2,
    shape: Ints4,
    step: Ints2,
    offsets: Labels,
    out: Out3,
    first: int,
    last: int,
) -> None:
    """Each number of `g` added at the place that `index` names, and 0 elsewhere, for planes `first` to `last`."""
    rows, columns, width = shape[0], Place(shape[1]), shape[3]
    length = (rows - 1) * width + shape[1]
    planes = room_of(sources, shape, ZERO)
    given, place = np.zeros(length, np.float32), np.full(length, NO_PLACE)
    upstream, places = g.reshape(-1), index.reshape(-1)
    for n in range(first, last):
        for row in range(rows):
            to, at = Place(row * width), Place(n * rows + row) * columns
            for j in range(columns):
                given[to + j], place[to + j] = upstream[at + j], places[at + j]
        planes[:] = ZERO
        for begin in range(0, length, RUN):
            end = Place(min(begin + RUN, length))
            for k in range(len(offsets)):
                at, this = Place(offsets[k]), np.uint8(k)
                for i in range(Place(begin), end):
                    planes[at + i] += given[i] if place[i] == this else ZERO
        lines_back(planes, sources, shape, step, out[n])


def avg_pool(
    x: In3,
    sources: Int64_2,
    shape: Ints4,
    step: Ints2,
    offsets: Labels,
    divisor: In2,
    out: Out3,
    first: int,
    last: int,
) -> None:
    """The sum of each window over its `divisor`, for planes `first` to `last`."""
    rows, columns, width = shape[0], Place(shape[1]), shape[3]
    length = (rows - 1) * width + shape[1]
    planes, total = room_of(sources, shape, ZERO), np.empty(length, np.float32)
    results, parts = out.reshape(-1), divisor.reshape(-1)
    for n in range(first, last):
        lines_of(x[n : n + 1], sources, shape, step, ZERO, planes)
        for begin in range(0, length, RUN):
            end = Place(min(begin + RUN, length))
            at = Place(offsets[0])
            for i in range(Place(begin), end):
                total[i] = planes[at + i]
            for k in range(1, len(offsets)):
                at = Place(offsets[k])
                for i in range(Place(begin), end):
                    total[i] += planes[at + i]
        for row in range(rows):
            at, part, to = Place(row * width), Place(row) * columns, Place(n * rows + row) * columns
            for j in range(columns):
                results[to + j] = total[at + j] / parts[part + j]


def avg_pool_backward(
    g: In3,
    sources: Int64_2,
    shape: Ints4,
    step: Ints2,
    offsets: Labels,
    divisor: In2,
    out: Out3,
    first: int,
    last: int,
) -> None:
    """Each number of `g` over its `divisor`, added in all places of its window, for planes `first` to `last`."""
    rows, columns, width = shape[0], Place(shape[1]), shape[3]
    length = (rows - 1) * width + shape[1]
    planes, share = room_of(sources, shape, ZERO), np.zeros(length, np.float32)
    upstream, parts = g.reshape(-1), divisor.reshape(-1)
    for n in range(first, last):
        for row in range(rows):
            to, part, at = Place(row * width), Place(row) * columns, Place(n * rows + row) * columns
            for j in range(columns):
                share[to + j] = upstream[at + j] / parts[part + j]
        planes[:] = ZERO
        for begin in range(0, length, RUN):
            end = Place(min(begin + RUN, length))
            for k in range(len(offsets)):
                at = Place(offsets[k])
                for i in range(Place(begin), end):
                    planes[at + i] += share[i]
        lines_back(planes, sources, shape, step, out[n])


def lines_back(planes: Array, sources: Array, shape: Ints4, step: Ints2, out: Array) -> None:
    """Copy lines back into their plane (H, W): the reverse of `lines_of`. Pixels in no line are 0."""
    lines, width = shape[2], shape[3]
    height, across = out.shape
    pixels, right = out.reshape(-1), Place(step[1])
    pixels[:] = ZERO
    for p in range(len(sources)):
        y, x, start, stop = sources[p, 0], sources[p, 1], sources[p, 2], sources[p, 3]
        count = Place(stop - start)
        for line in range(lines):
            row = line * step[0] + y
            if 0 <= row < height:
                at, to = Place((p * lines + line) * width + start), Place(row * across + start * step[1] + x)
                if right == 1:  # vectors can do that
                    for i in range(count):
                        pixels[to + i] = planes[at + i]
                else:
                    for i in range(count):
                        pixels[to + i * right] = planes[at + i]
