"""Compares what a learner's function returned with what the framework's did, and explains the difference."""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core.course.trial import Seen, short


def explained(wanted: Seen, found: Seen) -> list[str]:
    """How a learner's value differs from the expected one, as lines; empty where it does not.

    >>> explained(Seen("f(1)", np.float32(2)), Seen("f(1)", np.float32(2)))
    []
    >>> print(*explained(Seen("f(1)", np.float32(2), "the sign"), Seen("f(1)", np.float32(-2))), sep="\\n")
    called    f(1)
    expected  2. (float32, shape ())
    got       -2. (float32, shape ())
    look at   the sign
    """
    reason = difference(wanted.value, found.value, wanted.rtol, wanted.atol)
    if reason is None:
        return []
    lines = [
        f"called    {wanted.call}",
        f"expected  {_described(wanted.value)}",
        f"got       {_described(found.value)}",
    ]
    if reason:
        lines.append(f"differs   {reason}")
    return [*lines, *([f"look at   {wanted.why}"] if wanted.why else [])]


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        text = short(array)
        shape = "" if text.startswith("array of shape") else f", shape {array.shape}"
        return f"{text} ({array.dtype}{shape})"
    return short(value)


def difference(wanted: object, found: object, rtol: float, atol: float) -> str | None:
    """How two values differ, in words or "" where the values show it; None where they are alike.

    >>> difference(np.zeros(2), np.zeros(3), 0, 0)
    'in shape'
    >>> difference([1, 2], [1, 2], 0, 0) is None
    True
    """
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return "in the number of results"
        parts = (difference(w, f, rtol, atol) for w, f in zip(wanted, found, strict=True))
        return next((part for part in parts if part is not None), None)
    if isinstance(wanted, np.ndarray | np.generic):
        return _array_difference(np.asarray(wanted), found, rtol, atol)
    if isinstance(wanted, bool | int | float) and isinstance(found, np.ndarray | np.generic):
        return f"in kind: a Python number is expected, not one of NumPy; {type(wanted).__name__}(...) makes one"
    if isinstance(wanted, float) and isinstance(found, float | int) and not isinstance(found, bool):
        return None if np.isclose(found, wanted, rtol=rtol, atol=atol, equal_nan=True) else ""
    return None if type(wanted) is type(found) and wanted == found else ""


def _array_difference(wanted: Any, found: Any, rtol: float, atol: float) -> str | None:
    if type(found) is float and wanted.shape == () and wanted.dtype == np.float64:
        found = np.float64(found)  # NumPy's arithmetic on arrays without dimensions gives this subclass of float
    if not isinstance(found, np.ndarray | np.generic):
        return "in kind: an array or a tensor is expected"
    if wanted.shape != found.shape:
        return "in shape"
    if wanted.dtype != found.dtype:
        return "in dtype"
    if wanted.dtype.kind != "f":
        return None if np.array_equal(wanted, found) else _share(wanted != found)
    close = np.isclose(found, wanted, rtol=rtol, atol=atol * _size(wanted), equal_nan=True)
    return None if close.all() else _share(~close)


def _size(wanted: Any) -> float:
    """The largest finite number, at least 1: where large terms cancel, the rounding error is a share of it."""
    return max(1.0, float(np.abs(wanted, where=np.isfinite(wanted), out=np.zeros(wanted.shape)).max(initial=0.0)))


def _share(wrong: Any) -> str:
    return "" if wrong.size <= 24 else f"in {int(wrong.sum()):,} of {wrong.size:,} elements"
