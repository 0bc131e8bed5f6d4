"""Checks a learner's functions. The verdict is made here, in a process that never imports the learner's code.

A child process runs the learner's functions (`child`) and sends back what they returned. The same checks run here on
the framework's code, and the two records are compared. So a function that prints PASSED, ends the process, patches
NumPy or returns an object that equals everything earns nothing; an endless loop costs the time limit of one exercise.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import os
import queue
import secrets
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from tt_core.command.journey import Module
from tt_core.course import child, finder, wire
from tt_core.course.blanks import definitions
from tt_core.course.exercises import Exercise, exercises_of
from tt_core.course.trial import Raised, Seen, attempt, short
from tt_core.engine.plugins import use

LIMIT = 10.0
"""Seconds that one exercise may take."""
START_LIMIT = 20.0
"""Seconds until the child process has imported the framework."""


@dataclass
class Verdict:
    """What came out for one exercise."""

    name: str
    points: int
    passed: bool
    lines: list[str] = field(default_factory=list)
    """Why it did not pass, in terms of the exercise."""
    unwritten: bool = False
    """Whether it still raises NotImplementedError."""
    seconds: float | None = None
    """Time of one call of the learner's function, where it is measured."""
    reference: float | None = None
    """Time of the same call of the framework's formula."""
    looked_up: bool = False
    """Whether the learner's code opened the framework's file."""


def judge(
    module: Module, workspace: Path, names: Sequence[str] | None = None, limit: float = LIMIT
) -> Iterator[Verdict]:
    """A verdict for each exercise of a module, in order; `names` for those alone."""
    exercises = [x for x in exercises_of(module) if names is None or x.name in names]
    seed = secrets.randbelow(1 << 31)
    written = {x.name for x in exercises if x.name in _defined_in(workspace, module, x.file)}
    yield from (_missing(x) for x in exercises if x.name not in written)
    waiting = [x for x in exercises if x.name in written]
    while waiting:
        with _Child(module, workspace, waiting, seed) as process:
            for exercise in list(waiting):
                waiting.remove(exercise)
                verdict, alive = _verdict(exercise, process, seed, limit)
                yield verdict
                if not alive:  # the next exercises get a new process
                    break


def _defined_in(workspace: Path, module: Module, name: str) -> set[str]:
    """The functions and classes that a learner's file defines; none where it cannot be read or parsed."""
    file = finder.files_in_use(workspace, f"{module.number:02}").get(name)
    try:
        return {name for name, _ in definitions(ast.parse(file.read_text(encoding="utf-8")))} if file else set()
    except (OSError, ValueError, SyntaxError):
        return set()


def _missing(exercise: Exercise) -> Verdict:
    line = f"your file does not define {exercise.name}, so the framework's would run; it earns no points"
    return Verdict(exercise.name, exercise.points, passed=False, lines=[line], unwritten=True)


def _verdict(exercise: Exercise, process: _Child, seed: int, limit: float) -> tuple[Verdict, bool]:
    """The verdict on one exercise, and whether the process can go on."""
    verdict = Verdict(exercise.name, exercise.points, passed=False)
    record = _Record()
    try:
        ended = process.collect(exercise.name, record, limit)
    except _Failed as failure:
        verdict.lines = [str(failure)]
        if record.check is None:
            return verdict, False
        found = _first_difference(exercise, record, seed)
        verdict.lines = [*found[:2], str(failure)] if found else verdict.lines
        return verdict, False
    verdict.lines = _first_difference(exercise, record, seed)
    verdict.unwritten = any(r is not None and r.kind == "NotImplementedError" for r in record.raised)
    verdict.looked_up = record.looked_up
    if record.looked_up and not verdict.lines:
        verdict.lines = ["your code opened the framework's own file of this module; write the function yourself"]
    verdict.passed = ended and not verdict.lines
    verdict.seconds = record.seconds
    if verdict.passed and exercise.timed:
        with use("formula"):
            verdict.reference = child.seconds_of(exercise.timed)
    return verdict, ended


