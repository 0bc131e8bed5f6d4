"""Starts the process that runs a learner's functions: sets its limits, then imports the framework and their files.

Started by `judge` as a script, so that the limits hold before any code of the learner's runs, and so that a file that
does not import can be reported. Memory, the size of files, processor time and the number of processes are bounded where
the system can; writing outside the process's own folder, starting programs and using the network are refused: by an
audit hook on every system, and by Landlock on Linux 5.13 and newer, which native code cannot get around either.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
from typing import Any, BinaryIO

MEMORY = 4 << 30
"""Bytes of address space."""
FILE_SIZE = 64 << 20
CPU_SECONDS = 120
PROCESSES = 64
"""Threads count as processes."""

STARTS_PROGRAMS = {
    "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "pty.spawn",
    "os.startfile", "os.kill", "os.killpg", "signal.pthread_kill",
}  # fmt: skip
CHANGES_FILES = {
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown",
    "os.utime", "shutil.rmtree", "shutil.move", "shutil.copyfile",
}  # fmt: skip


def main() -> None:
    """Read the request, set the limits, and hand over to `child`."""
    sys.path.pop(0)  # this script's folder, whose file names are no modules
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the learner's code prints goes to standard error
    request = json.loads(sys.stdin.buffer.readline())
    os.close(0)
    folder = os.path.realpath(os.getcwd())
    limit_resources()
    confine_by_landlock(folder)
    sys.addaudithook(Refusals(folder))
    try:
        from tt_core.course import child

        exercises = child.load(request)
    except BaseException as error:  # the learner's files run when they are imported, and may raise anything
        _send_failure(channel, error)
        os._exit(0)
    child.run(channel, request, exercises)


def _send_failure(channel: BinaryIO, error: BaseException) -> None:
    """Send the one message that needs none of the framework."""
    told = str(error) if type(error).__name__ == "WorkspaceError" else f"{type(error).__name__}: {error}"
    header = json.dumps({"dict": {"failed": told}}).encode()
    body = struct.pack("<I", len(header)) + header
    channel.write(struct.pack("<Q", len(body)) + body)
    channel.flush()


class Refusals:
    """An audit hook that refuses to start programs, to use the network, and to write outside of `folder`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in STARTS_PROGRAMS:
            raise PermissionError(f"{event}: code under check cannot start programs")
        if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"):
            raise PermissionError(f"{event}: code under check cannot use the network")
        if event == "open" and _writes(arguments):
            self._allow(arguments[0], event)
        elif event in CHANGES_FILES:
            for argument in arguments[:2]:
                self._allow(argument, event)

    def _allow(self, path: Any, event: str) -> None:
        if not isinstance(path, str | bytes | os.PathLike) or (event in ("os.chmod",) and isinstance(path, int)):
            return
        target = os.path.realpath(os.fsdecode(path))
        if target != os.devnull and not target.startswith(self.folder + os.sep):
            raise PermissionError(f"{event}: code under check cannot change {target}")


def _writes(arguments: tuple[Any, ...]) -> bool:
    """Whether the event `open` asks to write: its mode is a text, or flags are given by `os.open`."""
    _, mode, flags = (*arguments, None, None)[:3]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


def limit_resources() -> None:
    """Bound memory, file sizes, processor time and processes, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = {"AS": MEMORY, "FSIZE": FILE_SIZE, "CPU": CPU_SECONDS, "CORE": 0}
    if os.getuid() != 0:  # counted for the whole user, so it is added to what runs already
        limits["NPROC"] = _running() + PROCESSES
    for name, amount in limits.items():
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (amount, amount))
        except (ValueError, OSError):  # macOS bounds no addresses
            continue


def _running() -> int:
    """How many threads the user runs now, where the system tells."""
    try:
        mine = [
            entry.path for entry in os.scandir("/proc") if entry.name.isdigit() and entry.stat().st_uid == os.getuid()
        ]
        return sum(len(os.listdir(f"{path}/task")) for path in mine)
    except OSError:
        return 4096


def confine_by_landlock(folder: str) -> bool:
    """Let Linux refuse writes outside of `folder`, and TCP connections where it can; False where it has no Landlock.

    Source: https://docs.kernel.org/userspace-api/landlock.html
    """
    if sys.platform != "linux":
        return False
    create, add_rule, restrict = 444, 445, 446
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(create, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    write = 1 << 1
    changes = write | sum(1 << bit for bit in range(4, 13 + (version >= 2) + (version >= 3)))
    attributes = struct.pack("<QQ", changes, 0b11) if version >= 4 else struct.pack("<Q", changes)
    ruleset = libc.syscall(create, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    for path, allowed in ((folder, changes), ("/dev/null", write)):
        parent = os.open(path, getattr(os, "O_PATH", 0))
        libc.syscall(add_rule, ruleset, 1, struct.pack("<Qi", allowed, parent), 0)
        os.close(parent)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    confined = libc.syscall(restrict, ruleset, 0) == 0
    os.close(ruleset)
    return bool(confined)


if __name__ == "__main__":
    main()
