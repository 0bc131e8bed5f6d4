"""Beside module 18: kernels of convolution that hand their arrays to the loops of `planes.py`, compiled or not.

This file has the geometry: which planes, where each element of a window is in them, and how many lines make a strip.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.threads import at_once, get_num_threads, split
from tt_data.spatial import convolution as C
from tt_data.spatial.windows import IntOrPair, Pair, Windows, windows
from tt_perf.acceleration.uncovered import contiguous, leave, unfit
from tt_perf.kernels.tiles import LANES, ROWS

Call = Callable[..., Any]

CACHE = 384 << 10
"""Bytes of the planes and results of a strip: about a third of a second-level cache, which weights share."""

SMALL = 4e6
"""Multiplications below which handing a half to another core costs more than it saves: 30 us of one core."""


@dataclass(frozen=True)
class Side:
    """Rows or columns of a correlation: where a source's pixels are, and where windows are among them."""

    sources: tuple[tuple[int, int, int], ...]
    """For each source (first pixel, start, stop): positions start to stop of a line hold pixels of the image."""
    taps: tuple[tuple[int, int], ...]
    """For each element of the kernel (source, shift)."""
    count: int
    """Results."""
    reach: int
    """The largest shift."""
    step: int
    """Pixels of the image from one position to the next."""
    placed: Pair
    """Where results are in the result: the first, and how far apart."""