@dataclass
class _Record:
    """What the child sent for one exercise."""

    check: int | None = None
    seen: list[list[Seen]] = field(default_factory=list)
    raised: list[Raised | None] = field(default_factory=list)
    seconds: float | None = None
    looked_up: bool = False

    def take(self, message: dict[str, Any]) -> None:
        """Add one message."""
        if "check" in message:
            self.check = int(message["check"])
            self.seen.append([])
        elif "seen" in message and self.seen:
            self.seen[-1].append(Seen(**message["seen"]))
        elif "done" in message:
            self.raised.append(Raised(**message["raised"]) if message["raised"] else None)
        elif "seconds" in message:
            self.seconds = float(message["seconds"])
        elif "end" in message:
            self.looked_up = bool(message["looked_up"])


def _first_difference(exercise: Exercise, record: _Record, seed: int) -> list[str]:
    """The first thing that differs from the framework's record, explained; empty where nothing does."""
    for number, check in enumerate(exercise.checks):
        expected: list[Seen] = []
        failed = attempt(check, seed, expected.append)
        if failed is not None:
            raise RuntimeError(f"check {check.__name__} of {exercise.name} fails on the framework: {failed}")
        got = record.seen[number] if number < len(record.seen) else []
        title = " ".join((check.__doc__ or check.__name__).split())
        for wanted, found in zip(expected, got, strict=False):
            difference = explained(wanted, found)
            if difference:
                return [title, *difference]
        raised = record.raised[number] if number < len(record.raised) else None
        if raised is not None:
            return [title, *_told(raised)]
        if len(got) < len(expected):
            return [title, f"called    {expected[len(got)].call}", "expected  a result"]
    return []


def _told(raised: Raised) -> list[str]:
    if raised.kind == "NotImplementedError":
        return ["not written yet"]
    where = f" ({raised.place})" if raised.place else ""
    lines = [f"called    {raised.call}"] if raised.call else []
    lines.append(f"raised    {raised.kind}: {raised.message}{where}")
    return [*lines, *([f"look at   {raised.why}"] if raised.why else [])]


def explained(wanted: Seen, found: Seen) -> list[str]:
    """How a learner's value differs from the expected one, as lines; empty where it does not.

    >>> explained(Seen("f(1)", np.float32(2)), Seen("f(1)", np.float32(2)))
    []
    >>> print(*explained(Seen("f(1)", np.float32(2), "the sign"), Seen("f(1)", np.float32(-2))), sep="\\n")
    called    f(1)
    expected  2. (float32, shape ())
    got       -2. (float32, shape ())
    look at   the sign
    """
    reason = difference(wanted.value, found.value, wanted.rtol, wanted.atol)
    if reason is None:
        return []
    lines = [
        f"called    {wanted.call}",
        f"expected  {_described(wanted.value)}",
        f"got       {_described(found.value)}",
    ]
    if reason:
        lines.append(f"differs   {reason}")
    return [*lines, *([f"look at   {wanted.why}"] if wanted.why else [])]


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        text = short(array)
        shape = "" if text.startswith("array of shape") else f", shape {array.shape}"
        return f"{text} ({array.dtype}{shape})"
    return short(value)


def difference(wanted: Any, found: Any, rtol: float, atol: float) -> str | None:
    """How two values differ, in words or "" where the values show it; None where they are alike.

    >>> difference(np.zeros(2), np.zeros(3), 0, 0)
    'in shape'
    >>> difference([1, 2], [1, 2], 0, 0) is None
    True
    """
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return "in the number of results"
        parts = (difference(w, f, rtol, atol) for w, f in zip(wanted, found, strict=True))
        return next((part for part in parts if part is not None), None)
    if isinstance(wanted, np.ndarray | np.generic):
        return _array_difference(np.asarray(wanted), found, rtol, atol)
    if isinstance(wanted, float) and isinstance(found, float | int) and not isinstance(found, bool):
        return None if np.isclose(found, wanted, rtol=rtol, atol=atol, equal_nan=True) else ""
    return None if type(wanted) is type(found) and wanted == found else ""


