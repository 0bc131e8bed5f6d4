"""Part of module 20, capstone: the memory that this process can still take, on each system."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path


def size(count: int) -> str:
    """A number of bytes with a unit.

    >>> size(542), size(541_952), size(135_000_000), size(1_500_000_000), size(10**30)
    ('542 bytes', '542 kB', '135 MB', '1.5 GB', 'more than 1,000 PB')
    """
    if count >= 10**18:
        return "more than 1,000 PB"
    for power, name in ((15, "PB"), (12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
        if count >= 0.9995 * 10**power:  # 999.6 MB would be rounded to 1e+03 MB
            return f"{count / 10**power:.3g} {name}"
    return f"{count} bytes"


def available_memory() -> int | None:
    """Bytes that this process can still allocate without swapping; None where the system does not report them.

    The least of the system's free memory, what a container's limits leave, and `ulimit -v`.
    """
    known = [_of_the_system(), *_of_control_groups(), _of_the_process()]
    return min((found for found in known if found is not None), default=None)


def size_and_free(count: int) -> str:
    """A number of bytes, and how many are free, where the system reports it: "1.5 GB (3 GB are free)"."""
    free = available_memory()
    return size(count) if free is None else f"{size(count)} ({size(free)} are free)"


def _of_the_system() -> int | None:
    if sys.platform == "win32":
        return _of_windows()
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError, AttributeError):  # macOS: all memory, since it says no more than that
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _of_windows() -> int | None:
    class Status(ctypes.Structure):
        """MEMORYSTATUSEX."""

        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *(
                (name, ctypes.c_ulonglong)
                for name in ("total", "free", "pages", "free_pages", "room", "free_room", "_")
            ),
        )

    status = Status(length=ctypes.sizeof(Status))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - other systems' type stubs do not have it
    return int(status.free) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def _of_control_groups() -> list[int]:
    """What each limit on this process's control group, and those around it, leaves (Linux, containers)."""
    found = []
    for folder, limit, used in _control_groups():
        with contextlib.suppress(OSError, ValueError):  # "max" is none
            most, now = int(_read(folder / limit)), int(_read(folder / used))
            statistics = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
            found.append(max(0, most - now + int(statistics.get("inactive_file", 0))))  # a cache that makes way
    return found


def _control_groups() -> list[tuple[Path, str, str]]:
    found: list[tuple[Path, str, str]] = []
    with contextlib.suppress(OSError, ValueError):
        for line in _read(Path("/proc/self/cgroup")).splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                files = (Path("/sys/fs/cgroup"), "memory.max", "memory.current")
            elif "memory" in controllers.split(","):
                files = (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes")
            else:
                continue
            inner = Path(path.lstrip("/"))
            found += [(files[0] / part, *files[1:]) for part in (inner, *inner.parents)]
    return found


def _of_the_process() -> int | None:
    if sys.platform == "win32":
        return None
    with contextlib.suppress(OSError, ValueError, IndexError):
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            taken = int(_read(Path("/proc/self/statm")).split()[0]) * resource.getpagesize()
            return max(0, most - taken)
    return None


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace")
