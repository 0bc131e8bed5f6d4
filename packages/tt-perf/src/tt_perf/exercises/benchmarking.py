"""The exercises of module 19, benchmarking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tt_core.course.exercises import Exercise, timing
from tt_core.course.trial import Trial
from tt_perf.benchmarking import Comparison, Measurement, comparing
from tt_perf.benchmarking import statistics as S

STATISTICS, COMPARING = (f"tt_perf.benchmarking.{name}" for name in ("statistics", "comparing"))


def tail(t: Trial, count: int) -> Any:
    """Times with a long tail on one side."""
    return np.exp(t.normal(count, dtype=np.float64))


# --- order


def median_is_in_the_middle(t: Trial) -> None:
    """Half of the values are at most this large."""
    t.call(S.median, [1.0, 1.2, 90.0], why="sort them; a slow call moves the mean, not the middle")
    t.call(S.median, [3.0, 1.0, 2.0, 10.0], why="of an even number, the mean of the two in the middle")
    t.call(S.median, [5.0])
    t.call(S.median, tail(t, 9))


def range_of_the_middle_half(t: Trial) -> None:
    """From the first quartile to the third."""
    t.call(S.interquartile_range, [1.0, 2.0, 3.0, 4.0, 100.0], why="the quartiles are 2 and 4")
    t.call(S.interquartile_range, [4.0, 1.0, 3.0, 2.0], why="between two values, the quartile is interpolated")
    t.call(S.interquartile_range, [2.0, 2.0, 2.0])
    t.call(S.interquartile_range, tail(t, 12))


# --- the bootstrap


def even(t: Trial, count: int) -> Any:
    """Numbers from -0.5 to 0.5 at equal distances, in random order: no gap among them can move a percentile."""
    return t.rng.permutation(np.linspace(-0.5, 0.5, count))


def see_interval(t: Trial, text: str, values: Any, why: str, atol: float = 0.018, **options: Any) -> None:
    """Record an interval of so many values and samples that it hardly depends on what is drawn."""
    t.step(f"bootstrap_interval of {text}", why)
    low, high = S.bootstrap_interval(values, samples=10_000, **options)
    t.see(f"low end of bootstrap_interval of {text}", float(low), why, atol=atol)
    t.see(f"high end of bootstrap_interval of {text}", float(high), why, atol=atol)


def bootstrap_of_equal_values(t: Trial) -> None:
    """Values that do not vary have an interval without width."""
    why = "each series that is drawn consists of the same value"
    t.step("bootstrap_interval of five values 2.0", why)
    t.see("bootstrap_interval of five values 2.0", list(S.bootstrap_interval([2.0] * 5)), why)


def bootstrap_of_medians(t: Trial) -> None:
    """The percentiles of the medians of series drawn with replacement."""
    why = "draw as many values as there are, with replacement; take the median of each series, then their percentiles"
    see_interval(t, "301 values with a tail", np.exp(3 * even(t, 301)), why, 0.03)
    see_interval(t, "301 values around 10", 10 + even(t, 301), why)


def bootstrap_confidence(t: Trial) -> None:
    """A lower confidence gives a narrower interval."""
    values = even(t, 301)
    why = "outside lie (1 - confidence) / 2 on either side"
    for confidence, atol in ((0.5, 0.008), (0.99, 0.018)):
        see_interval(t, f"301 values around 0, confidence={confidence}", values, why, atol, confidence=confidence)


def bootstrap_is_repeatable(t: Trial) -> None:
    """The same seed gives the same interval, and the framework's random numbers are not touched."""
    values = tail(t, 400)  # many values and few series: two different draws give equal ends almost never
    why = "draw from np.random.default_rng(seed)"
    t.step("bootstrap_interval(..., seed=3) twice", why)
    first, second = (S.bootstrap_interval(values, samples=50, seed=3) for _ in range(2))
    t.see("whether two intervals with seed=3 are equal", tuple(first) == tuple(second), why)
    third = S.bootstrap_interval(values, samples=50, seed=4)
    t.see("whether one with seed=4 is another one", tuple(first) != tuple(third), why)
    low, high = S.bootstrap_interval(values, samples=1)
    t.see("the width of the interval of one series", float(high - low), "draw `samples` series")
    before = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    S.bootstrap_interval(values)
    after = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    t.see("whether NumPy's global generator is as it was", before == after, why)


