"""The process that runs a learner's functions, seen from the judge: started, listened to, and ended."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from tt_core.command.journey import Module
from tt_core.course import finder, guard, wire
from tt_core.course.exercises import Exercise, files_of
from tt_core.course.trial import Raised, Seen

START_LIMIT = 20.0
"""Seconds until the process has imported the framework."""
MOST = 256 << 20
"""Bytes that a process may send in all."""


@dataclass
class Record:
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


class Failed(Exception):
    """The child process ended or hangs; in words."""


class Child:
    """The process that runs a learner's code, with limits on time and memory; nothing of it is left when it ends."""

    def __init__(self, module: Module, files: Mapping[str, Path], exercises: Sequence[Exercise], seed: int) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="tt-check-", ignore_cleanup_errors=True)
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        request = {
            "names": [exercise.name for exercise in exercises],
            "exercises_at": f"{module.path.partition('.')[0]}.exercises.{module.name}",
            "framework": [
                spec.origin for name in files_of(module) if (spec := importlib.util.find_spec(name)) and spec.origin
            ],
            "seed": seed,
        }
        self.process = subprocess.Popen(
            [sys.executable, str(Path(guard.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            cwd=self.folder.name,
            env=environment(Path(self.folder.name), files),
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
        total = 0
        try:
            while (head := pipe.read(8)) and len(head) == 8:
                (size,) = struct.unpack("<Q", head)
                total += size
                if size > wire.LARGEST or total > MOST:
                    break
                self.messages.put(wire.receive(pipe.read(size)))
        except (wire.BadMessage, OSError, ValueError):
            pass
        self.messages.put(None)

    def collect(self, name: str, record: Record, limit: float) -> bool:
        """Add what is sent for one exercise to `record`; True when it came to its end. Raises `Failed`."""
        deadline = time.monotonic() + START_LIMIT
        while True:
            try:
                message = self.messages.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Failed(
                    f"it did not end within {limit:.0f} seconds: is there a loop that never stops, or a slow one?"
                ) from None
            if message is None:
                raise Failed(self._last_words())
            if "failed" in message:
                raise Failed(str(message["failed"]))
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

    def __enter__(self) -> Child:
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


def environment(workspace: Path, files: Mapping[str, Path] | None = None, tuned: bool = False) -> dict[str, str]:
    """The environment of a process that uses the learner's files: `files`, or those that the workspace has in use."""
    dropped = {"TT_PLUGINS", finder.WORKSPACE, finder.FILES, finder.TUNED, "PYTHONSTARTUP"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    kept |= {finder.WORKSPACE: str(workspace.resolve()), "PYTHONDONTWRITEBYTECODE": "1"}
    if files is not None:
        kept[finder.FILES] = json.dumps({name: str(file.absolute()) for name, file in files.items()})
    return kept | ({finder.TUNED: "1"} if tuned else {})
