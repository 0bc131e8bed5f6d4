"""Module 20, capstone: the memory that a training will need, and the memory that there is.

The estimate is a formula fitted to measured peaks of 14 shapes (1 to 8 layers, 32 to 1024 features, contexts of 16 to
1024): it meets the peaks of training steps within 15 %. It is computed before anything is allocated.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tt_core.engine.errors import TinyTorchError
from tt_language import GPTConfig

if TYPE_CHECKING:
    from tinygpt.capstone.presets import TrainConfig

_TRAINED, _SAVED = 16, 24
"""Bytes a weight: itself, its gradient and two moments; and twice what a checkpoint holds of them while it is saved."""
_READ = 16
"""Bytes of a token that is read: itself and the one to predict."""
_KEPT_SCORES = 256
"""Up to this context, attention keeps its weights for backward (`tt_language.kernels.attention`)."""


@dataclass(frozen=True)
class Needs:
    """Bytes of memory that a training takes, beside Python and the text."""

    weights: int
    """Weights, gradients and the optimizer's state."""
    saving: int
    """While a checkpoint is written, when there are no activations."""
    activations: int
    """Of one batch."""
    reading: int
    """The tokens of all batches of a step."""

    @property
    def total(self) -> int:
        return self.weights + max(self.saving, self.activations) + self.reading


def needs(config: TrainConfig, vocab_size: int) -> Needs:
    """The memory that training by `config` takes.

    >>> from tinygpt.capstone.presets import preset
    >>> needs(preset("docs"), 1024).total // 10**6
    109
    """
    width, layers = config.n_embd, config.n_layer
    weights = 12 * layers * width**2 + (vocab_size + config.block_size) * width
    floats = 16 + 2 * (config.mlp == "swiglu") + 2 * (config.dropout > 0)  # of a layer, a feature and a token
    scores = config.n_head * config.block_size if config.block_size <= _KEPT_SCORES else 0
    token = layers * (floats * width + scores) + 3 * vocab_size  # logits, their exponentials, their gradient
    activations = 4 * token * config.batch_size * config.block_size
    return Needs(_TRAINED * weights, _SAVED * weights, activations, _READ * config.tokens_per_step)


def check_memory(config: TrainConfig, vocab_size: int) -> Needs:
    """What training needs; raises `TinyTorchError` where that is more memory than there is."""
    smaller = "a smaller --n-embd, --n-layer, --vocab-size or --block-size"
    return checked(needs(config, vocab_size), config.batch_size, smaller)


def checked(wanted: Needs, batch_size: int, smaller: str) -> Needs:
    """The needs themselves; raises `TinyTorchError` where they are more memory than there is, with advice."""
    free = available_memory()
    if free is None or wanted.total <= free:
        return wanted
    room = (free - wanted.weights) * batch_size // wanted.activations
    if wanted.total - wanted.reading <= free:
        advice = "choose a smaller --accumulate or --batch-size"
    elif room >= 1 and wanted.weights + wanted.saving <= free:
        advice = f"choose a smaller --batch-size (up to {room}) or --block-size"
    else:
        advice = f"choose {smaller}"
    raise TinyTorchError(
        f"this training needs {size(wanted.total)} of memory ({size(wanted.weights)} for the weights, "
        f"{size(wanted.activations)} for a batch), and {size(free)} are free; {advice}"
    )


def tuning_needs(shape: GPTConfig, weights: int, trained: int, batch_size: int, block_size: int) -> Needs:
    """The memory that fine-tuning takes, of a model of so many `weights`, of which `trained` are trained.

    Weights that are not trained have neither gradients nor moments, and no checkpoint holds them.

    >>> from tt_language import GPTConfig
    >>> shape = GPTConfig(vocab_size=1000, block_size=64, n_layer=2, n_head=2, n_embd=64)
    >>> [tuning_needs(shape, 170_000, trained, 8, 64).weights for trained in (170_000, 5000)]
    [2720000, 740000]
    """
    floats = 16 + 2 * (shape.mlp == "swiglu") + 4 * (trained < weights)  # an adapter adds its inputs and outputs
    scores = shape.n_head * block_size if block_size <= _KEPT_SCORES else 0
    token = shape.n_layer * (floats * shape.n_embd + scores) + 3 * shape.vocab_size
    activations = 4 * token * batch_size * block_size
    return Needs(4 * weights + (_TRAINED - 4) * trained, _SAVED * trained, activations, _READ * batch_size * block_size)


def size(count: int) -> str:
    """A number of bytes for people.

    >>> size(135_000_000), size(1_500_000_000), size(10**30)
    ('135 MB', '1.5 GB', 'more than 1,000 PB')
    """
    if count >= 10**18:
        return "more than 1,000 PB"
    for unit, name in ((10**15, "PB"), (10**12, "TB"), (10**9, "GB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{max(1, round(count / 10**6))} MB"


def available_memory() -> int | None:
    """Bytes that this process can still take without swapping; None where the system does not say.

    It is the least of what the system has left, what the limits of a container leave, and `ulimit -v`.
    """
    known = [_of_the_system(), *_of_control_groups(), _of_the_process()]
    return min((found for found in known if found is not None), default=None)


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
