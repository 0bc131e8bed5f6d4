"""What the benchmark files share: skipping what a commit has no code for, and plugging plugins in by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np


@contextmanager
def applicable() -> Iterator[None]:
    """Turn a failed import into asv's "not applicable", so that commits before an act do not fail."""
    try:
        yield
    except ImportError as error:
        raise NotImplementedError(str(error)) from None


def plugins(*names: str) -> list[str]:
    """The curves of a benchmark: `names`, and the plugins that TT_BENCH_PLUGINS names, separated by commas."""
    more = [name.strip() for name in os.environ.get("TT_BENCH_PLUGINS", "").split(",") if name.strip()]
    return list(dict.fromkeys([*names, *more]))


_plugged = ExitStack()


def activate(plugin: str) -> None:
    """Plug `plugin` in for the rest of the process, which asv starts anew for each combination of parameters.

    "none" plugs nothing in; a plugin that is not installed is not applicable.
    """
    with applicable():
        from tt_core import TinyTorchError, use
    try:
        _plugged.enter_context(use(*[] if plugin == "none" else [plugin]))
    except TinyTorchError as error:
        raise NotImplementedError(str(error)) from None


def normal(*shape: int) -> np.ndarray:
    """Float32 numbers that are the same at every call and commit."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def integers(high: int, *shape: int) -> np.ndarray:
    """Int64 numbers from 0 to high - 1, the same at every call and commit."""
    return np.random.default_rng(0).integers(high, size=shape)
