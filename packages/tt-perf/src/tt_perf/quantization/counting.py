"""Part of module 15: observers that choose a range by the distribution of the numbers: percentile, MSE, histogram."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_perf.quantization.affine import QuantizationError, choose_qparams
from tt_perf.quantization.observers import MinMaxObserver, MovingAverageMinMaxObserver, Observer

_BITS = 12
"""Bits of a float32 that counting rounds away: 12 of its 24 significant ones stay."""


class _Counting(MinMaxObserver):
    """Base of the observers that choose a range by the distribution: counts all numbers, rounded to 12 bits.

    No spike among millions is missed. Bins are finer near 0, so a spike of 1000 does not make the count around 0
    coarser, as it would with bins of equal width.
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
            # floats of one sign are ordered as their bits are, so the upper bits name a bin, finer near 0
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

    Works on absolute values, so the range is equally wide on both sides; it never exceeds the observed range.

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
