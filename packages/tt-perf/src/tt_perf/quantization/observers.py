"""Module 15, quantization: observers, which watch numbers pass and choose the range that integers should cover.

A range that holds everything (min-max) wastes its steps on rare spikes. The others give up some outliers on purpose: by
a running average, by a percentile, by the least squared error, or by the least loss of information.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.tensor import as_array
from tt_perf.quantization.affine import QuantizationError, choose_qparams


class Observer:
    """Base of all observers: `observe` arrays or tensors, then ask for `calculate_qparams()`.

    `axis` None chooses one range for all numbers, another one a range for each index along that dimension. A subclass
    defines `_see(rows)`, with a row for each range, and `_range()`, which gives two arrays of lowest and highest ends.
    """

    @checked
    def __init__(self, axis: int | None = None) -> None:
        if not (axis is None or isinstance(axis, int)):
            raise QuantizationError(f"{type(self).__name__}: axis is a dimension or None, got {axis!r}")
        self.axis = axis
        self.count = 0

    @checked
    def observe(self, x: Any) -> None:
        """Take the numbers of `x` into account; raises `QuantizationError` for none, for nan and for infinities."""
        array = as_array(x)
        name = type(self).__name__
        if not array.size:
            raise QuantizationError(f"{name}: an empty batch has no range; leave it out")
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            what = "nan or infinite numbers" if array.dtype.kind == "f" else f"{array.dtype} values"
            raise QuantizationError(f"{name}: got {what}, a range is chosen for finite floats")
        if self.axis is None:
            rows = array.reshape(1, -1)
        else:
            if not -array.ndim <= self.axis < array.ndim:
                raise QuantizationError(f"{name}: axis {self.axis} is none of the dimensions of {array.shape}")
            rows = np.moveaxis(array, self.axis, 0).reshape(array.shape[self.axis], -1)
        self._see(rows)
        self.count += array.size

    def range(self) -> tuple[Any, Any]:
        """Lowest and highest end: numbers, or arrays with `axis`; raises `QuantizationError` before any was seen."""
        if not self.count:
            raise QuantizationError(f"{type(self).__name__}: saw no numbers; run the model on some data first")
        low, high = self._range()
        return (low, high) if self.axis is not None else (float(low[0]), float(high[0]))

    @checked
    def calculate_qparams(
        self, quant_min: int = -128, quant_max: int = 127, symmetric: bool = False
    ) -> tuple[Array, Array]:
        """Scale and zero point of the range, as `choose_qparams` gives them."""
        return choose_qparams(*self.range(), quant_min, quant_max, symmetric)

    def _see(self, rows: Array) -> None:
        raise NotImplementedError(f"{type(self).__name__} defines no _see(self, rows)")

    def _range(self) -> tuple[Array, Array]:
        raise NotImplementedError(f"{type(self).__name__} defines no _range(self)")


class MinMaxObserver(Observer):
    """The smallest and the largest number seen: nothing saturates.

    >>> observer = MinMaxObserver()
    >>> observer.observe(np.array([-1.0, 3.0]))
    >>> observer.range()
    (-1.0, 3.0)
    """

    _low: Array
    _high: Array

    def _see(self, rows: Array) -> None:
        low, high = rows.min(1), rows.max(1)
        if self.count:
            low, high = self._joined(low, high)
        self._low, self._high = low, high

    def _joined(self, low: Array, high: Array) -> tuple[Array, Array]:
        """The range so far, with that of one more batch."""
        return np.minimum(self._low, low), np.maximum(self._high, high)

    def _range(self) -> tuple[Array, Array]:
        return self._low, self._high


class MovingAverageMinMaxObserver(MinMaxObserver):
    """Ends that move towards those of each batch by the part `averaging_constant`: one odd batch changes little.

    >>> observer = MovingAverageMinMaxObserver(averaging_constant=0.5)
    >>> for highest in (2.0, 4.0):
    ...     observer.observe(np.array([0.0, highest]))
    >>> observer.range()
    (0.0, 3.0)
    """

    @checked
    def __init__(self, averaging_constant: float = 0.01, axis: int | None = None) -> None:
        super().__init__(axis)
        if not 0 < averaging_constant <= 1:
            raise QuantizationError(
                f"MovingAverageMinMaxObserver: averaging_constant is {averaging_constant}, expected above 0, at most 1"
            )
        self.averaging_constant = averaging_constant

    def _joined(self, low: Array, high: Array) -> tuple[Array, Array]:
        part = self.averaging_constant
        return self._low + part * (low - self._low), self._high + part * (high - self._high)


_BITS = 12
"""Bits of a float32 that counting rounds away: 12 of its 24 significant ones stay."""


class _Counting(MinMaxObserver):
    """Counts all numbers, rounded to 12 significant bits, for those who choose a range by the distribution.

    No spike among millions is missed, and a tensor with a spike of 1000 is counted as finely around 0 as one without,
    which bins of one width would not do.
    """

    @checked
    def __init__(self, axis: int | None = None) -> None:
        super().__init__(axis)
        self._counts: list[dict[str, Array]] = []

    def _see(self, rows: Array) -> None:
        super()._see(rows)
        if not self._counts:
            self._counts = [{"keys": np.empty(0, np.int64), "counts": np.empty(0, np.int64)} for _ in rows]
        for known, row in zip(self._counts, rows):
            bits = np.ascontiguousarray(row, np.float32).view(np.uint32).astype(np.int64)
            found = np.bincount(bits + (1 << _BITS - 1) >> _BITS)
            new = found.nonzero()[0]
            keys, places = np.unique(np.concatenate([known["keys"], new]), return_inverse=True)
            counts = np.bincount(places, np.concatenate([known["counts"], found[new]])).astype(np.int64)
            known.update(keys=keys, counts=counts)

    def _range(self) -> tuple[Array, Array]:
        ends = []
        for known, low, high in zip(self._counts, *super()._range()):
            values = (known["keys"] << _BITS).astype(np.uint32).view(np.float32)
            ends.append(self._choose(values.astype(np.float64), known["counts"], float(low), float(high)))
        lows, highs = zip(*ends)
        return np.array(lows), np.array(highs)

    def _choose(self, values: Array, counts: Array, low: float, high: float) -> tuple[float, float]:
        raise NotImplementedError


class PercentileObserver(_Counting):
    """The ends between which `percentile` percent of the numbers lie; half of the rest saturates on each side.

    >>> observer = PercentileObserver(percentile=80)
    >>> observer.observe(np.arange(11.0))
    >>> observer.range()
    (1.0, 9.0)
    """

    @checked
    def __init__(self, percentile: float = 99.99, axis: int | None = None) -> None:
        super().__init__(axis)
        if not 0 < percentile <= 100:
            raise QuantizationError(f"PercentileObserver: percentile is {percentile}, expected above 0, at most 100")
        self.percentile = percentile

    def _choose(self, values: Array, counts: Array, low: float, high: float) -> tuple[float, float]:
        order = np.argsort(values)
        below = counts[order].cumsum()
        tail = (100 - self.percentile) / 200 * below[-1]
        first, last = np.searchsorted(below, [tail, below[-1] - tail])
        return max(low, float(values[order][first])), min(high, float(values[order][last]))


class MSEObserver(_Counting):
    """The part of the min-max range that gives the least mean squared error with 256 steps.

    It keeps to min-max where another range is less than 1 % better, so it is never worse on what it saw.

    >>> observer, spiky = MSEObserver(), np.append(np.linspace(-1.0, 1.0, 2_000_000), 50.0)
    >>> observer.observe(spiky)
    >>> observer.range()[1] < 50
    True
    """

    def _choose(self, values: Array, counts: Array, low: float, high: float) -> tuple[float, float]:
        best, least = (low, high), 0.99 * _squared_error(values, counts, low, high)
        for _ in range(2):  # the second time from the best so far
            for ends in _shrunk(*best):
                error = _squared_error(values, counts, *ends)
                if error < least:
                    best, least = ends, error
        return best


def _shrunk(low: float, high: float) -> Iterator[tuple[float, float]]:
    """Ranges to try: both ends together, and each end alone, 7 % nearer to 0 each time."""
    for part in 0.93 ** np.arange(1, 60):
        yield low * part, high * part
        if low < 0 < high:
            yield low, high * part
            yield low * part, high


def _squared_error(values: Array, counts: Array, low: float, high: float) -> float:
    scale, zero_point = choose_qparams(low, high)
    q = np.rint(values / scale)
    q += zero_point
    np.clip(q, -128, 127, out=q)
    q -= zero_point
    q *= scale
    q -= values
    q *= q
    return float(np.dot(q, counts))


class HistogramObserver(_Counting):
    """The range that loses least information: the least Kullback-Leibler divergence of the distribution with 128 steps
    a side from that with 2048 (Migacz 2017, "8-bit inference with TensorRT").

    Works on absolute values, so the range is as wide on both sides; it never exceeds what was seen.

    >>> observer = HistogramObserver()
    >>> observer.observe(np.random.default_rng(0).standard_normal(20_000))
    >>> observer.range()[1] > 2
    True
    """

    bins = 2048
    steps = 128

    def _choose(self, values: Array, counts: Array, low: float, high: float) -> tuple[float, float]:
        largest = max(-low, high)
        if largest <= 0:
            return low, high
        inexact = np.where(values == 0, 0, counts)  # zeros, which ReLU makes many of, are exact in any range
        bars = np.histogram(np.abs(values), self.bins, (0, largest), weights=inexact)[0]
        widths = range(self.steps, self.bins + 1, self.steps // 4)
        best = min(widths, key=lambda width: self._divergence(bars, width))
        end = largest * best / self.bins
        return max(low, -end), min(high, end)

    def _divergence(self, counts: Array, width: int) -> float:
        """KL divergence between what lies in the first `width` bins, the rest added to the last, and its 128 steps."""
        p = counts[:width].copy()
        seen = p > 0
        p[-1] += counts[width:].sum()
        edges = np.arange(self.steps) * width // self.steps
        sums = np.add.reduceat(counts[:width], edges)
        filled = np.maximum(np.add.reduceat(seen.astype(np.float64), edges), 1)
        q = np.repeat(sums / filled, np.diff(np.append(edges, width))) * seen
        if not p.sum() or not q.sum():
            return np.inf
        p, q = p / p.sum(), q / q.sum()
        here = p > 0
        return float((p[here] * np.log(p[here] / np.maximum(q[here], 1e-12))).sum())


OBSERVERS: dict[str, type[Observer]] = {
    "minmax": MinMaxObserver,
    "moving-average": MovingAverageMinMaxObserver,
    "percentile": PercentileObserver,
    "mse": MSEObserver,
    "histogram": HistogramObserver,
}
"""Observers by the names that `calibrating` takes."""
