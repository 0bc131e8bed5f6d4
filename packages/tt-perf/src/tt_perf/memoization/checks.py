"""Part of module 17: checks of keys, values, rows and counts."""

from __future__ import annotations

from collections.abc import Sequence

from tt_core.engine.dispatch import Array
from tt_core.engine.errors import OutOfRangeError, TinyTorchError
from tt_core.tensor import Tensor
from tt_learn.autograd import GradientError

MOST_REPEATS = 1 << 16
"""The most copies of a row. A larger number is a typing error, and a list of that many rows would not fit in memory."""


class CacheError(TinyTorchError, ValueError):
    """A cache that does not fit the model, the text or the option it is used with, or a damaged cache file."""


def check_new(k: Tensor, v: Tensor) -> None:
    """Raise `GradientError` for keys and values that require gradients, `CacheError` for shapes that do not fit."""
    if getattr(k, "requires_grad", False) or getattr(v, "requires_grad", False):
        raise GradientError("kv-cache: cached keys and values get no gradient; run the model under no_grad()")
    if k.ndim != 4 or v.ndim != 4 or k.shape[:3] != v.shape[:3]:
        raise CacheError(
            f"kv-cache: keys and values are (batch, heads, positions, size), got {tuple(k.shape)} and {tuple(v.shape)}"
        )


def check_alike(rows: int, kept: Array, new: Array) -> None:
    """Raise `CacheError` for a batch, heads, size or dtype other than the cache holds, (..., heads, ..., size)."""
    if rows != len(new):  # NumPy would repeat a single one
        raise CacheError(f"kv-cache: the cache holds {rows} texts, got {len(new)}; start another cache")
    if (kept.shape[1], kept.shape[3], kept.dtype) != (new.shape[1], new.shape[3], new.dtype):
        raise CacheError(
            f"kv-cache: the cache holds {kept.shape[1]} heads of {kept.shape[3]} {kept.dtype}, got {new.shape[1]} "
            f"of {new.shape[3]} {new.dtype}; the cache is of another model, or the model changed"
        )


def check_finished(lengths: Sequence[int], before: int) -> None:
    """Raise `CacheError` if layers hold different numbers of positions; `before` is the number before the last call."""
    if len(set(lengths)) > 1:
        raise CacheError(
            f"kv-cache: the last call of the model ended with an error, and only some layers have stored its "
            f"positions; remove them with crop({before}), or start another cache"
        )


def check_least(what: str, **counts: int) -> None:
    """Raise `CacheError` for a count below 1."""
    for name, count in counts.items():
        if count < 1:
            raise CacheError(f"{what}: {name} is {count}, expected 1 or more")


def checked_rows(rows: Sequence[int], count: int) -> list[int]:
    """Rows as a list; raises `OutOfRangeError` for a row outside 0 to `count` - 1."""
    chosen = [int(row) for row in rows]
    wrong = next((row for row in chosen if not 0 <= row < count), None)
    if wrong is not None:
        raise OutOfRangeError(f"select: row {wrong} is out of range for the {count} rows of the cache")
    return chosen