def _array_difference(wanted: Any, found: Any, rtol: float, atol: float) -> str | None:
    if not isinstance(found, np.ndarray):
        return "in kind"
    if wanted.shape != found.shape:
        return "in shape"
    if wanted.dtype != found.dtype:
        return "in dtype"
    if wanted.dtype.kind != "f":
        return None if np.array_equal(wanted, found) else _share(wanted != found)
    close = np.isclose(found, wanted, rtol=rtol, atol=atol, equal_nan=True)
    return None if close.all() else _share(~close)


def _share(wrong: Any) -> str:
    return "" if wrong.size <= 24 else f"in {int(wrong.sum()):,} of {wrong.size:,} elements"


class _Failed(Exception):
    """The child process ended or hangs; in words."""


class _Child:
    """The process that runs a learner's code, with limits on time and memory; nothing of it is left when it ends."""

    def __init__(self, module: Module, workspace: Path, exercises: Sequence[Exercise], seed: int) -> None:
        self.started = time.monotonic()
        self.folder = tempfile.TemporaryDirectory(prefix="tt-check-", ignore_cleanup_errors=True)
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        origins = {exercise.file for exercise in exercises_of(module)}
        request = {
            "names": [exercise.name for exercise in exercises],
            "exercises_at": f"{module.path.partition('.')[0]}.exercises.{module.name}",
            "framework": [spec.origin for name in origins if (spec := importlib.util.find_spec(name)) and spec.origin],
            "seed": seed,
        }
        self.process = subprocess.Popen(
            [sys.executable, str(Path(child.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            cwd=self.folder.name,
            env=environment(workspace, f"{module.number:02}"),
            start_new_session=os.name != "nt",
        )
        self.messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        stdin, stdout = cast(BinaryIO, self.process.stdin), cast(BinaryIO, self.process.stdout)
        threading.Thread(target=self._read, args=(stdout,), daemon=True).start()
        with contextlib.suppress(OSError):  # the process has ended already
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.close()

    def _read(self, pipe: BinaryIO) -> None:
        """Put each message into the queue, and None when the process closes its end or sends something else."""
        try:
            while (head := pipe.read(8)) and len(head) == 8:
                (size,) = struct.unpack("<Q", head)
                if size > wire.LARGEST:
                    break
                self.messages.put(wire.receive(pipe.read(size)))
        except (wire.BadMessage, OSError, ValueError):
            pass
        self.messages.put(None)

    def collect(self, name: str, record: _Record, limit: float) -> bool:
        """Add what is sent for one exercise to `record`; True when it came to its end. Raises `_Failed`."""
        deadline = time.monotonic() + START_LIMIT
        while True:
            try:
                message = self.messages.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise _Failed(f"it did not end within {limit:.0f} seconds: is there a loop that never stops?") from None
            if message is None:
                raise _Failed(self._last_words())
            if "failed" in message:
                raise _Failed(str(message["failed"]))
            if message.get("begin") == name:
                deadline = time.monotonic() + limit
            record.take(message)
            if message.get("end") == name:
                return True

    def _last_words(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read()[-4000:].decode(errors="replace").strip().splitlines()
        said = f": {lines[-1]}" if lines and ("Error" in lines[-1] or "memory" in lines[-1]) else ""
        return f"your code ended the process (exit code {code}){said}"

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *exception: object) -> None:
        kill(self.process)
        self.errors.close()
        self.folder.cleanup()


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started."""
    if os.name == "nt":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True)
    else:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


def environment(workspace: Path, only: str = "", tuned: bool = False) -> dict[str, str]:
    """The environment of a process that uses the learner's files."""
    dropped = {"TT_PLUGINS", finder.WORKSPACE, finder.ONLY, finder.TUNED, "PYTHONSTARTUP"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    kept |= {finder.WORKSPACE: str(workspace.resolve()), "PYTHONDONTWRITEBYTECODE": "1"}
    kept |= {finder.ONLY: only} if only else {}
    return kept | ({finder.TUNED: "1"} if tuned else {})
