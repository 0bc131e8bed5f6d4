"""Part of module 16: measured changes by a compression. A figure that was not measured is omitted, never estimated.

Bytes are those of the arrays in memory, FLOPs are counted by the profiler while the model runs on an example, seconds
are the fastest of several runs on it. Without an example there are neither FLOPs nor seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from tt_core.engine.errors import TinyTorchError
from tt_core.layers import Layer
from tt_learn.training import evaluating
from tt_perf.profiling import Profiler

MASK = "_mask"
"""What the name of a mask adds to its parameter's."""


class CompressionError(TinyTorchError, ValueError):
    """A model that cannot be made smaller in the way that was asked for, and what to change."""


@dataclass(frozen=True)
class Cost:
    """What a model takes: learned numbers, how many of them are zero, bytes, and FLOPs and seconds of one run.

    `bytes` are those of parameters and buffers, `mask_bytes` those of masks, which are kept beside them.
    """

    parameters: int
    zeros: int
    bytes: int
    mask_bytes: int
    flops: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Report:
    """What a compression changed: the cost before and after, a line for each layer, and what to know about it.

    `str()` of it is a table; `bytes_ratio` and `time_ratio` are after over before.
    """

    title: str
    before: Cost
    after: Cost
    layers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def bytes_ratio(self) -> float:
        """Bytes after over bytes before, masks left out."""
        return self.after.bytes / max(self.before.bytes, 1)

    @property
    def time_ratio(self) -> float | None:
        """Seconds after over seconds before; None without an example."""
        if self.before.seconds is None or self.after.seconds is None:
            return None
        return self.after.seconds / self.before.seconds

    @property
    def sparsity(self) -> float:
        """Share of the learned numbers that are zero now."""
        return self.after.zeros / max(self.after.parameters, 1)

    def __str__(self) -> str:
        counts = [
            _row(name, getattr(self.before, name), getattr(self.after, name), "{:,}")
            for name in ("parameters", "zeros", "bytes", "flops")
        ]
        seconds = _row("seconds", self.before.seconds, self.after.seconds, "{:.6f}")
        notes = (f"  {line}" for line in (*self.layers, *self.notes))
        return "\n".join([self.title, *counts, seconds, *notes])


def _row(name: str, before: Any, after: Any, form: str) -> str:
    if before is None or after is None:
        return f"  {name:10} not measured; pass example="
    ratio = f", {after / before:.2f}x" if before else ""
    return f"  {name:10} {form.format(before)} -> {form.format(after)}{ratio}"


def arguments(example: object) -> tuple[Any, ...]:
    """The inputs of one call: a tuple as it is, anything else as the one input.

    >>> arguments(3), arguments((1, 2))
    ((3,), (1, 2))
    """
    return example if isinstance(example, tuple) else (example,)


def cost(model: Layer, example: object = None, repeats: int = 7) -> Cost:
    """What `model` takes; with `example` (an input, or a tuple of them) FLOPs and the fastest of `repeats` runs too.

    >>> import tt_core
    >>> cost(tt_core.Linear(3, 2), tt_core.ones(4, 3)).flops
    48
    """
    parameters = list(model.parameters())
    masks = [b for name, b in model.named_buffers() if name.endswith(MASK)]
    buffers = [b for name, b in model.named_buffers() if not name.endswith(MASK)]
    numbers = sum(p.numel() for p in parameters)
    zeros = sum(int((p.data == 0).sum()) for p in parameters)
    flops = seconds = None
    if example is not None:
        flops, seconds = measured(lambda: model(*arguments(example)), model, repeats)
    size, extra = (sum(t.nbytes for t in tensors) for tensors in (parameters + buffers, masks))
    return Cost(numbers, zeros, size, extra, flops, seconds)


def measured(run: Callable[[], Any], model: Layer, repeats: int) -> tuple[int, float]:
    """FLOPs of one run and seconds of the fastest of `repeats`, with the model in evaluation."""
    with evaluating(model):
        with Profiler() as profiler:
            run()
        seconds = min(_seconds(run) for _ in range(repeats))
    return sum(entry.flops for entry in profiler.entries()), seconds


def _seconds(run: Callable[[], Any]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start
