"""Part of module 07: what the bits of a run depend on besides its state."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np

import tt_core
from tt_core.engine.plugins import manager
from tt_core.engine.threads import thread_count
from tt_learn.__about__ import __version__


def environment() -> dict[str, Any]:
    """Returns what the bits of a run depend on besides its state: versions, machine, threads and plugins' kernels.

    BLAS adds up products in another order when the number of threads changes, and so may a plugin's kernel.

    >>> list(environment())
    ['tt_core', 'tt_learn', 'numpy', 'python', 'machine', 'system', 'threads', 'kernels']
    """
    return {
        "tt_core": tt_core.__version__,
        "tt_learn": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": thread_count(),
        "kernels": _kernels(),
    }


def _kernels() -> str:
    """The active plugins that put their own functions in the place of kernels or updates, or `own` for none."""
    manager.load_pending()
    found = [each for hook in ("tt_kernel", "tt_update") for each in getattr(manager.hook, hook).get_hookimpls()]
    return " and ".join(sorted({each.plugin_name for each in found})) or "own"


def environment_changes(saved: Mapping[str, Any]) -> list[str]:
    """Returns how this environment differs from that of a checkpoint, as `threads 2 -> 4`.

    >>> environment_changes({**environment(), "machine": "abacus"})[0].startswith("machine abacus -> ")
    True
    """
    return [f"{name} {saved.get(name)} -> {here}" for name, here in environment().items() if saved.get(name) != here]