# --- ratios


def ratio_of_each_round(t: Trial) -> None:
    """The middle of the ratios of each round, other over base."""
    why = "each round gives a ratio other / base"
    for base, other in (([1.0, 2.0, 4.0], [0.5, 1.0, 2.0]), ([1.0, 1.0, 1.0], [3.0, 3.0, 3.0])):
        t.step(f"ratio_interval({base}, {other})", why)
        t.see(f"ratio_interval({base}, {other})", list(S.ratio_interval(base, other)), why)
    base, other = [1.0, 10.0, 1.0, 10.0, 1.0], [2.0, 30.0, 4.0, 10.0, 3.0]
    t.step("ratio of rounds that differ", "not the ratio of two medians: a round slows down both")
    t.see(f"ratio of {base} to {other}", S.ratio_interval(base, other)[0], "a round slows down both of its sides")


def ratio_in_logarithms(t: Trial) -> None:
    """2 and 1/2 are equally far from 1."""
    why = "take logarithms, then the median, then exp"
    t.step("ratio_interval([1, 1], [2, 0.5])", why)
    t.see("ratio of [1, 1] to [2, 0.5]", S.ratio_interval([1.0, 1.0], [2.0, 0.5])[0], why)
    base, other = tail(t, 1001), tail(t, 1001)
    ratio, low, high = S.ratio_interval(base, other)
    back, back_low, back_high = S.ratio_interval(other, base)
    t.see("ratio times the ratio the other way round", ratio * back, why)
    t.see("interval of 1001 rounds", [ratio, low, high], "the interval of the logarithms, by exp", rtol=0.03)
    ratio, low, high = S.ratio_interval(base, other, 0.5)
    t.see("interval with confidence=0.5", [ratio, low, high], "pass `confidence` on", rtol=0.03)
    t.see("whether the ratio lies inside", bool(low <= ratio <= high and back_low <= back <= back_high), why)


# --- tests


def rank_test_counts_pairs(t: Trial) -> None:
    """In how many pairs the second is larger, in standard deviations from half of them."""
    why = "U counts pairs with y > x; (U - m n / 2) / sqrt(m n (m + n + 1) / 12)"
    t.call(S.rank_test, [1, 2, 3, 4], [5, 6, 7, 8], why=why)
    t.call(S.rank_test, [5, 6, 7, 8], [1, 2, 3, 4], why="the sign says which one is larger")
    t.call(S.rank_test, [1, 4], [2, 3, 9], why="m and n may differ")
    t.call(S.rank_test, tail(t, 8), tail(t, 6), why=why)


def rank_test_of_ties(t: Trial) -> None:
    """A tie counts as one half, and sizes do not matter."""
    t.call(S.rank_test, [1, 1, 2], [1, 1, 2], why="equal samples do not differ")
    t.call(S.rank_test, [1, 2], [2, 3, 2], why="a tie is half a pair")
    t.call(S.rank_test, [1, 2, 3], [4, 5, 1e9], why="only the order counts, not by how much one is larger")


def slow_start_finds_the_warm_up(t: Trial) -> None:
    """How many of the first are slow, and by which factor."""
    why = "compare with the median of the last 40 %; the factor is that of the medians"
    t.call(S.slow_start, [8.0, 6.0, 6.0, 1.0, 1.0, 1.1, 1.0, 1.0], why=why)
    t.call(S.slow_start, [16.0, 12.0, 12.0, 2.0, 2.0, 2.2, 2.0, 2.0], why="slow is a factor of the usual time")
    t.call(S.slow_start, [3.0, 1.0, 1.0, 1.0, 1.1, 1.0, 1.0, 0.9, 1.0, 1.0], why=why)


