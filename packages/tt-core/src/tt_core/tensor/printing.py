"""Module 01, tensor: how a tensor is shown, in a terminal and in a notebook."""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, HasArray
from tt_core.engine.errors import ShapeError


class Printable(HasArray):
    """What `Tensor` inherits to show its elements, and to be formatted in text."""

    def __repr__(self) -> str:
        return f"tensor({_format(self.data)}{self._repr_suffix()})"

    def _repr_suffix(self) -> str:
        """What follows the elements: a shape or a dtype that they do not show."""
        data = self.data
        default = data.dtype == np.float32 or (data.size and data.dtype in (np.int64, np.bool_))
        empty = f", shape={data.shape}" if not data.size and data.ndim > 1 else ""
        return empty + ("" if default else f", dtype={data.dtype}")

    def _repr_html_(self) -> str:
        """The HTML for a notebook: the `repr`, and the shape and dtype below it."""
        from tt_core.engine.notebook import captioned

        data = self.data
        return captioned(repr(self), f"shape {data.shape}, {data.dtype}, {data.size:,} elements")

    def __format__(self, spec: str) -> str:
        if spec and self.data.size == 1:
            return format(self.data.item(), spec)
        try:
            return format(repr(self), spec)
        except ValueError:
            raise ShapeError(f"format: {spec!r} needs exactly one element, got shape {self.data.shape}") from None


def _format(array: Array) -> str:
    """The numbers as PyTorch prints them: four digits, large tensors abridged, columns aligned."""
    if not array.size:
        return "[]"
    if array.dtype == np.bool_ and array.ndim:
        width = 4 if array.all() else 5  # NumPy leaves room for False where there is none
        return _text(array, formatter={"bool": lambda value: f"{value!s:>{width}}"})
    if array.ndim == 1 and array.dtype.kind == "f" and array.size <= _SHOWN:
        finite = np.isfinite(array)
        if not finite.all():  # in a vector, nan and inf do not widen the other numbers
            numbers = _text(np.where(finite, array, 0), max_line_width=1 << 30)[1:-1].split(", ")
            words = [number if known else f"{x:>{len(number)}}" for number, known, x in zip(numbers, finite, array)]
            return _text(np.array(words, object), formatter={"all": str})
    return _text(array)


_SHOWN = 1000
"""Of more elements than this, only the ones at the edges are printed."""


def _text(array: Array, max_line_width: int = 80, **options: Any) -> str:
    layout: dict[str, Any] = {"separator": ", ", "prefix": "tensor(", "threshold": _SHOWN}
    return np.array2string(array, precision=4, floatmode="maxprec", max_line_width=max_line_width, **layout, **options)