def _within(first: int, step: int, size: int, length: int) -> tuple[int, int, int]:
    """The positions of a line of `length` that are inside an image of `size`, if position 0 is pixel `first`."""
    start = min(max(0, -(first // step)), length)
    return first, start, max(start, min(length, -((first - size) // step)))


def forward_side(w: Windows, d: int) -> Side:
    """Windows on the image: a source has every `stride`-th pixel."""
    shifts = [divmod(k * w.dilation[d], w.stride[d]) for k in range(w.kernel[d])]
    starts = sorted({start for _, start in shifts})
    reach = max(shift for shift, _ in shifts)
    first = [start - w.padding[d][0] for start in starts]
    sources = tuple(_within(f, w.stride[d], w.size[d], w.out[d] + reach) for f in first)
    taps = tuple((starts.index(start), shift) for shift, start in shifts)
    return Side(sources, taps, w.out[d], reach, w.stride[d], (0, 1))


def backward_sides(w: Windows, d: int) -> list[tuple[Side, list[int]]]:
    """Windows on the gradient, for the pixels of each source of the image, with the elements of the kernel there."""
    found = []
    for start in range(w.stride[d]):
        elements = [k for k in range(w.kernel[d]) if k * w.dilation[d] % w.stride[d] == start]
        shifts = [k * w.dilation[d] // w.stride[d] for k in elements] or [0]
        before = w.padding[d][0] - start
        first, last = -(-before // w.stride[d]), (w.size[d] - 1 + before) // w.stride[d]
        count, reach = last - first + 1, max(shifts) - min(shifts)
        if count > 0:
            source = _within(first - max(shifts), 1, w.out[d], count + reach)
            taps = tuple((0, max(shifts) - shift) for shift in shifts[: len(elements)])
            found.append(
                (Side((source,), taps, count, reach, 1, (first * w.stride[d] - before, w.stride[d])), elements)
            )
    return found


class Correlation:
    """What the loops need to know of rows and columns together."""

    def __init__(self, rows: Side, columns: Side) -> None:
        self.rows, self.columns = rows, columns
        full = columns.count + columns.reach
        shared = min(
            min(start, full - stop) for _, start, stop in columns.sources
        )  # the end of a line is the next one's start
        self.width = max(columns.count, full - shared)
        pairs = [(y[0], *x) for y in rows.sources for x in columns.sources]
        self.sources = np.array(pairs, np.int64).reshape(-1, 4)
        self.step = (rows.step, columns.step)
        self.placed = (columns.count, *rows.placed, *columns.placed)
        self._offsets: dict[tuple[int, int, int], Array] = {}

    def lines(self, images: int, inputs: int, outputs: int) -> int:
        """Lines of a strip: what fits into the cache, and enough strips for all cores."""
        inputs *= len(self.sources)
        most = (CACHE // 4 // self.width - inputs * self.rows.reach) // max(inputs + outputs, 1)
        strips = max(-(-self.rows.count // max(most, 1)), min(-(-get_num_threads() // images), self.rows.count))
        return -(-self.rows.count // strips)

    def shape(self, strip: int) -> tuple[int, int, int, int]:
        return self.rows.count, strip, self.rows.reach, self.width

    def pieces(self, images: int, strip: int) -> int:
        return images * -(-self.rows.count // strip)

    def offsets(self, channels: int, strip: int, multiple: int = 1) -> Array:
        """Where each element (channel, i, j) of a window is, from the window's place in the first plane.

        Zeros fill the table up to a multiple of `multiple`.
        """
        key = channels, strip, multiple
        if key not in self._offsets:
            size, across = (strip + self.rows.reach) * self.width, len(self.columns.sources)
            one = [
                (p * across + q) * size + down * self.width + right
                for p, down in self.rows.taps
                for q, right in self.columns.taps
            ]
            found = (np.arange(channels)[:, None] * len(self.sources) * size + np.array(one, np.int64)).reshape(-1)
            self._offsets[key] = np.concatenate([found, np.zeros(-len(found) % multiple, np.int64)])
        return self._offsets[key]


@functools.lru_cache(maxsize=256)
def forward(w: Windows) -> Correlation:
    """The correlation that `conv2d` is."""
    return Correlation(forward_side(w, 0), forward_side(w, 1))


@functools.lru_cache(maxsize=256)
def backward(w: Windows) -> list[tuple[Correlation, list[int]]]:
    """The correlations that give the gradient for the input, with the elements of the kernel that each uses."""
    return [
        (Correlation(rows, columns), [i * w.kernel[1] + j for i in down for j in across])
        for rows, down in backward_sides(w, 0)
        for columns, across in backward_sides(w, 1)
    ]


def packed(weight: Array) -> Array:
    """(groups, rows, K) in the order in which tiles read: (groups, blocks, K, ROWS), flat, 0 in rows that are none."""
    groups, rows, count = weight.shape
    out = np.zeros((groups, -(-rows // ROWS), ROWS, count), np.float32)
    out.reshape(groups, -1, count)[:, :rows] = weight
    return np.ascontiguousarray(out.swapaxes(2, 3)).reshape(-1)


def on_cores(work: Callable[[slice], Any], pieces: int, multiplications: float, each: int = 4) -> list[Any]:
    """What `work` gives for `each` slices of `range(pieces)` a core, in order; for one if there is little to do."""
    threads = get_num_threads() if multiplications >= SMALL else 1
    return at_once(work, split(pieces, threads * each if threads > 1 else 1))


def sum_of_weights(work: Callable[[Array, slice], None], pieces: int, size: int, multiplications: float) -> Array:
    """The sum of what `work(total, some)` adds to arrays of `size` for slices of `range(pieces)`, in their order."""

    def part(some: slice) -> Array:
        total = np.zeros(size, np.float32)
        work(total, some)
        return total

    return functools.reduce(np.add, on_cores(part, pieces, multiplications, each=2))


def convolutions_from(loop: dict[str, Call]) -> dict[str, Call]:
    """Kernels of convolution, by the ops' names."""

    def conv2d(
        x: Array,
        weight: Array,
        bias: Array | None = None,
        /,
        stride: IntOrPair = 1,
        padding: IntOrPair | str = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
    ) -> Array:
        reason = unfit(x, weight, bias) or _unlike_images(x, weight)
        if reason:
            leave("conv2d", reason)
            return C.conv2d.kernel(x, weight, bias, stride, padding, dilation, groups)
        w = windows(x.shape[2:], weight.shape[2:], stride, padding, dilation)
        plan, outputs = forward(w), len(weight)
        strip = plan.lines(len(x), x.shape[1], outputs)
        weights = packed(weight.reshape(groups, outputs // groups, -1))
        offsets = plan.offsets(weight.shape[1], strip)
        shift = np.zeros(outputs, np.float32) if bias is None else bias
        out = np.empty((len(x), outputs, *w.out), np.float32)
        run = loop["correlate"]

        def work(some: slice) -> None:
            how = plan.sources, plan.shape(strip), plan.step, plan.placed
            run(x, weights, offsets, *how, shift, groups, out, some.start, some.stop)

        on_cores(work, plan.pieces(len(x), strip), out.size * weight[0].size)
        return out

    def conv2d_input(
        g: Array,
        weight: Array,
        /,
        size: Pair,
        stride: IntOrPair = 1,
        padding: IntOrPair | str = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
    ) -> Array:
        g = contiguous(g)
        reason = unfit(g, weight) or _unlike_images(g, weight)
        if not reason and not math.isfinite(float(weight.sum())):  # it would meet the border of zeros
            reason = "a weight that is not finite"
        if reason:
            leave("conv2d_input", reason)
            return C.conv2d_input.kernel(g, weight, size, stride, padding, dilation, groups)
        w = windows(size, weight.shape[2:], stride, padding, dilation)
        each = weight.shape[1]
        plans = backward(w)
        make = np.empty if all(elements for _, elements in plans) else np.zeros  # pixels that no window covers
        out = make((len(g), each * groups, *size), np.float32)
        kernels = weight.reshape(groups, len(weight) // groups, each, -1).swapaxes(1, 2)  # (groups, C, O, kh kw)
        nothing, run = np.zeros(each * groups, np.float32), loop["correlate"]
        for plan, elements in plans:
            if not elements:
                continue
            some = kernels if len(elements) == kernels.shape[3] else kernels[..., elements]
            weights = packed(some.reshape(groups, each, -1))
            strip = plan.lines(len(g), g.shape[1], each * groups)
            offsets = plan.offsets(len(weight) // groups, strip)

            def work(some: slice) -> None:
                how = plan.sources, plan.shape(strip), plan.step, plan.placed  # noqa: B023
                run(g, weights, offsets, *how, nothing, groups, out, some.start, some.stop)  # noqa: B023

            on_cores(work, plan.pieces(len(g), strip), out.size * weights.size / weight.shape[1])
        return out

    def conv2d_weight(
        g: Array,
        x: Array,
        /,
        kernel_size: Pair,
        stride: IntOrPair = 1,
        padding: IntOrPair | str = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
    ) -> Array:
        g = contiguous(g)
        reason = unfit(g, x) or _unlike_images(g, x)
        if reason:
            leave("conv2d_weight", reason)
            return C.conv2d_weight.kernel(g, x, kernel_size, stride, padding, dilation, groups)
        w = windows(x.shape[2:], kernel_size, stride, padding, dilation)
        plan, outputs, channels = forward(w), g.shape[1], x.shape[1] // groups
        padded, count = -(-outputs // groups // LANES) * LANES, channels * math.prod(w.kernel)
        strip = plan.lines(len(x), x.shape[1], padded * groups)
        offsets = plan.offsets(channels, strip, ROWS)
        places = (np.arange(strip)[:, None] * plan.width + np.arange(w.out[1])).reshape(-1) * (groups * padded)
        run = loop["correlate_weights"]

        def work(total: Array, some: slice) -> None:
            how = plan.sources, plan.shape(strip), plan.step
            run(x, g, offsets, *how, groups, padded, places, total, some.start, some.stop)

        size = groups * len(offsets) * padded
        total = sum_of_weights(work, plan.pieces(len(x), strip), size, g.size * count)
        total = total.reshape(groups, -1, padded)[:, :count, : outputs // groups]
        if not math.isfinite(float(total.sum())):  # an infinite pixel met the zeros of garbage columns
            leave("conv2d_weight", "a result that is not finite")
            return C.conv2d_weight.kernel(g, x, kernel_size, stride, padding, dilation, groups)
        return np.ascontiguousarray(total.swapaxes(1, 2)).reshape(outputs, channels, *w.kernel)

    return {kernel.__name__: kernel for kernel in (conv2d, conv2d_input, conv2d_weight)}


def _unlike_images(*arrays: Array) -> str:
    """Why the loops are not made for images and kernels of four dimensions."""
    if any(x.ndim != 4 for x in arrays):
        return "one image"
    return "" if all(x.size for x in arrays) else "nothing"
