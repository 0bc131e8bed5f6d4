"""Runs a learner's functions on the inputs of the checks and sends back what they return. It judges nothing.

It runs in the process that `guard` starts, where the import finder puts the learner's files in place.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from tt_core.course import trial, wire
from tt_core.course.exercises import Exercise, exercises_at
from tt_core.course.finder import active


def load(request: dict[str, Any]) -> dict[str, Exercise]:
    """The exercises that are asked for, by name; imports their package, and so the learner's files."""
    return {exercise.name: exercise for exercise in exercises_at(request["exercises_at"])}


def run(channel: BinaryIO, request: dict[str, Any], wanted: dict[str, Exercise]) -> None:
    """Run the checks of each exercise that is asked for, and send what they recorded."""
    watch = _Watch(request["framework"])  # from now on, as importing a file may read the framework's for what it lacks
    for name in request["names"]:
        wire.send(channel, {"begin": name})
        if _run_checks(wanted[name], request["seed"], channel) and (timed := wanted[name].timed):
            wire.send(channel, {"seconds": seconds_of(timed)})
        wire.send(channel, {"end": name, "looked_up": watch.seen})
        watch.seen = False


def _run_checks(exercise: Exercise, seed: int, channel: BinaryIO) -> bool:
    """Run the checks up to the first that an error ends; whether none did."""
    mine = str(active.files[exercise.file]) if active else ""
    for number, check in enumerate(exercise.checks):
        wire.send(channel, {"check": number})
        raised = trial.attempt(check, seed, lambda seen: wire.send(channel, {"seen": vars(seen)}), mine)
        wire.send(channel, {"done": number, "raised": vars(raised) if raised else None})
        if raised:
            return False
    return True


class _Watch:
    """Notices when the framework's own text of an exercise is opened."""

    def __init__(self, paths: list[str]) -> None:
        self.seen = False
        self._paths = {os.path.abspath(path) for path in paths}
        self._stems = {(os.path.dirname(path), os.path.basename(path)[:-3]) for path in self._paths}
        sys.addaudithook(self._notice)

    def _notice(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            folder, name = os.path.split(path)
            cached = (os.path.dirname(folder), name.partition(".")[0])
            if path in self._paths or (name.endswith(".pyc") and cached in self._stems):
                self.seen = True


def seconds_of(timed: Callable[[], Callable[[], Any]], rounds: int = 7) -> float:
    """The shortest of a few calls, in seconds; of the first one alone where it is slow, as plain loops may be."""
    call = timed()
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    if first > 0.2:
        return first
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best
