"""Module 14, profiling: where time and memory go, by op and by layer.

The plugin `profiler` wraps every op and every layer from outside; nothing that is measured knows of it. Times are
wall-clock seconds. *Self* time leaves out what was called inside, so the column adds up to the total; FLOPs are worked
out from shapes for products, convolutions and attention (a multiply-add counts as 2; what a mask hides counts too), and
are left blank elsewhere. *Output* is the bytes of all results, views included, not what was in memory at once.

It measures this process alone and does not see NumPy calls made outside of ops.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from time import perf_counter
from typing import Any

from tt_core.engine.dispatch import Op
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_core.layers import Layer


@dataclass
class Entry:
    """What was measured of one op, or of one type of layer; `seconds` count a layer inside one of its type once."""

    name: str
    kind: str
    calls: int = 0
    seconds: float = 0.0
    self_seconds: float = 0.0
    output_bytes: int = 0
    flops: int = 0


def _matmul_flops(inputs: tuple[Any, ...], output: Any) -> int:
    """`2 * elements of the result * length of the inner dimension`."""
    return 2 * int(prod(output.shape)) * int(inputs[0].shape[-1])


def _attention_flops(inputs: tuple[Any, ...], output: Any) -> int:
    """A product with the keys and one with the values for each query of each head."""
    query, key, value = inputs[:3]
    scores = int(prod(output.shape[:-1])) * int(key.shape[-2])
    return 2 * scores * int(query.shape[-1] + value.shape[-1])


def _attention_backward_flops(inputs: tuple[Any, ...], output: Any) -> int:
    """Twice the products of forward, and the one with the keys again where the weights were not kept."""
    g, query, key, value, kept = *inputs[:4], inputs[6]
    scores = int(prod(g.shape[:-1])) * int(key.shape[-2])
    again = 0 if prod(kept.shape) else int(query.shape[-1])
    return 2 * scores * (2 * int(query.shape[-1] + value.shape[-1]) + again)


def _conv_flops(result: Any, weight: Any) -> int:
    """One multiply-add for each element of the result and each weight of its filter, forward and backward."""
    return 2 * int(prod(result.shape)) * int(prod(weight.shape[1:]))


FLOPS: dict[str, Callable[[tuple[Any, ...], Any], int]] = {
    "matmul": _matmul_flops,
    "linear": _matmul_flops,
    "rows_product": lambda inputs, output: 2 * int(prod(output.shape)) * int(prod(inputs[0].shape[:-1])),
    "scaled_dot_product_attention": _attention_flops,
    "scaled_dot_product_attention_backward": _attention_backward_flops,
    "conv2d": lambda inputs, output: _conv_flops(output, inputs[1]),
    "conv2d_input": lambda inputs, output: _conv_flops(*inputs),
    "conv2d_weight": lambda inputs, output: _conv_flops(inputs[0], output),
}
"""FLOPs of an op from its inputs and output; add an entry for an op of your own."""


class _Stack(threading.local):
    """Seconds spent in calls inside the one that is running, one number per depth, and what is running there."""

    def __init__(self) -> None:
        self.inside: list[float] = [0.0]
        self.running: list[tuple[str, str]] = []


@dataclass(repr=False)
class Profiler:
    """Measures everything that runs while it is active.

    >>> import tt_core
    >>> with Profiler() as profiler:
    ...     _ = tt_core.Linear(2, 3)(tt_core.ones(4, 2))
    >>> [(entry.name, entry.calls, entry.flops) for entry in profiler.entries()]
    [('Linear', 1, 0), ('linear', 1, 48)]
    """

    _entries: dict[tuple[str, str], Entry] = field(default_factory=dict)
    _stack: _Stack = field(default_factory=_Stack)
    _blocks: int = 0  # how many `with` blocks it is in
    _entering: Any = field(default_factory=threading.Lock, repr=False)

    def __enter__(self) -> Profiler:
        with self._entering:
            if not self._blocks:
                manager.register(self)
            self._blocks += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._entering:
            self._blocks -= 1
            if not self._blocks:
                manager.unregister(self)

    def reset(self) -> None:
        """Forget what was measured so far."""
        self._entries.clear()

    def entries(self) -> list[Entry]:
        """What was measured, layers before ops, the most self time first."""
        return sorted(self._entries.values(), key=lambda e: (e.kind == "op", -e.self_seconds))

    @hookimpl(tryfirst=True)
    def tt_wrap_op(self, op: Op, call: Callable[..., Any]) -> Callable[..., Any]:
        return self._measured("op", op.name, call, FLOPS.get(op.name))

    @hookimpl(tryfirst=True)
    def tt_wrap_layer(self, layer_type: type[Layer], call: Callable[..., Any]) -> Callable[..., Any]:
        return self._measured("layer", layer_type.__name__, call, None)

    @hookimpl
    def tt_report(self) -> str | None:
        return str(self) if self._entries else None

    def _measured(self, kind: str, name: str, call: Callable[..., Any], flops: Any) -> Callable[..., Any]:
        stack, entries, key = self._stack, self._entries, (kind, name)

        def measured(*inputs: Any, **attributes: Any) -> Any:
            inside, running = stack.inside, stack.running
            again = key in running  # its time is part of the one around it
            running.append(key)
            inside.append(0.0)
            start = perf_counter()
            try:
                output = call(*inputs, **attributes)
            finally:
                seconds = perf_counter() - start
                children = inside.pop()
                inside[-1] += seconds
                running.pop()
            count, size = flops(inputs, output) if flops else 0, sum(tensor.nbytes for tensor in _tensors(output))
            entry = entries.get(key) or entries.setdefault(key, Entry(name, kind))
            entry.calls += 1  # from here on no calls, between which another thread could come and be lost
            entry.seconds += 0.0 if again else seconds
            entry.self_seconds += seconds - children
            entry.output_bytes += size
            entry.flops += count
            return output

        return measured

    def __str__(self) -> str:
        entries = self.entries()
        total, width = sum(e.self_seconds for e in entries) or 1.0, max([len("name"), *(len(e.name) for e in entries)])
        numbers = f"{'calls':>8} {'self s':>9} {'share':>6} {'total s':>9} {'output':>9} {'GFLOP/s':>8}"
        lines = [f"{'':5} {'name':{width}} {numbers}"]
        for e in entries:
            rate = f"{e.flops / e.self_seconds / 1e9:8.1f}" if e.flops and e.self_seconds else f"{'':8}"
            lines.append(
                f"{e.kind:5} {e.name:{width}} {e.calls:8} {e.self_seconds:9.4f} {e.self_seconds / total:6.1%} "
                f"{e.seconds:9.4f} {_size(e.output_bytes):>9} {rate}"
            )
        return "\n".join(line.rstrip() for line in lines)

    def __repr__(self) -> str:
        return str(self) if self._entries else "Profiler()"

    def _repr_html_(self) -> str:
        """What a notebook shows: the same table."""
        from tt_core.engine.notebook import table

        entries = self.entries()
        total = sum(e.self_seconds for e in entries) or 1.0
        rows = [
            (
                *(e.kind, e.name, e.calls, e.self_seconds, f"{e.self_seconds / total:.1%}", e.seconds),
                *(_size(e.output_bytes), e.flops / e.self_seconds / 1e9 if e.flops and e.self_seconds else ""),
            )
            for e in entries
        ]
        return table(("", "name", "calls", "self s", "share", "total s", "output", "GFLOP/s"), rows, "Profiler")


def _tensors(output: Any) -> Iterator[Any]:
    for part in output if isinstance(output, tuple) else (output,):
        if hasattr(part, "nbytes"):
            yield part


def _size(count: float) -> str:
    """Bytes as people read them.

    >>> _size(1536)
    '1.5 kB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError  # the loop always returns


plugin = Profiler()
"""What `use("profiler")` activates; `print(tt_perf.profiling.plugin)` shows the table."""