def slow_start_needs_a_start(t: Trial) -> None:
    """A slow call in the middle is no warm-up, nor is what lies within the noise, or a short series."""
    t.call(S.slow_start, [1.0, 1.0, 9.0, 1.0, 1.0, 1.1, 1.0, 1.0], why="only slow values at the very start count")
    t.call(S.slow_start, [9.0, 1.0, 9.0, 1.0, 1.0, 1.1, 1.0, 1.0], why="it ends at the first value that is not slow")
    t.call(S.slow_start, [1.2, 1.2, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], why="it must exceed `factor` times the median")
    t.call(S.slow_start, [1.2, 1.2, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 1.1, why="`factor` is an argument")
    t.call(
        S.slow_start, [2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.4, 1.0, 1.4], why="and lie 3 interquartile ranges above it"
    )
    t.call(
        S.slow_start,
        [1.8, 1.0, 1.0, 1.1, 1.1, 5.0, 1.0, 1.0, 1.2, 1.2],
        why="the last 40 % are 4 values; their range is 0.2",
    )
    t.call(S.slow_start, [9.0, 1.0, 1.0, 1.0], why="fewer than 5 values say nothing")


def drift_compares_the_ends(t: Trial) -> None:
    """The last third over the first one."""
    why = "the ratio of the medians of the last and the first third"
    t.call(S.drift, [1.0] * 10 + [1.1] * 10 + [1.2] * 10, why=why)
    t.call(S.drift, [2.0] * 10 + [1.1] * 10 + [1.0] * 10, why="it may become faster")
    t.call(S.drift, np.linspace(1, 3, 30), why=why)


def drift_must_be_real(t: Trial) -> None:
    """Small differences, chance and short series give 1.0."""
    t.call(S.drift, [1.0] * 10 + [1.0] * 10 + [1.01] * 10, why="1 % is less than `least`")
    t.call(S.drift, [1.0] * 10 + [1.0] * 10 + [1.01] * 10, 0.005, why="`least` is an argument")
    t.call(S.drift, [1, 2, 1, 2, 1, 2, 1.5, 1.2, 1.4, 2, 1, 2, 1, 2, 1.6], why="ranks must differ by 3 deviations")
    t.call(S.drift, [1.0, 1.0, 1.0, 2.0, 2.0, 2.0], why="a third of fewer than 4 values says nothing")


# --- comparing


def counting(name: str, log: list[str]) -> Callable[[], float]:
    """A block that returns how often it ran, plus 100 times its place in the alphabet, and notes its name."""
    times = [100.0 * (ord(name) - ord("a"))]

    def block() -> float:
        times[0] += 1
        log.append(name)
        return times[0]

    return block


def turns_of_every_round(t: Trial) -> None:
    """Each block runs once in each round; the times are those of the block, by round."""
    for names, rounds in (("a", 3), ("ab", 2), ("abc", 4)):
        log: list[str] = []
        why = "a list for each block, with a time for each round"
        t.step(f"take_turns of {len(names)} blocks, {rounds} rounds", why)
        times = comparing.take_turns([counting(name, log) for name in names], rounds)
        t.see(f"times of {len(names)} blocks, {rounds} rounds", [list(map(float, row)) for row in times], why)
        by_round = [sorted(log[i : i + len(names)]) for i in range(0, len(log), len(names))]
        t.see(
            f"what ran in each of {rounds} rounds", by_round, "all blocks of a round run before the next round begins"
        )


def turns_in_a_new_order(t: Trial) -> None:
    """The order is random, and another one in each round."""
    log: list[str] = []
    why = "np.random.default_rng(0).permutation(len(blocks)) in each round"
    t.step("take_turns of 3 blocks, 60 rounds", why)
    times = comparing.take_turns([counting(name, log) for name in "abc"], 60)
    orders = {"".join(log[i : i + 3]) for i in range(0, len(log), 3)}
    t.see("in how many different orders 3 blocks ran in 60 rounds", len(orders), why)
    t.see("times of the last round", [float(row[-1]) for row in times], "a time goes to its block, not to its turn")


def made(first: Sequence[float], second: Sequence[float], control: Sequence[float]) -> Comparison:
    """A comparison of times that are given."""
    return Comparison((Measurement(1, first, "a"), Measurement(1, second, "b")), Measurement(1, control, "a again"))


def see_ratio(t: Trial, text: str, ratio: Any, why: str) -> None:
    """Record the parts of a `Ratio`."""
    t.see(f"ratio, low, high of {text}", [ratio.ratio, ratio.low, ratio.high], why, rtol=0.05)
    t.see(f"label, differs of {text}", [ratio.label, bool(ratio.differs)], why)


def control_is_the_first_again(t: Trial) -> None:
    """The ratio of the first contestant to itself, which differs if the interval excludes 1."""
    why = "the control over the first contestant, round by round"
    for first, again in (
        ([1.0, 1.1, 0.9, 1.0, 1.05], [1.02, 1.0, 0.95, 1.1, 1.0]),
        ([1.0, 1.1, 0.9, 1.0, 1.05], [1.2, 1.3, 1.1, 1.2, 1.25]),
    ):
        t.step(f"control_ratio of {first} and {again}", why)
        see_ratio(t, f"control_ratio of {first} and {again}", made(first, [9.0] * 5, again).control_ratio, why)


FLAT = (2.0, 2.1, 1.9, 2.0, 2.0, 2.05, 1.95)


def difference_is_found(t: Trial) -> None:
    """A ratio whose interval excludes 1 counts."""
    why = "the interval must exclude 1"
    for factor in (0.5, 3.0):
        compared = made(FLAT, [factor * x for x in FLAT], FLAT)
        t.step(f"the ratio of a contestant that takes {factor} times as long", why)
        see_ratio(
            t, f"a contestant that takes {factor} times as long", compared._against_first(compared.measurements[1]), why
        )
    mixed = made(FLAT, [2.2, 1.9, 2.1, 1.8, 2.3, 2.0, 1.9], FLAT)
    t.step("the ratio of a contestant that varies around the first", why)
    see_ratio(t, "a contestant that varies around the first", mixed._against_first(mixed.measurements[1]), why)


def comparisons_have_a_confidence(t: Trial) -> None:
    """The interval is that of the comparison's confidence."""
    why = "ratio_interval(base, other, self.confidence)"
    first, second, again = ([float(x) for x in tail(t, 1001)] for _ in range(3))
    measured = tuple(Measurement(1, times, label) for times, label in ((first, "a"), (second, "b")))
    compared = Comparison(measured, Measurement(1, again, "a again"), confidence=0.5)
    t.step("the ratio of 1001 rounds, confidence=0.5", why)
    see_ratio(t, "the control in 1001 rounds, confidence=0.5", compared.control_ratio, why)
    see_ratio(t, "1001 rounds, confidence=0.5", compared._against_first(measured[1]), why)


def difference_must_exceed_the_control(t: Trial) -> None:
    """What the control shows too is an error of the measurement."""
    why = "compare |log(ratio)| with that of the control: 1.1 and 1 / 1.1 are equally far from 1"
    for factor, error in ((1.1, 1.2), (1.3, 1.2), (1 / 1.1, 1.2), (1 / 1.3, 1.2), (1.21, 1 / 1.2), (0.82, 1.2)):
        compared = made(FLAT, [factor * x for x in FLAT], [error * x for x in FLAT])
        text = f"a contestant at {factor:.3g} where the control is at {error:.3g}"
        t.step(text, why)
        see_ratio(t, text, compared._against_first(compared.measurements[1]), why)


EXERCISES = (
    Exercise(
        "median",
        STATISTICS,
        2,
        ("Sort the values. Which one is it?", "NumPy has it.", "return float(np.median(values))"),
        (median_is_in_the_middle,),
    ),
    Exercise(
        "interquartile_range",
        STATISTICS,
        2,
        (
            "A quarter of the values lies below the first quartile, a quarter above the third.",
            "np.percentile takes several percentages at once.",
            "low, high = np.percentile(values, (25, 75)); the difference, as a float.",
        ),
        (range_of_the_middle_half,),
    ),
    Exercise(
        "bootstrap_interval",
        STATISTICS,
        8,
        (
            "How would the median vary if one measured again? Draw new series from the values that there are.",
            "np.random.default_rng(seed).integers(n, size=(samples, n)) are the indices of all series; with "
            "replacement.",
            "The median of each series (axis=1); of these the percentiles 50 * (1 - confidence) and 100 minus that.",
        ),
        (bootstrap_of_equal_values, bootstrap_of_medians, bootstrap_confidence, bootstrap_is_repeatable),
        timed=timing(S.bootstrap_interval, (101,)),
    ),
    Exercise(
        "ratio_interval",
        STATISTICS,
        5,
        (
            "Each round gives one ratio; what is the middle of them, and its interval?",
            "Work with logarithms: log(other) - log(base).",
            "exp of the median of the logarithms, and exp of both ends of their bootstrap_interval.",
        ),
        (ratio_of_each_round, ratio_in_logarithms),
    ),
    Exercise(
        "rank_test",
        STATISTICS,
        5,
        (
            "Compare each of b with each of a.",
            "np.sign(y[:, None] - x[None, :]) is 1, 0 or -1: U is the sum of (sign + 1) / 2.",
            "(U - m * n / 2) / sqrt(m * n * (m + n + 1) / 12)",
        ),
        (rank_test_counts_pairs, rank_test_of_ties),
        timed=timing(S.rank_test, (200,), (200,)),
    ),
    Exercise(
        "slow_start",
        STATISTICS,
        6,
        (
            "What is usual is the median of the last 40 % of the values.",
            "Slow is what exceeds factor * usual, and usual + 3 interquartile ranges of those last values.",
            "The warm-up ends at the first value that is not slow: np.argmin(slow). (0, 1.0) for fewer than 5 "
            "values and "
            "for no warm-up; otherwise the count, and median(x[:count]) / usual.",
        ),
        (slow_start_finds_the_warm_up, slow_start_needs_a_start),
    ),
    Exercise(
        "drift",
        STATISTICS,
        4,
        (
            "Compare the last third with the first.",
            "Two conditions: rank_test beyond 3 deviations, and medians that differ by more than `least`.",
            "factor = median(last) / median(first), if abs(rank_test(first, last)) > 3 and "
            "abs(log(factor)) > log1p(least); otherwise 1.0, and for thirds of fewer than 4 values.",
        ),
        (drift_compares_the_ends, drift_must_be_real),
    ),
    Exercise(
        "take_turns",
        COMPARING,
        4,
        (
            "Two loops: over rounds, and over blocks in a random order.",
            "random.permutation(len(blocks)) is a new order.",
            "times[k][i] = blocks[k]() for each k of the permutation, in each round i.",
        ),
        (turns_of_every_round, turns_in_a_new_order),
    ),
    Exercise(
        "Comparison.control_ratio",
        COMPARING,
        3,
        (
            "The same code was measured twice: self.measurements[0] and self.control.",
            "statistics.ratio_interval takes the times of both.",
            "Ratio(CONTROL, ratio, low, high, not low <= 1 <= high)",
        ),
        (control_is_the_first_again, comparisons_have_a_confidence),
    ),
    Exercise(
        "Comparison._against_first",
        COMPARING,
        5,
        (
            "When is a difference more than an error of the measurement?",
            "The interval excludes 1, and the ratio is farther from 1 than that of the control, in logarithms.",
            "differs = not low <= 1 <= high and abs(log(ratio)) > abs(log(self.control_ratio.ratio))",
        ),
        (difference_is_found, comparisons_have_a_confidence, difference_must_exceed_the_control),
    ),
)
