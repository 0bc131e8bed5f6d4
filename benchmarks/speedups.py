"""What each plugin is worth over the last commits: `nox -s speedups`, or `python benchmarks/speedups.py [COMMITS]`.

Reads the `track_speedup_*` values that asv saved under `.asv/results`, prints them and draws `speedups.svg` beside
them. Run the benchmarks first: `nox -s bench -- run --steps 8 HEAD~200..HEAD --bench track_speedup`.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tt_core.engine.files import write_atomic
from tt_learn.svg import SVG, WIDTH, drawing, line_chart

FIRST = "nox -s bench -- run --steps 8 HEAD~200..HEAD --bench track_speedup"
RESULTS = Path(__file__).parents[1] / ".asv" / "results"


@dataclass(frozen=True, order=True)
class Point:
    """One value: when its commit was made (seconds since 1970), the commit, the curve, and how many times as fast."""

    date: float
    commit: str
    curve: str
    speedup: float


def points(results: Path) -> list[Point]:
    """All saved speed-ups below `results`, the oldest commit first; what was not applicable is left out."""
    files = [path for path in results.glob("*/*.json") if path.name != "machine.json"]
    return sorted(itertools.chain.from_iterable(_points_of(json.loads(path.read_text("utf-8"))) for path in files))


def _points_of(saved: dict[str, Any]) -> list[Point]:
    columns, found = saved["result_columns"], []
    for name, row in saved["results"].items():
        if ".track_speedup_" not in name:
            continue
        cells = dict(zip(columns, row))
        combinations = itertools.product(*cells["params"])
        for combination, value in zip(combinations, cells["result"] or []):
            if value is not None and math.isfinite(value):
                words = [name.split(".")[-2], *(text.strip("'") for text in combination)]
                found.append(Point(saved["date"] / 1000, saved["commit_hash"][:8], " ".join(words), value))
    return found


def report(found: list[Point], commits: int) -> list[str]:
    """A table: a line for each curve, a column for each of the last commits."""
    last = list(dict.fromkeys(point.commit for point in found))[-commits:]
    values = {(point.curve, point.commit): point.speedup for point in found}
    curves = sorted({point.curve for point in found if point.commit in last})
    width = max(map(len, curves))
    lines = [" ".join([f"{'':{width}}", *(f"{commit:>8}" for commit in last)])]
    for curve in curves:
        cells = [f"{values[curve, commit]:8.2f}" if (curve, commit) in values else f"{'':8}" for commit in last]
        lines.append(" ".join([f"{curve:{width}}", *cells]).rstrip())
    return lines


def picture(found: list[Point], commits: int) -> str:
    """A chart for each benchmark, a line for each curve; 1 is as fast as without the plugin."""
    last = list(dict.fromkeys(point.commit for point in found))[-commits:]
    places = {commit: i for i, commit in enumerate(last)}
    charts: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for point in sorted(found, key=lambda point: (point.curve.split()[1] != "none", point.curve, point.date)):
        if point.commit in places:
            benchmark, _, curve = point.curve.partition(" ")
            series = charts.setdefault(benchmark, {})
            series.setdefault(curve, []).append((places[point.commit], point.speedup))
    unit = "times as fast as without plugin"
    return sheet([line_chart(charts[name], name, "commit", unit, last) for name in sorted(charts)])


def sheet(charts: list[SVG]) -> SVG:
    """The charts in two columns, each in the column that is shorter so far."""
    heights, parts = [0.0, 0.0], []
    for chart in charts:
        column = heights.index(min(heights))
        parts.append(chart.replace("<svg ", f'<svg x="{column * WIDTH}" y="{heights[column]:.0f}" ', 1))
        heights[column] += float(chart.partition(' height="')[2].partition('"')[0])
    return drawing(parts, WIDTH * min(2, len(charts)), max(heights))


def main(arguments: list[str]) -> int:
    """Print the table and write the picture; 1 if nothing was saved yet."""
    commits = int(arguments[0]) if arguments else 20
    found = points(RESULTS)
    if not found:
        print(f"no speed-ups are saved yet: {FIRST}", file=sys.stderr)
        return 1
    print("\n".join(report(found, commits)))
    path = RESULTS.parent / "speedups.svg"
    write_atomic(path, picture(found, commits).encode())
    print(f"drawn in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
