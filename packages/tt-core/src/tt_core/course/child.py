"""Runs a learner's functions on the inputs of the checks and sends back what they return. It judges nothing.

Started by `judge` as a script, so that it can tell of a file that does not import. The environment names the workspace
(see `finder`). Results go to what was standard output; what the learner's code prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO

MEMORY = 4 << 30
"""Bytes of address space that the process may take."""
FILE_SIZE = 16 << 20


def main() -> None:
    """Read the request from standard input, run the checks of each exercise, and send what they recorded."""
    sys.path.pop(0)  # this script's folder, whose file names are no modules
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.buffer.readline())
    os.close(0)
    _limit()
    try:
        from tt_core.course import exercises, trial, wire
        from tt_core.course.finder import active
    except Exception as error:
        _send_without_imports(channel, error)
        return
    watch = _Watch(request["framework"])
    wanted = {exercise.name: exercise for exercise in exercises.exercises_at(request["exercises_at"])}
    for name in request["names"]:
        exercise = wanted[name]
        mine = str(active.files[exercise.file]) if active else ""
        wire.send(channel, {"begin": name})
        passed = True
        for number, check in enumerate(exercise.checks):
            wire.send(channel, {"check": number})
            raised = trial.attempt(check, request["seed"], lambda seen: wire.send(channel, {"seen": vars(seen)}), mine)
            passed = passed and raised is None
            wire.send(channel, {"done": number, "raised": vars(raised) if raised else None})
            if raised:
                break
        if passed and exercise.timed:
            wire.send(channel, {"seconds": seconds_of(exercise.timed)})
        wire.send(channel, {"end": name, "looked_up": watch.seen})
        watch.seen = False


def _send_without_imports(channel: BinaryIO, error: Exception) -> None:
    """The one message that is sent when `wire` cannot be imported either."""
    header = json.dumps({"dict": {"failed": f"{error}" if "Workspace" in type(error).__name__ else repr(error)}})
    body = len(header.encode()).to_bytes(4, "little") + header.encode()
    channel.write(len(body).to_bytes(8, "little") + body)
    channel.flush()


def _limit() -> None:
    """Bound the memory and the size of files, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, amount in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, FILE_SIZE), (resource.RLIMIT_CORE, 0)):
        try:
            resource.setrlimit(kind, (amount, amount))
        except (ValueError, OSError):  # macOS has no limit on addresses
            continue


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
    """The shortest of a few calls, in seconds."""
    call = timed()
    call()
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main()
