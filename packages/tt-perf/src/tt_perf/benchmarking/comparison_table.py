"""Part of module 19: what a comparison says, as a table, as warnings and as a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tt_core.engine.files import write_json
from tt_perf.benchmarking import statistics
from tt_perf.benchmarking.timer import Measurement, doubts, duration

if TYPE_CHECKING:
    from tt_perf.benchmarking.comparing import Ratio

CONTROL = "A/A control"
BUSY = 0.7
"""Load per core, before measuring, from which the machine counts as busy."""


class ComparisonTable:
    """The part of `Comparison` that shows it."""

    measurements: tuple[Measurement, ...]
    control: Measurement
    confidence: float
    environment: dict[str, Any]

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """Each contestant but the first, against the first."""
        raise NotImplementedError

    @property
    def control_ratio(self) -> Ratio:
        """The first contestant against itself."""
        raise NotImplementedError

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the result should be read with care: a cold start, drift, a busy machine, a control that is off."""
        found = [f"{measured.label}: {doubt}" for measured in self.measurements for doubt in doubts(measured)]
        load = self.environment.get("load")
        if load is not None and load > BUSY:
            found.append(f"the machine was busy before: {load:.1f} programs wanted each core")
        control = self.control_ratio
        if control.differs:
            found.append(
                f"the same code measured twice differs by {abs(control.ratio - 1):.1%}: trust only larger differences"
            )
        return tuple(found)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the warm-up took away."""
        found = [(measured.label, *statistics.slow_start(measured.cold_times)) for measured in self.measurements]
        return tuple(
            [
                f"{label}: not counted: {count} calls of the warm-up, which took {factor:.1f} times as long"
                for label, count, factor in found
                if count
            ]
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and text, for JSON."""
        return {
            "format": "tinytorch-comparison-1",
            "confidence": self.confidence,
            "measurements": [measured.as_dict() for measured in self.measurements],
            "control": self.control.as_dict(),
            "ratios": [vars(ratio) for ratio in (*self.ratios, self.control_ratio)],
            "warnings": list(self.warnings),
            "environment": self.environment,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything as JSON; raises `FileError` when that fails."""
        write_json(path, self.as_dict(), indent=1)

    def rows(self) -> list[tuple[str, str, str, str, str, str]]:
        """The table: label, median, spread, ratio, interval, verdict."""
        first = self.measurements[0]
        rows = [(first.label, duration(first.median), _spread(first), "1", "", "")]
        contestants = [*zip(self.measurements[1:], self.ratios), (self.control, self.control_ratio)]
        for measured, ratio in contestants:
            verdict = "same code as the first" if ratio.label == CONTROL else ratio.verdict
            interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
            rows.append(
                (ratio.label, duration(measured.median), _spread(measured), f"{ratio.ratio:.3f}", interval, verdict)
            )
        return rows

    def __str__(self) -> str:
        rows = [("", "median", "spread", "ratio", f"{self.confidence:.0%} interval", ""), *self.rows()]
        width = max(len(row[0]) for row in rows)
        lines = [f"{a:{width}} {b:>9} {c:>7} {d:>6}  {e:<16}  {f}".rstrip() for a, b, c, d, e, f in rows]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])

    def _repr_html_(self) -> str:
        from tt_core.engine.notebook import table

        return table(("", "median", "spread", "ratio", "interval", ""), self.rows(), "; ".join(self.warnings))


def _spread(measured: Measurement) -> str:
    return f"{measured.iqr / measured.median:.1%}"
