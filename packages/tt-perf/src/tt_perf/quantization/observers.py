"""Module 15, quantization: observers, which watch numbers pass and choose the range that integers should cover.

A range that holds everything (min-max) wastes its steps on rare spikes. The others give up some outliers on purpose: by
a running average here, and in `counting.py` by a percentile, by the least squared error, or by the least loss of
information.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.tensor import as_array
from tt_perf.quantization.affine import QuantizationError, choose_qparams

if TYPE_CHECKING:
    from tt_core import Tensor


class Observer:
    """Base of all observers: `observe` arrays or tensors, then ask for `calculate_qparams()`.

    Without `axis`, an observer chooses one range for all numbers; with it, one for each index along that dimension. A
    subclass defines `_see(rows)`, with a row for each range, and `_range()`, which returns the lowest and the highest
    ends as two arrays.
    """

    @checked
    def __init__(self, axis: int | None = None) -> None:
        if not (axis is None or isinstance(axis, int)):
            raise QuantizationError(f"{type(self).__name__}: axis is a dimension or None, got {axis!r}")
        self.axis = axis
        self.count = 0

    @checked
    def observe(self, x: Tensor | Array) -> None:
        """Take the numbers of `x` into account; raises `QuantizationError` for an empty array, nan and infinities."""
        array = as_array(x)
        name = type(self).__name__
        if not array.size:
            raise QuantizationError(f"{name}: an empty batch has no range; leave it out")
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            what = "nan or infinite numbers" if array.dtype.kind == "f" else f"{array.dtype} values"
            raise QuantizationError(f"{name}: got {what}, a range is chosen for finite floats")
        if self.axis is None:
            rows = array.reshape(1, -1)  # one range for all
        else:
            if not -array.ndim <= self.axis < array.ndim:
                raise QuantizationError(f"{name}: axis {self.axis} is none of the dimensions of {array.shape}")
            # (..., n, ...) -> (n, all else): a row for each range
            rows = np.moveaxis(array, self.axis, 0).reshape(array.shape[self.axis], -1)
        self._see(rows)
        self.count += array.size

    def range(self) -> tuple[Any, Any]:
        """Lowest and highest end, numbers or arrays with `axis`; raises `QuantizationError` before `observe`."""
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
        low, high = rows.min(1), rows.max(1)  # (ranges,)
        if self.count:
            low, high = self._joined(low, high)
        self._low, self._high = low, high

    def _joined(self, low: Array, high: Array) -> tuple[Array, Array]:
        """The range so far, extended by one more batch."""
        return np.minimum(self._low, low), np.maximum(self._high, high)

    def _range(self) -> tuple[Array, Array]:
        return self._low, self._high


class MovingAverageMinMaxObserver(MinMaxObserver):
    """A range that moves towards the range of each batch by the share `averaging_constant`.

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
        """Moves the ends of the range towards those of this batch."""
        part = self.averaging_constant
        return self._low + part * (low - self._low), self._high + part * (high - self._high)
