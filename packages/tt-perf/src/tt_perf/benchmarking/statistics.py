"""Part of module 19: the formulas that turn repeated timings into a statement. They take numbers only, no clock.

Timings have a long tail on one side: other programs only ever make a call slower. So everything here rests on the
order of the values (medians, quartiles, ranks), which a few very slow calls cannot move, and not on means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tt_core.engine.dispatch import Array

if TYPE_CHECKING:
    from tt_core.engine.hints import ArrayLike

# The distribution of times is unknown, so no formula gives the spread of their median: the bootstrap draws it instead.
_AT_ONCE = 1 << 20
"""Numbers that the bootstrap draws at once, so that a long series needs little memory."""


def median(values: Sequence[float] | Array) -> float:
    """The middle value: half of the values are at most this large.

    >>> median([1.0, 1.2, 90.0])
    1.2
    """
    return float(np.median(values))


def interquartile_range(values: Sequence[float] | Array) -> float:
    """The width of the middle half of the values, from the first to the third quartile.

    >>> interquartile_range([1.0, 2.0, 3.0, 4.0, 100.0])
    2.0
    """
    low, high = np.percentile(values, (25, 75))
    return float(high - low)


def bootstrap_interval(
    values: Sequence[float] | Array, confidence: float = 0.95, samples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The interval that holds the true median with probability `confidence`, by the bootstrap (Efron 1979).

    Draws `samples` series of the same length from `values`, with replacement, and takes the percentiles of their
    medians. `seed` makes the result repeatable; the framework's generator is not touched.

    >>> low, high = bootstrap_interval([1.0, 1.1, 0.9, 1.0, 1.2])
    >>> low <= 1.0 <= high
    True
    """
    data, random = np.asarray(values, dtype=float), np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // data.size)
    # (rows, n) draws with replacement -> (rows,) medians, as many at a time as fit in little memory
    medians = [
        np.median(data[random.integers(data.size, size=(min(rows, samples - done), data.size))], axis=1)
        for done in range(0, samples, rows)
    ]
    outside = 50 * (1 - confidence)  # percent on each side
    low, high = np.percentile(np.concatenate(medians), (outside, 100 - outside))
    return float(low), float(high)


def ratio_interval(base: ArrayLike, other: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """How long `other` takes as a share of `base`, and the interval of that, from times (rounds,) measured in turn.

    Each round gives one ratio. Its logarithm is taken, so that 2 and 1/2 are equally far from 1.

    >>> ratio_interval([1.0, 2.0, 4.0], [0.5, 1.0, 2.0])
    (0.5, 0.5, 0.5)
    """
    # (rounds,), one ratio a round: what slows a whole round down cancels
    logs = np.log(np.asarray(other, dtype=float)) - np.log(np.asarray(base, dtype=float))
    low, high = bootstrap_interval(logs, confidence)
    return math.exp(median(logs)), math.exp(low), math.exp(high)


def rank_test(a: Sequence[float] | Array, b: Sequence[float] | Array) -> float:
    """The number of standard deviations by which the ranks of `b` exceed those of `a` (Mann and Whitney 1947).

    U counts the pairs in which b is larger, ties as one half. Without a difference U is near m * n / 2, with the
    variance m * n * (m + n + 1) / 12.

    >>> round(rank_test([1, 2, 3, 4], [5, 6, 7, 8]), 2)
    2.31
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    larger = np.sign(y[:, None] - x[None, :])  # (n, m): 1 where b is larger, 0 for a tie, -1 where it is smaller
    u = float(np.sum(larger + 1)) / 2
    m, n = x.size, y.size
    return (u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)


def slow_start(times: Sequence[float] | Array, factor: float = 1.3) -> tuple[int, float]:
    """How many of the first values belong to a warm-up, and how much slower they are than the rest: (0, 1.0) for none.

    A value belongs to it if it exceeds `factor` times the median of the last 40 % and also lies 3 interquartile ranges
    above it, as do all values before. Fewer than 5 values say nothing: (0, 1.0).

    >>> slow_start([8.0, 6.0, 6.0, 1.0, 1.0, 1.1, 1.0, 1.0])
    (3, 6.0)
    """
    x = np.asarray(times, dtype=float)
    if x.size < 5:
        return 0, 1.0
    settled = x[-max(2, x.size * 2 // 5) :]  # by then the warm-up is over, if there is one
    usual = median(settled)
    slow = x > max(factor * usual, usual + 3 * interquartile_range(settled))
    count = int(np.argmin(slow)) if not slow.all() else 0
    return count, median(x[:count]) / usual if count and usual else 1.0


def drift(times: Sequence[float] | Array, least: float = 0.05) -> float:
    """By which factor the last third of the values is slower than the first one; 1.0 where they do not differ.

    They differ when the ranks do by 3 standard deviations and the medians by `least`.

    >>> round(drift([1.0] * 10 + [1.1] * 10 + [1.2] * 10), 2)
    1.2
    """
    x = np.asarray(times, dtype=float)
    third = x.size // 3
    if third < 4:
        return 1.0
    first, last = x[:third], x[-third:]
    # both must agree: ranks tell a trend from noise, medians say whether it is large enough to matter
    factor = median(last) / median(first)
    return factor if abs(rank_test(first, last)) > 3 and abs(math.log(factor)) > math.log1p(least) else 1.0
