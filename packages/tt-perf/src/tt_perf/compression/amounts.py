"""Part of module 16: how many weights an amount means, and which options of `prune_` go together."""

from __future__ import annotations

from typing import Any

from tt_core.engine.dispatch import Array
from tt_core.engine.errors import is_integer, is_number
from tt_perf.compression.masks import Weight
from tt_perf.compression.reports import CompressionError


def check_options(amount: object, method: object, scope: object, pattern: Any, calibration: object) -> None:
    """Raise `CompressionError` for options of `prune_` that are unknown or exclude each other."""
    if (amount is None) == (pattern is None):
        raise CompressionError("prune_: give one of amount and pattern")
    if method not in ("magnitude", "random", "wanda"):
        raise CompressionError(f"prune_: method is {method!r}, expected magnitude, random or wanda")
    if scope not in ("global", "layer", "row"):
        raise CompressionError(f"prune_: scope is {scope!r}, expected global, layer or row")
    if (method == "wanda") != (calibration is not None):
        raise CompressionError("prune_: calibration inputs and method='wanda' need each other")
    if pattern is not None:
        fine = isinstance(pattern, tuple) and len(pattern) == 2 and all(is_integer(n, 1) for n in pattern)
        if not fine or pattern[0] >= pattern[1]:
            raise CompressionError(f"prune_: pattern is {pattern!r}, expected (n, m) with 0 < n < m such as (2, 4)")


def count_of(amount: float | int, total: int, what: str) -> int:
    """How many of `total` an amount means: a float is a share, an integer a count; raises `CompressionError`.

    >>> count_of(0.25, 8, "prune_"), count_of(3, 8, "prune_")
    (2, 3)
    """
    if isinstance(amount, bool) or not is_number(amount):
        raise CompressionError(f"{what}: amount is {amount!r}, expected a share below 1 or a whole number")
    if is_integer(amount, 0):
        count = int(amount)
    elif 0 <= amount < 1:
        count = round(amount * total)
    else:
        raise CompressionError(f"{what}: amount is {amount!r}, expected a share of at least 0 and below 1, or a count")
    if count >= total > 0:
        raise CompressionError(f"{what}: amount {amount!r} would leave none of {total:,}; give less")
    return count


def check_grows(weight: Weight, keep: Array) -> None:
    """Raise `CompressionError` for a mask that would give weights back."""
    if weight.mask is not None and (keep & ~weight.mask).any():
        raise CompressionError(
            f"prune_: {weight.path} has a mask that leaves less in some row, and masks only grow; remove_masks_ first"
        )


def grown(amount: float | int, weights: list[Weight]) -> int:
    """How many of these weights to prune; raises `CompressionError` for fewer than are pruned already."""
    where = weights[0].path if len(weights) == 1 else "the model"
    count = count_of(amount, sum(w.tensor.numel() for w in weights), f"prune_: {where}")
    earlier = sum(int((~w.mask).sum()) for w in weights if w.mask is not None)
    if count < earlier:
        raise CompressionError(
            f"prune_: {where} has {earlier:,} pruned weights, and amount {amount!r} means {count:,}, which would give "
            f"some back; amounts are of the original: give more, or remove_masks_ first"
        )
    return count
