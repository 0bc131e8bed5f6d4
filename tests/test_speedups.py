"""`nox -s speedups` reads what asv saved: the file here has asv 0.6's format."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
COLUMNS = ["result", "params", "version", "started_at", "duration"]


def load() -> Any:
    spec = importlib.util.spec_from_file_location("speedups", ROOT / "benchmarks" / "speedups.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["speedups"] = importlib.util.module_from_spec(spec)  # where dataclasses look
    spec.loader.exec_module(module)
    return module


def save(folder: Path, commit: str, date: int, values: list[float | None]) -> None:
    params = [["'none'", "'jit'"], ["'SGD'"]]
    results = {
        "bench_learn.MLPStep.track_speedup_step": [values, params, "v", 1, 2.0],
        "bench_learn.MLPStep.time_step": [[5.0, 6.0], params, "v", 1, 2.0],
    }
    saved = {"commit_hash": commit * 5, "date": date, "result_columns": COLUMNS, "results": results}
    (folder / "machine").mkdir(exist_ok=True)
    (folder / "machine" / f"{commit}-env.json").write_text(json.dumps(saved), encoding="utf-8")


def test_the_table_and_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("tt_learn")
    speedups = load()
    save(tmp_path, "bbbbbbbb", 2000, [1.01, 1.5])
    save(tmp_path, "aaaaaaaa", 1000, [0.99, None])
    (tmp_path / "machine" / "machine.json").write_text("{}", encoding="utf-8")
    found = speedups.points(tmp_path)
    assert [(point.commit, point.speedup) for point in found] == [
        ("aaaaaaaa", 0.99),
        ("bbbbbbbb", 1.5),
        ("bbbbbbbb", 1.01),
    ]
    assert [line.split() for line in speedups.report(found, 20)] == [
        ["aaaaaaaa", "bbbbbbbb"],
        ["MLPStep", "jit", "SGD", "1.50"],
        ["MLPStep", "none", "SGD", "0.99", "1.01"],
    ]
    assert speedups.report(found, 1)[0].split() == ["bbbbbbbb"]
    assert speedups.picture(found, 20).count("<polyline") == 1


def test_each_benchmark_has_a_chart_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("tt_learn")
    speedups = load()
    names = ("Memoize memoize", "Memoize none", "MLPStep jit", "Decoding jit")
    found = [speedups.Point(date, f"c{date}", name, 1.0 + date) for date in (1.0, 2.0) for name in names]
    drawn = ElementTree.fromstring(speedups.picture(found, 20))
    charts = drawn.findall("{http://www.w3.org/2000/svg}svg")
    assert [chart.findtext(".//{http://www.w3.org/2000/svg}text") for chart in charts] == [
        "Decoding",
        "MLPStep",
        "Memoize",
    ]
    assert [(chart.get("x"), chart.get("y") != "0") for chart in charts] == [("0", False), ("760", False), ("0", True)]
