"""Beside module 18: convolution as loops over planes with a border of zeros, which `convolution.py` compiles.

Write an image with its padding as one long row per channel, `width` numbers from line to line. The element (i, j) of
the window at position l is then at `l + i width + j` for *every* window: one shift, no matter where the window is. So

    out[o, l]  =  sum over c, i, j of  weight[o, c, i, j]  plane[c][l + i width + j]

is a matrix product whose right side need not be built: its rows are the plane, begun at other places (`offsets`). Where
a window would reach beyond the end of a line, the result is meaningless: 1 to 3 columns a line, which are never read.
The border after a line is that before the next one, so a line of 32 pixels with padding 1 takes 33 numbers.

Strides make several planes of an image (`sources`): each has every second pixel, from another start. The gradient for
the input is the same product over planes of `g`, and the gradient for the weights is its transpose:

    dweight[c, i, j, o]  =  sum over l of  plane[c][l + i width + j]  g[o, l]

A strip is the lines of one image that fit into the second-level cache with their results; strips do not depend on each
other. The products are done by tiles (`tiles.py`). This file does not check arguments, choose sizes or start threads.
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.kernels.arrays import In1, In4, Int64_2, Ints2, Ints4, Ints5, Labels, Out1, Out4
from tt_perf.kernels.tiles import LANES, ROWS, tiles

Number = np.float32
Place = np.uint64
"""Indices of inner loops. Numba looks whether any other index is negative, and then uses no vectors."""
ZERO = Number(0)

correlate_tile, half_correlate_tile = tiles()["correlate_tile"], tiles()["half_correlate_tile"]
gram_tile, half_gram_tile = tiles()["gram_tile"], tiles()["half_gram_tile"]
transpose_tile, every_second = tiles()["transpose_tile"], tiles()["every_second"]


def fill(
    image: Array,
    sources: Array,
    step: Ints2,
    top: int,
    lines: int,
    width: int,
    size: int,
    planes: Array,
    border: Number,
) -> None:
    """Copy `lines` lines of each channel of an image (C, H, W) into its planes, which begin `size` numbers apart.

    A row (y, x, start, stop) of `sources` says: line l of this plane has in columns start to stop every `step`-th
    pixel of the image's line `(top + l) step + y`, from column `start step + x`. Lines outside of it are `border`.
    """
    channels, height, columns = image.shape
    pixels = image.reshape(-1)
    down, right = step[0], Place(step[1])
    for c in range(channels):
        for p in range(len(sources)):
            y, x, start, stop = sources[p, 0], sources[p, 1], sources[p, 2], sources[p, 3]
            count = Place(stop - start)
            for line in range(lines):
                row = (top + line) * down + y
                to = Place((c * len(sources) + p) * size + line * width + start)
                if row < 0 or row >= height:
                    for i in range(count):
                        planes[to + i] = border
                    continue
                at = Place((c * height + row) * columns + start * step[1] + x)
                if right == 1:  # vectors can do that
                    for i in range(count):
                        planes[to + i] = pixels[at + i]
                    continue
                done = 0
                if right == 2:
                    while done + LANES <= stop - start:
                        every_second(pixels, at + Place(2 * done), planes, to + Place(done))
                        done += LANES
                for i in range(Place(done), count):
                    planes[to + i] = pixels[at + i * right]


def multiply(
    weights: Array, at: int, blocks: int, planes: Array, begin: int, offsets: Array, length: int, out: Array, ld: int
) -> None:
    """`length` columns of `blocks` times ROWS rows of the result; packed weights from `at`, planes from `begin`."""
    count = len(offsets)
    for place in range(0, length, 2 * LANES):
        for block in range(blocks):
            first, to = at + block * count * ROWS, block * ROWS * ld + place
            if length - place > LANES:
                correlate_tile(weights, first, planes, begin + place, offsets, count, out, to, ld)
            else:
                half_correlate_tile(weights, first, planes, begin + place, offsets, count, out, to, ld)


def spread(scratch: Array, ld: int, width: int, lines: int, bias: Array, out: Array, top: int, placed: Ints5) -> None:
    """Write `lines` lines of results plus `bias` into images (O, H, W), without their garbage.

    `placed` (columns, row, rows apart, column, columns apart): where line `top` and its columns are in the image.
    """
    row, down, column = placed[1:4]
    columns, right = Place(placed[0]), Place(placed[4])
    outputs, height, across = out.shape
    pixels = out.reshape(-1)
    for o in range(outputs):
        shift = bias[o]
        for line in range(lines):
            at, to = Place(o * ld + line * width), Place((o * height + row + (top + line) * down) * across + column)
            if right == 1:
                for i in range(columns):
                    pixels[to + i] = scratch[at + i] + shift
            else:
                for i in range(columns):
                    pixels[to + i * right] = scratch[at + i] + shift


def room(channels: int, sources: int, size: int, width: int) -> Array:
    """Memory for the planes of one image; tiles read up to two vectors beyond the last of them."""
    return np.zeros(channels * sources * size + 2 * width + 2 * LANES, np.float32)


def correlate(
    x: In4,
    weights: In1,
    offsets: Labels,
    sources: Int64_2,
    shape: Ints4,
    step: Ints2,
    placed: Ints5,
    bias: In1,
    groups: int,
    out: Out4,
    first: int,
    last: int,
) -> None:
    """The strips `first` to `last` of all images, counted image by image.

    x (N, C, H, W) gives out (N, O, H', W'). `weights` are packed: (groups, blocks, offsets, ROWS). `shape` is (lines,
    lines of a strip, lines that windows reach further down, width); see `fill` for `sources` and `step`, and `spread`
    for `placed`.
    """
    lines, strip, reach, width = shape
    each, size, strips = out.shape[1] // groups, (strip + reach) * width, (lines + strip - 1) // strip
    blocks, count = (each + ROWS - 1) // ROWS, len(offsets)
    ld = strip * width + 2 * LANES
    planes, scratch = room(x.shape[1], len(sources), size, width), np.empty(blocks * ROWS * ld, np.float32)
    for piece in range(first, last):
        n, top = piece // strips, piece % strips * strip
        some = min(strip, lines - top)
        fill(x[n], sources, step, top, some + reach, width, size, planes, ZERO)
        length = (some - 1) * width + placed[0]
        for group in range(groups):
            begin = group * (x.shape[1] // groups) * len(sources) * size
            multiply(weights, group * blocks * count * ROWS, blocks, planes, begin, offsets, length, scratch, ld)
            mine = slice(group * each, (group + 1) * each)
            spread(scratch, ld, width, some, bias[mine], out[n, mine], top, placed)


def turn(g: Array, top: int, lines: int, width: int, groups: int, padded: int, places: Array, out: Array) -> None:
    """Transpose lines of `g` (O, H', W') to (l, groups, `padded` channels); garbage columns stay as they are: 0."""
    outputs, height, columns = g.shape
    each, flat = outputs // groups, g.reshape(-1)
    pixels = lines * columns
    for group in range(groups):
        for o in range(0, each, LANES):
            source, to = (group * each + o) * height * columns + top * columns, group * padded + o
            whole = pixels // LANES * LANES if o + LANES <= each else 0
            for p in range(0, whole, LANES):
                transpose_tile(flat, source + p, height * columns, out, to, places[p:])
            for p in range(whole, pixels):
                for channel in range(min(LANES, each - o)):
                    out[to + places[p] + channel] = flat[source + channel * height * columns + p]


def add_gradient(
    planes: Array, offsets: Array, turned: Array, length: int, groups: int, padded: int, apart: int, total: Array
) -> None:
    """Add the gradient for the weights (groups, len(offsets), `padded`) of one strip to `total`.

    The planes of groups begin `apart` numbers apart.
    """
    count, ld = len(offsets), groups * padded
    for group in range(groups):
        for k in range(0, count, ROWS):
            for o in range(0, padded, 2 * LANES):
                at = (group * count + k) * padded + o
                if padded - o > LANES:
                    gram_tile(
                        planes, group * apart, offsets[k:], 1, turned, group * padded + o, ld, length, total, at, padded
                    )
                else:
                    half_gram_tile(
                        planes, group * apart, offsets[k:], 1, turned, group * padded + o, ld, length, total, at, padded
                    )


def correlate_weights(
    x: In4,
    g: In4,
    offsets: Labels,
    sources: Int64_2,
    shape: Ints4,
    step: Ints2,
    groups: int,
    padded: int,
    places: Labels,
    total: Out1,
    first: int,
    last: int,
) -> None:
    """Add the gradient for the weights of the strips `first` to `last` to `total` (groups, len(offsets), padded).

    x (N, C, H, W), g (N, O, H', W'); arguments as for `correlate`. `places` says where the pixels of a strip of `g`
    begin when they are transposed.
    """
    lines, strip, reach, width = shape
    size, strips = (strip + reach) * width, (lines + strip - 1) // strip
    planes = room(x.shape[1], len(sources), size, width)
    turned = np.zeros(strip * width * groups * padded, np.float32)
    for piece in range(first, last):
        n, top = piece // strips, piece % strips * strip
        some = min(strip, lines - top)
        fill(x[n], sources, step, top, some + reach, width, size, planes, ZERO)
        turn(g[n], top, some, width, groups, padded, places, turned)
        length = (some - 1) * width + g.shape[3]
        apart = (x.shape[1] // groups) * len(sources) * size
        add_gradient(planes, offsets, turned, length, groups, padded, apart, total)
