"""Part of module 19: result files of the Torch Olympics, the ranking, and the leaderboard.

A file holds measurements and nothing that follows from them: medians, ratios and ranks are computed when it is
read. Its digest shows a careless edit. It is no signature, since who edits a file can also write a new digest; against
that, `olympics.verify` measures again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tt_core.engine.errors import FileError, is_integer, is_number
from tt_core.engine.files import write_json
from tt_learn.svg import SVG
from tt_perf.benchmarking.charts import pareto_chart
from tt_perf.benchmarking.comparing import Comparison
from tt_perf.benchmarking.olympic_task import GATE, Training
from tt_perf.benchmarking.timer import BenchmarkError, Measurement, duration

FORMAT = "tinytorch-olympics-1"


@dataclass(frozen=True)
class Entry:
    """One contestant: a set of plugins, what it reached, and what that cost. `training` is None for one's own model."""

    plugins: tuple[str, ...]
    quality: float
    measured: Measurement
    peak_bytes: int
    training: Training | None = None

    @property
    def name(self) -> str:
        """The plugins' names."""
        return self.measured.label

    @property
    def passed(self) -> bool:
        """Whether it is through the quality gate."""
        return self.quality >= GATE


@dataclass(frozen=True)
class Result:
    """All entries of one run with one model; the first entry has no plugins. `model` is the digest of the weights."""

    entries: tuple[Entry, ...]
    control: Measurement
    random_quality: float
    model: str
    model_file: str
    environment: Mapping[str, Any]

    @property
    def comparison(self) -> Comparison:
        """The times, with ratios and intervals; of a single entry with its control."""
        measured = tuple([entry.measured for entry in self.entries])
        return Comparison(measured if len(measured) > 1 else measured * 2, self.control, 0.95, dict(self.environment))

    def as_dict(self) -> dict[str, Any]:
        """What the file holds, with its digest."""
        content = {
            "format": FORMAT,
            "entries": [_entry_as_dict(entry) for entry in self.entries],
            "control": _times_as_dict(self.control),
            "random_quality": self.random_quality,
            "model": self.model,
            "model_file": self.model_file,
            "environment": dict(self.environment),
        }
        return {**content, "digest": digest_of(content)}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON; raises `FileError` when that fails."""
        write_json(path, self.as_dict(), indent=1)


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of everything but the digest itself.

    >>> digest_of({"a": 1, "digest": "x"}) == digest_of({"a": 1})
    True
    """
    kept = {name: value for name, value in content.items() if name != "digest"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_result(path: str | os.PathLike[str]) -> Result:
    """A result from its file.

    Raises `FileError` for a file that cannot be read and `BenchmarkError` for one that is no result, or was edited.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise FileError(f"cannot read {Path(path)}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise BenchmarkError(f"{Path(path)}: is no JSON; name a file that tt olympics run wrote") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BenchmarkError(f"{Path(path)}: is no result of the Olympics; name a file that tt olympics run wrote")
    if content.get("digest") != digest_of(content):
        raise BenchmarkError(f"{Path(path)}: was edited after it was measured (its digest does not fit); run it again")
    try:
        return _result_from(content)
    except (KeyError, TypeError, ValueError, AttributeError, BenchmarkError) as error:
        raise BenchmarkError(f"{Path(path)}: is a damaged result ({type(error).__name__}: {error!s:.80})") from None


# --- events


def _all_around(entry: Entry, first: Entry) -> float:
    """The geometric mean of what it saves in time and bytes, against no plugins, times its quality."""
    time, size = first.measured.median / entry.measured.median, first.peak_bytes / entry.peak_bytes
    return entry.quality * math.sqrt(time * size)


@dataclass(frozen=True)
class Event:
    """One event: `score(entry, first)` is a number to sort by, smallest first, or None for who does not take part."""

    name: str
    score: Callable[[Entry, Entry], float | None]
    shown: Callable[[float], str]


EVENTS = (
    Event("latency sprint", lambda entry, _: entry.measured.median, duration),
    Event("memory challenge", lambda entry, _: float(entry.peak_bytes), lambda x: f"{x / 1e3:,.0f} kB"),
    Event("accuracy contest", lambda entry, _: -entry.quality, lambda x: f"{-x:.1%}"),
    Event("all-around", lambda entry, first: -_all_around(entry, first), lambda x: f"{-x:.2f}"),
    Event("time-to-quality", lambda entry, _: entry.training.seconds if entry.training else None, duration),
)


def standings(entries: Mapping[str, Entry], first: Entry) -> dict[str, list[tuple[str, str]]]:
    """For each event the names and what they reached, the best first. Quality comes first: who is below it is left out.

    Equal scores are ordered by time.
    """
    found = {}
    for event in EVENTS:
        scores = {name: event.score(entry, first) for name, entry in entries.items() if entry.passed}
        taking_part = [
            (score, entries[name].measured.median, name) for name, score in scores.items() if score is not None
        ]
        found[event.name] = [(name, event.shown(score)) for score, _, name in sorted(taking_part)]
    return found


def podium(entries: Mapping[str, Entry], first: Entry) -> list[str]:
    """The standings as lines of text, and who did not pass the quality gate."""
    lines = []
    for event, ranked in standings(entries, first).items():
        places = [f"{place}. {name} {shown}" for place, (name, shown) in enumerate(ranked, start=1)]
        lines.append(f"{event + ':':<18} {'   '.join(places) or 'nobody'}")
    for name, entry in entries.items():
        if not entry.passed:
            lines.append(f"not ranked: {name} gets {entry.quality:.1%} right, {GATE:.0%} are needed")
    return lines


# --- the leaderboard


def leaderboard(paths: Iterable[Path]) -> tuple[list[str], SVG]:
    """The standings over all results, and the picture of latency, memory and quality.

    Files that are damaged or were edited are named and left out. Raises `BenchmarkError` if none is left.
    """
    entries: dict[str, Entry] = {}
    refused, processors, first = [], set(), None
    for path in paths:
        try:
            result = read_result(path)
        except (BenchmarkError, FileError) as error:
            refused.append(f"left out: {error}")
            continue
        first = first or result.entries[0]
        processors.add(result.environment.get("processor"))
        entries.update({f"{path.stem}/{entry.name}": entry for entry in result.entries})
    if first is None:
        raise BenchmarkError("; ".join(["there are no results; make one with tt olympics run", *refused]))
    lines = [*podium(entries, first), *refused]
    if len(processors) > 1:
        lines.append(f"warning: results of {len(processors)} processors; times of different machines are no contest")
    points = {name: (entry.measured.median, float(entry.peak_bytes), entry.quality) for name, entry in entries.items()}
    return lines, pareto_chart(points, "Torch Olympics")


# --- to and from JSON


def _times_as_dict(measured: Measurement) -> dict[str, Any]:
    return {
        "number": measured.number_per_run,
        "seconds": list(measured.raw_times),
        "warm_up": list(measured.cold_times),
    }


def _times_from(content: Mapping[str, Any], label: str) -> Measurement:
    return Measurement(content["number"], content["seconds"], label, content["warm_up"])


def _entry_as_dict(entry: Entry) -> dict[str, Any]:
    return {
        "plugins": list(entry.plugins),
        "quality": entry.quality,
        "peak_bytes": entry.peak_bytes,
        "training": None if entry.training is None else asdict(entry.training),
        **_times_as_dict(entry.measured),
    }


def _entry_from(content: Mapping[str, Any]) -> Entry:
    plugins, training = content["plugins"], content["training"]
    if not isinstance(plugins, list) or not all(isinstance(name, str) for name in plugins):
        raise BenchmarkError("plugins are no names")
    if not is_integer(content["peak_bytes"], 1):
        raise BenchmarkError("peak_bytes is no number of bytes")
    return Entry(
        tuple(plugins),
        _share(content["quality"]),
        _times_from(content, "+".join(plugins) or "none"),
        content["peak_bytes"],
        None if training is None else Training(float(training["seconds"]), int(training["steps"])),
    )


def _result_from(content: Mapping[str, Any]) -> Result:
    entries = tuple([_entry_from(entry) for entry in content["entries"]])
    if not entries or entries[0].plugins:
        raise BenchmarkError("the first entry must be the one without plugins")
    result = Result(
        entries,
        _times_from(content["control"], "none"),
        _share(content["random_quality"]),
        str(content["model"]),
        str(content["model_file"]),
        dict(content["environment"]),
    )
    _ = result.comparison  # raises for entries measured in different numbers of rounds
    return result


def _share(value: Any) -> float:
    if not is_number(value) or isinstance(value, bool) or not 0 <= value <= 1:
        raise BenchmarkError("a quality is no share of 1")
    return float(value)
