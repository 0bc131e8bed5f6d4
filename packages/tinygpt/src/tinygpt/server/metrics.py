"""The metrics of the server, in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets of a histogram, in seconds."""


class Histogram:
    """Counts times in buckets, from which `quantile` estimates any percentile.

    >>> histogram = Histogram()
    >>> for seconds in (0.002, 0.002, 0.004, 3.0):
    ...     histogram.observe(seconds)
    >>> histogram.count, histogram.quantile(0.5)
    (4, 0.0025)
    """

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    @property
    def count(self) -> int:
        """The number of observed times."""
        return sum(self.buckets)

    def observe(self, seconds: float) -> None:
        """Add a time."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def quantile(self, q: float) -> float:
        """The time below which a share `q` lies, interpolated linearly in its bucket as in PromQL; 0 without data."""
        rank, below = q * self.count, 0
        for i, number in enumerate(self.buckets):
            if number and below + number >= rank:
                low = BOUNDS[i - 1] if i else 0.0
                high = BOUNDS[i] if i < len(BOUNDS) else low
                return low + (high - low) * (rank - below) / number
            below += number
        return 0.0

    def lines(self, name: str) -> list[str]:
        """The samples of this histogram."""
        totals = list(itertools.accumulate(self.buckets))
        found = [f'{name}_bucket{{le="{bound:g}"}} {total}' for bound, total in zip(BOUNDS, totals)]
        return [*found, f'{name}_bucket{{le="+Inf"}} {totals[-1]}', f"{name}_sum {self.sum:.6f}",
                f"{name}_count {totals[-1]}"]  # fmt: skip


class Metrics:
    """The metrics of one server. No metric is written by both the engine's thread and the event loop."""

    def __init__(self) -> None:
        self.first_token, self.per_token = Histogram(), Histogram()
        self.prompt_tokens = self.generated_tokens = self.reused_tokens = 0
        self.requests: dict[str, int] = {}
        """Finished requests by outcome."""
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        """By name, the help text and a function that returns the current value."""

    def finished(self, outcome: str) -> None:
        """Count a request that ended with this outcome."""
        self.requests[outcome] = self.requests.get(outcome, 0) + 1

    def text(self) -> str:
        """The response of `/metrics`."""
        lines = _described("tinygpt_requests_total", "counter", "Requests by outcome.")
        lines += [f'tinygpt_requests_total{{outcome="{outcome}"}} {n}' for outcome, n in sorted(self.requests.items())]
        for name, value, what in (
            ("prompt_tokens", self.prompt_tokens, "Tokens of prompts"),
            ("reused_tokens", self.reused_tokens, "Tokens of prompts that an earlier request had read"),
            ("generated_tokens", self.generated_tokens, "Generated tokens"),
        ):
            lines += [*_described(f"tinygpt_{name}_total", "counter", f"{what}."), f"tinygpt_{name}_total {value}"]
        for name, (what, value_of) in self.gauges.items():
            lines += [*_described(f"tinygpt_{name}", "gauge", what), f"tinygpt_{name} {value_of():g}"]
        for name, histogram, what in (
            ("first_token_seconds", self.first_token, "From a request to its first token."),
            ("time_per_token_seconds", self.per_token, "Between two tokens of a text."),
        ):
            lines += [*_described(f"tinygpt_{name}", "histogram", what), *histogram.lines(f"tinygpt_{name}")]
            quantiles = f"tinygpt_{name}_quantile"
            lines += _described(quantiles, "gauge", f"{what} Estimated from the histogram.")
            lines += [f'{quantiles}{{quantile="{q}"}} {histogram.quantile(q):.6g}' for q in (0.5, 0.9, 0.99)]
        return "\n".join(lines) + "\n"


def _described(name: str, kind: str, what: str) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]
