"""Part of module 19: what a timing depends on besides the code; each result records it."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from tt_core.engine.plugins import available, manager
from tt_core.engine.threads import get_num_threads

_PACKAGES = ("tt-core", "tt-learn", "tt-data", "tt-language", "tt-perf", "numpy", "numba")
_VARIABLES = (
    "TT_NUM_THREADS",
    "OMP_NUM_THREADS",
    "TT_LIMIT_BLAS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TT_PLUGINS",
)


def environment() -> dict[str, Any]:
    """Processor, cores, system, Python, versions, BLAS, thread settings, active plugins, load and time, for JSON.

    No user, host or folder is named, so a result can be given to others.

    >>> sorted(environment())[:4]
    ['blas', 'cores', 'load', 'packages']
    """
    return {
        "processor": processor(),
        "cores": get_num_threads(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "blas": _blas(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "plugins": [name for name in available() if manager.has_plugin(name)],
        "load": load_per_core(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def processor() -> str:
    """The processor's name; empty where the system does not tell."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def load_per_core() -> float | None:
    """The load of the last minute per core that we may use; None where the system does not report it."""
    try:
        return round(os.getloadavg()[0] / get_num_threads(), 2)
    except (AttributeError, OSError):  # Windows, or a system without the figure
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _blas() -> str:
    config: Any = np.show_config(mode="dicts")
    blas = (config or {}).get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
