"""Module 15, quantization: the effect on each layer: bytes, error and measured time."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_core.layers import Layer, Linear
from tt_core.tensor.creation import from_numpy
from tt_language.embeddings import Embedding
from tt_learn.training import evaluating
from tt_perf.quantization.layers import QuantizedLayer


@dataclass(frozen=True)
class Row:
    """One layer: bytes of its parameters, signal-to-noise ratio of its weight, seconds per call at `shape`."""

    name: str
    kind: str
    bytes_before: int
    bytes_after: int
    sqnr_db: float
    shape: tuple[int, ...] | None = None
    seconds_before: float | None = None
    seconds_after: float | None = None


@dataclass(frozen=True)
class Report:
    """What `quantize_` did: a row per layer, the bytes of the whole model, and notes."""

    rows: tuple[Row, ...]
    bytes_before: int
    bytes_after: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        width = max([len("layer"), *(len(row.name) for row in self.rows)])
        lines = [f"{'layer':{width}} {'before':>14} {'after':>14} {'SQNR':>8} {'time before':>12} {'after':>9}  input"]
        lines += [
            f"{row.name:{width}} {_size(row.bytes_before):>14} {_size(row.bytes_after):>14} "
            f"{row.sqnr_db:5.1f} dB {_time(row.seconds_before):>12} {_time(row.seconds_after):>9}  "
            f"{row.shape or 'not measured'}"
            for row in self.rows
        ]
        lines.append(
            f"whole model: {_size(self.bytes_before)} before, {_size(self.bytes_after)} after "
            f"({self.bytes_after / max(1, self.bytes_before):.3f} of it)"
        )
        return "\n".join([*lines, *self.notes])


def _size(count: int) -> str:
    return f"{count:,} B"


def _time(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.3f} ms"


def sqnr(weight: Array, rounded: Array) -> float:
    """Signal to quantization noise in decibels, `10 log10(sum w^2 / sum (w - rounded)^2)`; inf without an error.

    >>> round(sqnr(np.array([1.0, 2.0]), np.array([1.0, 1.9])), 2)
    26.99
    """
    noise = float(np.square(weight - rounded, dtype=np.float64).sum())
    signal = float(np.square(weight, dtype=np.float64).sum())
    return math.inf if noise == 0 else -math.inf if signal == 0 else 10 * math.log10(signal / noise)


def nbytes(model: Layer) -> int:
    """Bytes of all parameters and buffers; what layers share counts once.

    >>> nbytes(Linear(3, 2))
    32
    """
    arrays = {id(x.data): x.data for x in (*model.parameters(), *model.buffers())}
    return sum(array.nbytes for array in arrays.values())


def digest_of(model: Layer) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of everything in the state dict.

    >>> len(digest_of(Linear(2, 1)))
    64
    """
    return digest_of_arrays({name: entry.data for name, entry in model.state_dict().items()})


def digest_of_arrays(arrays: Mapping[str, Array]) -> str:
    """The same of arrays by name."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


# --- measuring


def measured_row(name: str, layer: Any, new: QuantizedLayer, shared: tuple[bool, bool], given: Any) -> Row:
    """The row of a layer and its quantized form; `shared` says whose weight, float or stored, belongs to another row.

    Both are timed on the input `given`, unless it is None.
    """
    weight = layer.weight
    before = sum(p.nbytes for p in layer.parameters() if not (shared[0] and p is weight))
    parts = ("codes", "scale", "zero_point") if shared[1] else ()
    after = sum(p.nbytes for p in new.parameters())
    after += sum(x.nbytes for part, x in new.named_buffers() if part not in parts)
    times = (None, None) if given is None else _seconds(layer, new, given)
    shape = None if given is None else tuple(given.shape)
    return Row(name, type(layer).__name__, before, after, sqnr(weight.data, new.weight.data), shape, *times)


def usual_input(layer: Layer) -> Any:
    """One row for a Linear, one id for an Embedding, as when a text is generated; nothing for images."""
    if isinstance(layer, Linear):
        return from_numpy(np.random.default_rng(0).standard_normal((1, layer.in_features), np.float32))
    return from_numpy(np.zeros(1, np.int64)) if isinstance(layer, Embedding) else None


def _seconds(layer: Layer, new: Layer, given: Any, rounds: int = 5) -> tuple[float, float]:
    """The best time per call of each, measured in turn, so that other programs disturb both alike."""
    times: dict[Layer, list[float]] = {layer: [], new: []}
    for each in (layer, new):
        with evaluating(each):
            each(given)
    for _ in range(rounds):
        for each, found in times.items():
            with evaluating(each):
                start = time.perf_counter()
                each(given)
                found.append(time.perf_counter() - start)
    return min(times[layer]), min(times[new])


@dataclass
class _Recorder:
    """Keeps the first input of each of some layers."""

    layers: Mapping[Layer, str]
    found: dict[Layer, Any] = field(default_factory=dict)

    @hookimpl
    def tt_wrap_layer(self, layer_type: type[Layer], call: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(layer: Layer, *inputs: Any, **options: Any) -> Any:
            if layer in self.layers and inputs:
                self.found.setdefault(layer, inputs[0])
            return call(layer, *inputs, **options)

        return recorded


def inputs_of(model: Layer, example: object, layers: Mapping[Layer, str]) -> dict[Layer, Any]:
    """What each layer is given when the model is called with `example`."""
    recorder = _Recorder(layers)
    manager.register(recorder)
    try:
        with evaluating(model):
            model(*example) if isinstance(example, tuple) else model(example)
    finally:
        manager.unregister(recorder)
    return recorder.found
