"""What the benchmark files share: skipping what a commit has no code for, plugging plugins in, speed-ups."""

from __future__ import annotations

import atexit
import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from time import perf_counter
from typing import Any

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


def unplug() -> None:
    """Unplug what `activate` plugged in, without the reports, which would fill asv's output with tables."""
    with redirect_stderr(io.StringIO()):
        _plugged.close()


def activate(plugin: str) -> None:
    """Plug `plugin` in until the process ends; asv starts one for each combination of parameters.

    "none" plugs nothing in; a plugin that is not installed is not applicable.
    """
    with applicable():
        from tt_core import TinyTorchError, use
    try:
        _plugged.enter_context(use(*[] if plugin == "none" else [plugin]))
    except TinyTorchError as error:
        raise NotImplementedError(str(error)) from None
    atexit.register(unplug)  # runs before TinyTorch's own report, since it was registered later


def speedup(plugin: str, work: Callable[[], Any], rounds: int = 15, seconds: float = 3.0) -> float:
    """How many times as fast `work` is with `plugin`, by the shortest times of rounds in which both run once, in turn.

    No round begins after `seconds`, but for the first five.

    What else the machine does can only make a run slower, and is there for both, so the curve is steadier than that of
    a time; the one of "none" shows what noise is left. It stands here and not in `tt_perf.benchmarking` because it also
    measures commits without that module, and because a ruler must not change with what it measures.
    """
    from tt_core import use

    unplug()
    times: dict[bool, list[float]] = {False: [], True: []}
    end = perf_counter() + seconds
    for i in range(rounds):
        if i > 4 and perf_counter() > end:
            break
        for active in (i % 2 == 0, i % 2 == 1):
            names = [plugin] if active and plugin != "none" else []
            with redirect_stderr(io.StringIO()), use(*names):  # the profiler reports there when it is unplugged
                work()  # plugging in binds the ops again
                start = perf_counter()
                work()
                times[active].append(perf_counter() - start)
    return round(min(times[False]) / min(times[True]), 3)


def faster(old: Callable[[], Any], new: Callable[[], Any], rounds: int = 15) -> float:
    """How many times as fast `new` is as `old`, with the plugins that are active, by the shortest times, in turn."""
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for work, taken in zip((old, new), times):
            start = perf_counter()
            work()
            taken.append(perf_counter() - start)
    return round(min(times[0]) / min(times[1]), 3)


def normal(*shape: int) -> np.ndarray:
    """Float32 numbers that are the same at every call and commit."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def integers(high: int, *shape: int) -> np.ndarray:
    """Int64 numbers from 0 to high - 1, the same at every call and commit."""
    return np.random.default_rng(0).integers(high, size=shape)
